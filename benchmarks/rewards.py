"""Does being told right or wrong teach a team, the agent upstream included? The courier (`examples/courier`): a sender
alone sees a code, a receiver must say it, and two latent positions are all that crosses.

python benchmarks/rewards.py [--seeds 0,1,2] [--steps 40] [--out rewards]

For each seed the team is trained on the answers until it says between 35% and 55% of 64 codes right that it is not
trained on. From there it goes on by GRPO, told of each sampled answer whether it is right and nothing else: once as it
is, and once with no gradient across the edge (`gradient = stop`), so that the receiver alone learns. Both see the same
rows for as many steps. Figures are of the 200 test codes, which decide nothing. What is done stays in the folder, and
is not done again; a run that was stopped goes on. Prints a table.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

import masc

COURIER = Path(__file__).parents[1] / "examples" / "courier"
WATCHED = 64
"""Rows of the training codes that say where the supervised start ends, and that nothing is trained on."""
ENOUGH = (0.35, 0.55)
CLOSED = 40
OPEN = f"open = {CLOSED}"
TEAMS = {"end to end": OPEN, "upstream gradient stopped": f"{OPEN}, gradient = stop"}


class ReachedError(Exception):
    """The start is good enough."""


def rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (COURIER / name).read_text().splitlines()]


def score(program: Any, some: list[dict[str, str]]) -> float:
    found: float = masc.evaluate(program, some, "exact", batch=32).accuracy
    return found


def team(folder: Path, edge: str) -> Path:
    """The courier's file with an edge of such options."""
    text = (COURIER / "courier.mas").read_text()
    assert text.count(OPEN) == 1
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "courier.mas"
    path.write_text(text.replace(OPEN, edge))
    return path


def start(folder: Path, seed: int) -> Path:
    """An artifact that supervised training has brought half of the way."""
    root = folder / "courier.masc"
    if (folder / "done.json").exists():
        return root
    path = team(folder, OPEN)
    program = masc.compile(path, set={"seed": seed}, device="cpu")
    told = rows("train.jsonl")
    at: list[int] = [0]
    tell = teller(f"seed {seed}, start")

    def listen(metrics: dict[str, Any]) -> None:
        at[0] = metrics["step"]
        tell(metrics)

    def evaluate(program: Any) -> dict[str, Any]:
        if at[0] < CLOSED:  # the channel is still open
            return {}
        found = score(program, told[:WATCHED])
        print(f"seed {seed}, start: {found:.1%}", flush=True)
        if found >= ENOUGH[0]:
            raise ReachedError(found)
        return {"accuracy": found}

    run: dict[str, Any] = {"directory": root, "resume": root.exists(), "save_every": 1, "keep": 1, "eval_every": 1}
    try:
        masc.train(program, told[WATCHED:], evaluate=evaluate, listen=listen, **run)
    except ReachedError as reached:
        found = reached.args[0]
        if found > ENOUGH[1]:
            raise SystemExit(f"seed {seed} is at {found:.1%}, past the start that was asked for") from None
    else:
        raise SystemExit(f"seed {seed} does not come as far as the start that was asked for")
    program.save(root, force=True)
    keep(folder / "done.json", {"watched": found, "accuracy": score(program, rows("test.jsonl"))})
    return root


def rewarded(folder: Path, begun: Path, edge: str, seed: int, settings: dict[str, Any], objective: Any) -> Any:
    """What training on a reward makes of the start; kept in `done.json`."""
    kept = folder / "done.json"
    if kept.exists():
        return json.loads(kept.read_text())
    program = masc.compile(team(folder, edge), set={"seed": seed}, device="cpu")
    root = folder / "courier.masc"
    resume = root.exists()
    told, test = rows("train.jsonl")[WATCHED:], rows("test.jsonl")
    curve: list[dict[str, Any]] = []
    began = time.perf_counter()
    masc.train(
        program,
        told,
        reward=objective,
        directory=root,
        resume=resume,
        init_from=None if resume else begun,
        listen=teller(f"{folder.name}"),
        evaluate=lambda program: {"accuracy": score(program, test[:WATCHED])},
        **settings,
    )
    for line in (root / "metrics.jsonl").read_text().splitlines():
        found = json.loads(line)
        curve.append(
            {name: found[name] for name in ("step", "reward", "reward_std", "kl", "accuracy") if name in found}
        )
    program.save(root, force=True)
    result = {"accuracy": score(program, test), "seconds": round(time.perf_counter() - began), "curve": curve}
    keep(kept, result)
    return result


def teller(name: str) -> Any:
    def tell(metrics: dict[str, Any]) -> None:
        shown = {k: metrics[k] for k in ("loss", "reward", "without_signal", "seconds") if k in metrics}
        print(f"{name}, step {metrics['step']}: " + ", ".join(f"{k} {v:.3f}" for k, v in shown.items()), flush=True)

    return tell


def keep(path: Path, found: dict[str, Any]) -> None:
    written = path.with_suffix(".part")
    written.write_text(json.dumps(found, indent=1) + "\n")
    written.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=8, help="codes in a step")
    parser.add_argument("--group", type=int, default=8, help="answers to each")
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--kl", type=float, default=0.0)
    parser.add_argument("--updates", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("rewards"))
    options = parser.parse_args()
    objective = masc.grpo("exact", group=options.group, kl=options.kl, updates=options.updates)
    settings: dict[str, Any] = {"steps": options.steps, "batch": options.batch, "rate": options.rate, "warmup": 0.05}
    settings |= {"save_every": 5, "keep": 1, "eval_every": 10}
    how = f"{options.batch}x{options.group}-{options.steps}-{options.rate:g}-{options.kl:g}-{options.updates}"
    print("| seed | supervised start | " + " | ".join(TEAMS) + " |\n| --- | ---: | ---: | ---: |")
    for seed in map(int, options.seeds.split(",")):
        place = options.out / f"seed-{seed}"
        begun = start(place / "start", seed)
        found = [json.loads((place / "start" / "done.json").read_text())]
        for name, edge in TEAMS.items():
            folder = place / f"{name.replace(' ', '-')}-{how}"
            found.append(rewarded(folder, begun, edge, seed, settings, objective))
        print(f"| {seed} | " + " | ".join(f"{one['accuracy']:.1%}" for one in found) + " |", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
