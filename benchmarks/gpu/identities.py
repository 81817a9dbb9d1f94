"""What holds of every graph, on the device: a batch equals its rows, the device equals the CPU, gradients are there and
are the CPU's, decoding equals teacher forcing, a chain equals one pass. Graphs and tiny models are those of the tests
(`tests/helpers`)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from device import Device

from masc.backends.torch.engine.recorded import Recordings
from masc.backends.torch.model import capture
from masc.backends.torch.model.prompts import answer_ids, prompt_ids

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "helpers"))
from recorders import Again

from graphs import GRAPHS
from support import ROWS, chain, make_model, make_other, make_program

FIRST = ("trace", "overlap", "hidden", "fuse", "text", "rounds")
"""One graph of each kind."""
CLOSE = {"float32": 2e-3, "bfloat16": 0.15}
"""The largest difference of logits, as a share of their largest one. That of gradients may be ten times as large."""
WIDER = {"float32": "float64", "bfloat16": "float32"}
TIMES = 8
"""Rounds of random models enlarge a rounding error up to ten thousand times. So a difference may also be so many times
what the CPU's own numbers are away from those that it computes in the wider dtype."""
STEEP = 0.05
"""Where rounding alone moves logits by more than this share, or gradients by five times as much, numbers in that dtype
say nothing: what is looked at then is whether they are finite, and which parameters have a gradient."""


Parts = Iterator[tuple[str, Callable[[], Mapping[str, Any]]]]


def first(device: Device, toy: bool) -> Parts:
    """One pass, and a graph of each kind in float32, by name. toy: a single graph."""
    yield "a chain is one pass", lambda: one_pass(device)
    yield from _of(device, ["rounds"] if toy else FIRST, "float32")


def further(device: Device, toy: bool) -> Parts:
    """The other graphs, and all of them in bfloat16. toy: a single graph."""
    others = [name for name in GRAPHS if name not in FIRST]
    yield from _of(device, ["text"] if toy else FIRST, "bfloat16")
    yield from _of(device, [] if toy else others, "float32")
    yield from _of(device, [] if toy else others, "bfloat16")


def _of(device: Device, names: Sequence[str], dtype: str) -> Parts:
    for name in names:
        yield f"{name}, {dtype}", partial(of_graph, device, name, dtype)


def tiny(device: Device) -> Path:
    """A folder with the tests' tiny model, and the other one beside it."""
    model = device.folder / "tiny"
    if not model.exists():
        make_other(device.folder / "other")
        make_model(model)
    return model


def off(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference, as a share of the largest number."""
    one, other = one.detach().double().cpu(), other.detach().double().cpu()
    return float((one - other).abs().max() / other.abs().max().clamp_min(1e-9))


def of_graph(device: Device, name: str, dtype: str) -> dict[str, Any]:
    """All that holds of a graph, and what does not by name (`wrong`)."""
    folder = tiny(device)
    places = ((device.name, dtype), ("cpu", dtype), ("cpu", WIDER[dtype]))
    here, there, true = (make_program(GRAPHS[name], folder, dtype=kind, device=place) for place, kind in places)
    found: dict[str, Any] = {}
    with torch.no_grad():
        whole = here(ROWS)
        found["batch"] = max(
            off(whole.outputs[output].logits[i, : scored.labels.shape[1]], scored.logits[0])
            for i, row in enumerate(ROWS)
            for output, scored in here([row]).outputs.items()
        )
        alone = len(here.plan.outputs) == 1
        found["decoding"], own = (_decoding(program) if alone else 0.0 for program in (here, there))
    gradients, logits = zip(*(_gradients(program) for program in (here, there, true)), strict=True)
    found["CPU"] = off(logits[0], logits[1])
    found["gradients"] = _apart(gradients[0], gradients[1])
    found["recorded"] = max(_recorded(here, gradients[0], recompute) for recompute in (False, True))
    found["rounding"] = off(logits[1], logits[2])
    found["rounding of gradients"] = _apart(gradients[1], gradients[2])
    found["steep"] = found["rounding"] > STEEP or found["rounding of gradients"] > 5 * STEEP
    limit = max(CLOSE[dtype], TIMES * found["rounding"])
    steep = max(10 * CLOSE[dtype], TIMES * found["rounding of gradients"])
    limits = {"batch": limit, "CPU": limit, "decoding": max(limit, TIMES * own), "gradients": steep, "recorded": steep}
    wrong = [what for what, most in limits.items() if not found[what] <= (float("inf") if found["steep"] else most)]
    if gradients[0].keys() != gradients[1].keys():
        wrong.append("gradients reach other parameters")
    if dtype == "float32":
        capture.WORTH = 1  # also of short answers
        said = here.generate(ROWS)
        wrong += ["answers"] * (said != there.generate(ROWS))
        wrong += ["answers of the exact engine"] * (said != here.generate(ROWS, engine="exact"))
    return {**found, "wrong": wrong}


def _apart(some: Mapping[str, torch.Tensor], others: Mapping[str, torch.Tensor]) -> float:
    """How far gradients are off, by the parameter that is worst, of those that both have: the length of the difference,
    as a share of its gradient's."""
    pairs = [(some[name].double().cpu(), others[name].double().cpu()) for name in some.keys() & others.keys()]
    return max((float((one - other).norm() / other.norm().clamp_min(1e-9)) for one, other in pairs), default=0.0)


def _decoding(program: Any) -> float:
    """The largest difference, in nats a token, of what decoding and a teacher-forced pass give what was decoded."""
    said = zip(ROWS, (one[program.plan.outputs[0]] for one in program.say(ROWS)), strict=True)
    return max(float(abs(_forced(program, row, one) - one.logprob) / one.scored) for row, one in said)


def _gradients(program: Any, recompute: bool = False) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """By parameter, where there is one that is not zero; and the logits."""
    for parameter in program.trainable().values():
        parameter.grad = None
    out = program(ROWS, recompute=recompute)
    out.loss.backward()
    grads = {name: p.grad for name, p in program.trainable().items() if p.grad is not None}
    return {name: grad.clone() for name, grad in grads.items() if bool(grad.any())}, out.logits


def _recorded(program: Any, plain: Mapping[str, torch.Tensor], recompute: bool) -> float:
    """How far gradients are off that are computed by activations which have been recorded, as in training."""
    recordings = Recordings.on(program.device) or Recordings(Again)
    with program.holding(recordings=recordings):
        *_, (found, _) = (_gradients(program, recompute) for _ in range(3))
    if found.keys() != plain.keys():
        return float("inf")
    return _apart(found, plain)


def _forced(program: Any, row: Mapping[str, Any], said: Any) -> float:
    """The log-probability, in nats, that a teacher-forced pass gives to what was decoded."""
    module: Any = sys.modules["masc.backends.torch.engine.walk"]
    known = module.answer_ids
    module.answer_ids = lambda base, text: [*said.ids, base.end_of_turn]
    try:
        losses = next(iter(program([row], texts=False).outputs.values())).losses
    finally:
        module.answer_ids = known
    return -float(losses[0, : said.scored].sum())


def one_pass(device: Device) -> dict[str, Any]:
    """Agents without latents and adapters that see all before them are one pass over all prompts."""
    program = make_program(chain(*((n, 0, "norm") for n in "abcd"), adapt="none"), tiny(device), device=device.name)
    base, worst = program.base("a"), 0.0
    with torch.no_grad():
        out = program(ROWS)
        for i, row in enumerate(ROWS):
            ids = [token for agent in program.plan.agents for token in prompt_ids(base, agent, row, i)]
            answer = answer_ids(base, row["answer"])
            plain = base.model(torch.tensor([ids + answer], device=device.name)).logits[0, len(ids) - 1 : -1]
            worst = max(worst, off(out.logits[i, : len(answer)], plain))
    return {"chain": worst, "wrong": ["chain"] * (not worst <= CLOSE["float32"])}
