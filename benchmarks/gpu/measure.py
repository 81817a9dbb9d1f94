"""masc on a GPU that is at hand for minutes: `python benchmarks/gpu/measure.py --json gpu.json` (see README.md).

Parts run in the order of their importance, and each is printed and kept as soon as it is there. Called again with the
same file, it goes on with what is missing; a part that failed is tried again. `--toy` runs everything at toy size on
the CPU.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import identities
import loads
import torch
import transformers
from device import Device
from figures import Team
from figures import parts as figures
from random_models import QWEN3_06B, QWEN3_8B, TOY_QWEN3, Shape

from masc.version import __version__

CEILINGS = "ceilings"
"""The part without which others say nothing."""


@dataclass
class Parts:
    """What is found, in a file. seconds: after so many no new part begins."""

    path: Path | None
    found: dict[str, dict[str, Any]]
    only: str
    seconds: float
    began: float

    def missing(self, name: str) -> bool:
        """Whether a part is to be run now."""
        known = self.found.get(name)
        wanted = name == CEILINGS or self.only in name
        return wanted and (known is None or "failed" in known) and time.monotonic() - self.began < self.seconds

    def run(self, name: str, part: Callable[[], Mapping[str, Any]]) -> None:
        """Run, print and keep a part. One that fails is told, and the next one is run."""
        if not self.missing(name):
            return
        began = time.monotonic()
        try:
            self.found[name] = dict(part())
        except Exception as error:
            traceback.print_exc()
            self.found[name] = {"failed": f"{type(error).__name__}: {error}"[:300]}
        print(f"{name}: {shown(self.found[name])} [{time.monotonic() - began:.0f} s]", flush=True)
        self.keep()

    def keep(self) -> None:
        if self.path is None:
            return
        part = self.path.with_name(self.path.name + ".part")
        part.write_text(json.dumps(self.found, indent=1) + "\n", encoding="utf-8")
        part.replace(self.path)


def shown(found: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in found.items()
    )


def measure(parts: Parts, device: Device, shapes: Mapping[str, Shape], toy: bool) -> None:
    """All parts, the most important ones first."""
    setting = {
        "card": device.card,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "masc": __version__,
    }
    if parts.found.setdefault("setting", setting) != setting:
        raise SystemExit(f"the file is of {parts.found['setting']}, not of {setting}: choose another --json")
    print(shown(setting), flush=True)
    parts.run(CEILINGS, lambda: {"bandwidth": device.bandwidth(), "rate": device.rate()})
    for name, part in identities.first(device, toy):
        parts.run(f"identity: {name}", part)
    if "rate" in parts.found.get(CEILINGS, {}):
        for name, shape in shapes.items():
            team_parts(parts, device, name, shape, figures(parts.found[CEILINGS]))
    for name, part in identities.further(device, toy):
        parts.run(f"identity: {name}", part)
    for name, part in loads.proofs(device, toy):
        parts.run(f"proof: {name}", part)
    name, shape = next(iter(shapes.items()))
    for held, part in loads.fits(device, shape, toy):
        parts.run(f"{name}: {held}", part)
    if "rate" in parts.found.get(CEILINGS, {}):
        for name, shape in shapes.items():
            team_parts(parts, device, name, shape, [("launched a token, batch 1", lambda team: team.launched(1))])


def team_parts(
    parts: Parts,
    device: Device,
    model: str,
    shape: Shape,
    wanted: Iterable[tuple[str, Callable[[Team], Mapping[str, Any]]]],
) -> None:
    """The parts of one team; it is made where one of them is missing, and its memory is given back."""
    team: list[Team] = []

    def with_team(part: Callable[[Team], Mapping[str, Any]]) -> Callable[[], Mapping[str, Any]]:
        def run() -> Mapping[str, Any]:
            if not team:
                team.append(Team(device, shape, 3 if device.cuda else 2))
            return part(team[0])

        return run

    for name, part in wanted:
        parts.run(f"{model}: {name}", with_team(part))
    for one in team:
        one.close()


def table(found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The figures as a table in Markdown, with the card's name, and what does not hold."""
    columns = ("masc, ms", "plain, ms", "floor, ms", "masc / plain", "floor / masc", "masc, GB", "plain, GB")
    yield f"| {' | '.join([found['setting']['card'], *columns])} |"
    yield "| --- " * (1 + len(columns)) + "|"
    for name, one in found.items():
        if "masc, ms" in one:
            cells = [f"{one[column]:.3g}" if column in one else "" for column in columns]
            yield f"| {' | '.join([name, *cells])} |"
    held = {name: one for name, one in found.items() if "wrong" in one or "failed" in one}
    wrong = [f"{name}: {one.get('failed') or one['wrong']}" for name, one in held.items() if one.get("wrong", True)]
    if held:
        yield f"\n{len(held) - len(wrong)} of {len(held)} identities and loads hold"
        yield from (f"- {line}" for line in wrong)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where what is found is kept, and what is there is not run again")
    parser.add_argument("--only", default="", help="parts whose name holds this, and the ceilings")
    parser.add_argument("--seconds", type=float, default=540, help="begin no new part after so many (540)")
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--toy", action="store_true", help="tiny models on the CPU: whether the script runs, no figures"
    )
    options = parser.parse_args()
    began = time.monotonic()
    name = "cpu" if options.toy else options.device
    if name != "cpu" and not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here; --toy tries the script on the CPU")
    warnings.simplefilter("ignore")
    warnings.filterwarnings("always", message="what runs on the GPU could not be recorded")
    transformers.utils.logging.disable_progress_bar()
    known = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    parts = Parts(options.json, known, options.only, options.seconds, began)
    shapes = {"toy": TOY_QWEN3} if options.toy else {"8B": QWEN3_8B, "0.6B": QWEN3_06B}
    with tempfile.TemporaryDirectory() as folder:
        measure(parts, Device(name, Path(folder)), shapes, options.toy)
    print("\n" + "\n".join(table(parts.found)))


if __name__ == "__main__":
    main()
