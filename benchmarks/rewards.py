"""Does being told right or wrong teach a team, the agent upstream included? The courier (`examples/courier`): a sender
alone sees a code, a receiver must say it, and two latent positions are all that crosses.

python benchmarks/rewards.py [--on smollm2-135m|meeting|words|tiny] [--seeds 0,1,2] [--steps 30] [--device cpu]
    [--out rewards]

For each seed the team is trained on the answers until it says between 40% and 60% of some codes right. From there it
goes on by GRPO, told of each sampled answer whether it is right and nothing else: once as it is, and once with no
gradient across the edge (`gradient = stop`), so that the receiver alone learns. Both see the same rows for as many
steps. What is done stays in the folder, and is not done again; a run that was stopped goes on. Prints a table.

On SmolLM2 the codes are those of the example: 64 of those to train on say where the start ends and are not trained on,
and the figures are of the 200 test codes, which decide nothing. `--on meeting`: the hidden profile of
`examples/meeting` on the same model, where eight latents must carry four months, and a guess is right in one of four;
otherwise the same. `--on words`: that profile again, but what crosses is what the sender says, 24 tokens that are
sampled while the reward is trained on; the start trains the receiver alone, for nothing tells the sender what to say,
and in place of a stopped gradient the sender stays as it is. `--on tiny`: a random model of three layers, 64 wide, a
token a byte, frozen but for adapters; 64 codes of two letters, all of which are trained on and scored: whether a code
crosses, not whether it does so for codes never seen.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import masc

sys.path.append(str(Path(__file__).parents[1] / "tests" / "helpers"))

from support import make_model

COURIER, MEETING = (Path(__file__).parents[1] / "examples" / name for name in ("courier", "meeting"))
LOW, HIGH = 0.40, 0.60
"""How many codes the start says right."""
TINY = """mas 1

model tiny = "model"

agent sender on tiny {
  user  "Code {code}"
  think 2 (align = norm)
  adapt lora(rank = 16, alpha = 32)
}

agent receiver on tiny {
  user   "?"
  adapt  lora(rank = 16, alpha = 32)
  answer (max_tokens = 3)
}

graph courier(code) -> answer {
  sender -> receiver : kv(carry = latents, open = 20)
}

train { answer <- answer batch 32 steps 100 rate 3e-3 warmup 0.05 }
"""
WORDS = """mas 1

model small = "smollm2-135m"

agent left on small {
  system "Repeat the list of months, word for word."
  user   "{ann}"
  adapt  lora(rank = 16, alpha = 32)
  answer (max_tokens = 24, temperature = 0)
}

agent right on small {
  system "Say the one month that suits both."
  user   "Ann can come in {left}. Bob can come in {bob}. Which month suits both Ann and Bob?"
  adapt  lora(rank = 16, alpha = 32)
  answer (max_tokens = 6)
}

graph meeting(ann, bob) -> answer {
  left -> right : text
}

train { answer <- answer batch 16 steps 60 rate 7e-4 warmup 0.1 }
"""
STOPPED = "upstream gradient stopped"
Rows = list[dict[str, str]]


@dataclass(frozen=True)
class Team:
    """source: of the team as it starts and is scored; told: the rows that are trained on; watched: those that say where
    the start ends, but not in the first `blind` steps; every: steps between looks at them; test: those that are scored;
    ways: how it goes on, what stands in the source instead of `begun` by the name of each."""

    source: str
    begun: str
    told: Rows
    watched: Rows
    blind: int
    every: int
    test: Rows
    ways: dict[str, str]


def latent(source: str, closed: int, told: Rows, watched: Rows, every: int, test: Rows) -> Team:
    """A team whose edge opens the channel for so many steps at first."""
    begun = f"open = {closed}"
    ways = {"end to end": begun, STOPPED: f"{begun}, gradient = stop"}
    return Team(source, begun, told, watched, closed // 4, every, test, ways)


def courier() -> Team:
    told, test = ([json.loads(line) for line in (COURIER / name).open()] for name in ("train.jsonl", "test.jsonl"))
    return latent((COURIER / "courier.mas").read_text(), 40, told[64:], told[:64], 1, test)


def tiny() -> Team:
    codes = [first + second for first in "abcdefgh" for second in "abcdefgh"]
    rows = [{"code": code, "answer": code} for code in codes]
    return latent(TINY, 20, rows, rows, 2, rows)


def meeting() -> Team:
    """Of which the latents alone cross."""
    told, test = ([json.loads(line) for line in (MEETING / name).open()] for name in ("train.jsonl", "test.jsonl"))
    source = (MEETING / "meeting.mas").read_text().replace('carry: text = "trace"', 'carry: text = "latents"')
    return latent(source.replace("open = open", "open = 40"), 40, told[64:], told[:64], 1, test)


def words() -> Team:
    """The meeting's, of which what the sender says crosses: sampled, a reward reaches it."""
    rows = meeting()
    ways = {"end to end": "temperature = 1", "the sender left as it is": "temperature = 0"}
    return Team(WORDS, "temperature = 0", rows.told, rows.watched, 0, 2, rows.test, ways)


ON: dict[str, Callable[[], Team]] = {"smollm2-135m": courier, "meeting": meeting, "words": words, "tiny": tiny}


class ReachedError(Exception):
    """The start is good enough."""


def score(program: Any, some: Rows) -> float:
    found: float = masc.evaluate(program, some, "exact", batch=64).accuracy
    return found


def written(team: Team, folder: Path, way: str) -> Path:
    """The team's file as it goes on in that way, beside its model."""
    assert team.source.count(team.begun) == 1
    folder.mkdir(parents=True, exist_ok=True)
    if "tiny" in team.source and not (folder / "model" / "config.json").exists():
        shape: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16, "num_key_value_heads": 4}
        make_model(folder / "model", template=None, **shape)
    path = folder / "courier.mas"
    path.write_text(team.source.replace(team.begun, way))
    return path


def start(team: Team, folder: Path, seed: int, device: str) -> Path:
    """An artifact that supervised training has brought half of the way."""
    root = folder / "courier.masc"
    if (folder / "done.json").exists():
        return root
    program = masc.compile(written(team, folder, team.begun), set={"seed": seed}, device=device)
    at = [0]
    tell = teller(f"seed {seed}, start")

    def listen(metrics: dict[str, Any]) -> None:
        at[0] = metrics["step"]
        tell(metrics)

    def evaluate(program: Any) -> dict[str, Any]:
        if at[0] < team.blind:  # scored with the channel closed, however far training has it open
            return {}
        found = score(program, team.watched)
        print(f"seed {seed}, start, step {at[0]}: {found:.1%}", flush=True)
        if found >= LOW:
            raise ReachedError(found)
        return {"accuracy": found}

    run: dict[str, Any] = {"directory": root, "resume": root.exists(), "keep": 1}
    try:
        masc.train(
            program, team.told, evaluate=evaluate, listen=listen, save_every=team.every, eval_every=team.every, **run
        )
    except ReachedError as reached:
        found = reached.args[0]
        if found > HIGH:
            raise SystemExit(f"seed {seed} is at {found:.1%}, past the start that was asked for") from None
    else:
        raise SystemExit(f"seed {seed} does not come as far as the start that was asked for")
    program.save(root, force=True)
    keep(folder / "done.json", {"watched": found, "accuracy": score(program, team.test), "step": at[0]})
    return root


def rewarded(
    team: Team, folder: Path, begun: Path, way: str, seed: int, settings: dict[str, Any], objective: Any, device: str
) -> Any:
    """What training on a reward makes of the start; kept in `done.json`."""
    kept = folder / "done.json"
    if kept.exists():
        return json.loads(kept.read_text())
    program = masc.compile(written(team, folder, way), set={"seed": seed}, device=device)
    root = folder / "courier.masc"
    resume = root.exists()
    began = time.perf_counter()

    def evaluate(program: Any) -> dict[str, Any]:
        found = score(program, team.test[:64])
        print(f"{folder.name}: {found:.1%}", flush=True)
        return {"accuracy": found}

    masc.train(
        program,
        team.told,
        reward=objective,
        directory=root,
        resume=resume,
        init_from=None if resume else begun,
        listen=teller(folder.name),
        evaluate=evaluate,
        **settings,
    )
    lines = [json.loads(line) for line in (root / "metrics.jsonl").read_text().splitlines()]
    told = ("step", "reward", "reward_std", "without_signal", "kl", "accuracy")
    curve = [{name: line[name] for name in told if name in line} for line in lines]
    program.save(root, force=True)
    scored = masc.load(written(team, folder / "scored", team.begun), weights=root, device=device)
    result = {"accuracy": score(scored, team.test), "seconds": round(time.perf_counter() - began), "curve": curve}
    keep(kept, result)
    return result


def teller(name: str) -> Callable[[dict[str, Any]], None]:
    def tell(metrics: dict[str, Any]) -> None:
        shown = {k: metrics[k] for k in ("loss", "reward", "without_signal", "seconds") if k in metrics}
        print(f"{name}, step {metrics['step']}: " + ", ".join(f"{k} {v:.3f}" for k, v in shown.items()), flush=True)

    return tell


def keep(path: Path, found: dict[str, Any]) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(found, indent=1) + "\n")
    part.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--on", choices=ON, default="smollm2-135m")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch", type=int, default=16, help="codes in a step")
    parser.add_argument("--group", type=int, default=16, help="answers to each")
    parser.add_argument("--rate", type=float, default=4e-4)
    parser.add_argument("--kl", type=float, default=0.0)
    parser.add_argument("--updates", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("rewards"))
    options = parser.parse_args()
    team = ON[options.on]()
    objective = masc.grpo("exact", group=options.group, kl=options.kl, updates=options.updates)
    settings: dict[str, Any] = {"steps": options.steps, "batch": options.batch, "rate": options.rate, "warmup": 0.05}
    settings |= {"save_every": 5, "keep": 1, "eval_every": 10}
    how = f"{options.batch}x{options.group}-{options.steps}-{options.rate:g}-{options.kl:g}-{options.updates}"
    print("| seed | supervised start | " + " | ".join(team.ways) + " |\n| --- | ---: | ---: | ---: |")
    for seed in map(int, options.seeds.split(",")):
        place = options.out / options.on / f"seed-{seed}"
        begun = start(team, place / "start", seed, options.device)
        found = [json.loads((place / "start" / "done.json").read_text())]
        for name, way in team.ways.items():
            folder = place / f"{name.replace(' ', '-')}-{how}"
            found.append(rewarded(team, folder, begun, way, seed, settings, objective, options.device))
        print(f"| {seed} | " + " | ".join(f"{one['accuracy']:.1%}" for one in found) + " |", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
