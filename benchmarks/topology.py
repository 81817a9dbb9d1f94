"""Does training find out which edges are of use? A planted team: six agents hold a letter each, and all are linked to a
reader by edges with gates. Two of the letters, in their order, are what the reader is asked for; the others are drawn
at random.

python benchmarks/topology.py [--seeds 0,1,2] [--steps 160] [--sparsity 0.3] [--out planted]

For each seed the team is trained, evaluated on pairs of letters that were never trained on, pruned (`masc prune`) and
evaluated again. The model is a tiny random one that stays frozen but for adapters (three layers, 64 wide, a token a
byte), so that a seed takes minutes on one core. What is done stays in the folder, and is not done again; a run that was
stopped goes on. Prints a table.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import torch

import masc
from masc.session.pruning import prune

sys.path.append(str(Path(__file__).parents[1] / "tests" / "helpers"))

from support import make_model

NAMES = ("ash", "birch", "cedar", "fir", "oak", "pine")
VITAL = ("birch", "oak")
LETTERS = "abcdefgh"
HELD_OUT = 16
"""Of the 64 pairs of letters."""


def source(steps: int, sparsity: float) -> str:
    """The team. All prompts are equally long, so that nobody starts elsewhere when another one goes."""
    lines = ["mas 1", 'model tiny = "model"']
    for name in NAMES:
        lines.append(
            f'agent {name} on tiny {{ user "{name[0].upper()}{{{name}_has}}" adapt lora(rank = 16, alpha = 32) }}'
        )
    lines.append('agent reader on tiny { user "?" adapt lora(rank = 16, alpha = 32) answer (max_tokens = 4) }')
    inputs = ", ".join(f"{name}_has" for name in NAMES)
    edge = f"[{', '.join(NAMES)}] -> reader : kv(carry = own, gate = learned)"
    lines.append(f"graph planted({inputs}) -> answer {{ {edge} }}")
    settings = f"batch 64 steps {steps} rate 3e-3 warmup 0.05 sparsity {sparsity} save_every 50"
    return "\n".join([*lines, f"train {{ answer <- answer {settings} }}", ""])


def rows(seed: int) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Rows to train on, and rows whose pairs of letters are in none of those."""
    drawn = random.Random(seed)
    pairs = [(first, second) for first in LETTERS for second in LETTERS]
    drawn.shuffle(pairs)

    def row(pair: tuple[str, str]) -> dict[str, str]:
        held = {f"{name}_has": drawn.choice(LETTERS) for name in NAMES}
        return (
            held | {f"{name}_has": letter for name, letter in zip(VITAL, pair, strict=True)} | {"answer": "".join(pair)}
        )

    return [row(p) for _ in range(20) for p in pairs[HELD_OUT:]], [row(p) for _ in range(4) for p in pairs[:HELD_OUT]]


def score(program: Any, test: list[dict[str, str]]) -> dict[str, float]:
    """Accuracy (exact), and nats a token of the right answers."""
    report = masc.evaluate(program, test, "exact", batch=HELD_OUT)
    with torch.no_grad():
        losses = [float(program(test[i : i + HELD_OUT]).loss) for i in range(0, len(test), HELD_OUT)]
    return {"accuracy": report.accuracy, "loss": sum(losses) / len(losses)}


def run(folder: Path, seed: int, steps: int, sparsity: float) -> dict[str, Any]:
    """Train, evaluate, prune and evaluate again; kept in `done.json`."""
    place = folder / f"seed-{seed}-{steps}-{sparsity:g}"
    kept = place / "done.json"
    if kept.exists():
        found: dict[str, Any] = json.loads(kept.read_text())
        return found
    place.mkdir(parents=True, exist_ok=True)
    if not (place / "model" / "config.json").exists():
        shape: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16, "num_key_value_heads": 4}
        make_model(place / "model", template=None, **shape)
    (place / "planted.mas").write_text(source(steps, sparsity))
    train, test = rows(seed)
    program = masc.compile(place / "planted.mas", set={"seed": seed}, device="cpu")
    root = place / "planted.masc"

    def tell(metrics: dict[str, Any]) -> None:
        if metrics["step"] % 25 == 0:
            gates = " ".join(f"{name[3:].split(',')[0]} {value:.2f}" for name, value in metrics["gates"].items())
            print(f"seed {seed}, step {metrics['step']}: loss {metrics['loss']:.3f}, {gates}", flush=True)

    began = time.perf_counter()
    masc.train(program, train, directory=root, resume=root.exists(), listen=tell)
    seconds = time.perf_counter() - began
    program.save(root)
    whole = score(program, test)
    for path in (place / "planted-pruned.mas",):  # of a run that was stopped behind it
        path.unlink(missing_ok=True)
    done = prune(root)
    pruned = masc.load(done.artifact, device="cpu")
    result = {
        "seed": seed,
        "gates": program.openness(),
        "left_out": done.left_out,
        "moved": done.moved,
        "whole": whole,
        "pruned": score(pruned, test),
        "cut": {name: score(masc.load(root, device="cpu", cut=(name, "reader")), test) for name in VITAL},
        "seconds": round(seconds),
    }
    kept.write_text(json.dumps(result, indent=1) + "\n")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--sparsity", type=float, default=0.3)
    parser.add_argument("--out", type=Path, default=Path("planted"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = [run(options.out, int(seed), options.steps, options.sparsity) for seed in options.seeds.split(",")]
    print("| seed | birch, oak | ash, cedar, fir, pine | left out | accuracy | pruned | loss | pruned |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for one in found:
        shown = {name: f"{one['gates'][f'kv({name}, reader)']:.2f}" for name in NAMES}
        vital = ", ".join(shown[name] for name in VITAL)
        idle = ", ".join(shown[name] for name in NAMES if name not in VITAL)
        scores = [f"{one[which]['accuracy']:.1%}" for which in ("whole", "pruned")]
        scores += [f"{one[which]['loss']:.4f}" for which in ("whole", "pruned")]
        print(f"| {one['seed']} | {vital} | {idle} | {', '.join(one['left_out'])} | {' | '.join(scores)} |")
    for one in found:
        cuts = ", ".join(f"{name} {cut['accuracy']:.1%}" for name, cut in one["cut"].items())
        print(f"seed {one['seed']}: {one['seconds']} s; with an edge cut: {cuts}")


if __name__ == "__main__":
    main()
