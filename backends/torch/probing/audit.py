"""What each edge of a trained team carries: what happens to the answers when it is cut, when it brings another sample's
content, noise, or reaches some layers only; how much it is attended to; how much gradient crosses it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from masc.backends.scoring.registry import Function, Scorer, scorer_of
from masc.backends.torch.data.check import answer_columns, check_output
from masc.backends.torch.data.values import Row
from masc.backends.torch.engine.probe import Probe
from masc.backends.torch.evaluation.evaluate import answer_losses, say_all
from masc.backends.torch.evaluation.statistics import paired_bootstrap
from masc.backends.torch.model.prompts import value
from masc.backends.torch.probing.found import Audit, EdgeAudit, Interval, Outcome
from masc.backends.torch.program import Program
from masc.compiler.analysis.decoding import AS_WRITTEN, Decoding
from masc.compiler.channels import CHANNELS
from masc.compiler.ir.plan import Plan
from masc.dsl.diagnostics import fail

FLOOR = 1e-3
"""Nats a row below which a loss is taken for rounding."""


@dataclass(frozen=True)
class _Measured:
    right: list[float]
    likelihood: list[float]


def audit(
    program: Program,
    edges: Sequence[tuple[str, str, tuple[str, ...], Plan]],
    rows: Sequence[Row],
    scorer: str | Function = "exact",
    *,
    batch: int = 16,
    watched: int = 16,
    output: str | None = None,
    decoding: Decoding = AS_WRITTEN,
    tick: Callable[[str], None] | None = None,
) -> Audit:
    """Audit edges (sender, receiver, kinds, the plan with the edge cut) of a program on rows with gold answers.

    output: the output whose answers count (None: all of them together, of which each must be right). At least two rows,
    which exchange their content. decoding: of the outputs, where it is not the graph's. watched: how many rows
    attention and gradients are taken of, one by one. tick: called before each measurement with what it is. Errors:
    E0605 too few rows; E0611 the code scorer, or no such output."""
    if len(rows) < 2:
        raise fail("E0605", "an audit needs at least two rows: they exchange what they send")
    if batch < 2:
        raise ValueError("an audit needs batches of at least two rows: they exchange what they send")
    for sender, receiver, kinds, _ in edges:
        if program.base(receiver).recurrent is not None and any(CHANNELS[kind].cached for kind in kinds):
            message = f"the edge {sender} -> {receiver} cannot be audited: what crosses is a state that is whole or not"
            raise fail("E0523", message, hint="`masc eval --cut` tells what it is worth")
    how = scorer_of(scorer, code=False)
    outputs = program.plan.outputs if output is None else (output,)
    check_output(program.plan, outputs[0])
    say = tick or (lambda _: None)
    program.eval()
    say("as it is")
    whole = _measure(program, rows, how, batch, outputs, None, decoding)
    found = []
    for sender, receiver, kinds, cut in edges:
        outcomes: dict[str, Outcome] = {}
        for name, probe in _probes(program, receiver, kinds, cut):
            say(f"{sender} -> {receiver}: {name}")
            outcomes[name] = _outcome(whole, _measure(program, rows, how, batch, outputs, probe, decoding))
        say(f"{sender} -> {receiver}: attention and gradient")
        attention, by_layer, gradient = _watch(program, rows[:watched], receiver, outputs, cut)
        lost, _, high = outcomes["swap"].log_likelihood_change
        carries = -lost if -high > FLOOR else 0.0  # not where the interval is NaN
        edge = EdgeAudit(sender, receiver, kinds, outcomes, attention, by_layer, gradient, carries)
        found.append(edge)
    return Audit(len(rows), _mean(whole.right), _mean(whole.likelihood), min(watched, len(rows)), tuple(found))


def conditions(program: Program, sender: str, receiver: str, kinds: Sequence[str]) -> list[str]:
    """Under which conditions an edge is measured."""
    return [name for name, _ in _probes(program, receiver, kinds, program.plan)]


def _probes(program: Program, receiver: str, kinds: Sequence[str], cut: Plan) -> Iterator[tuple[str, Probe | Plan]]:
    """Every condition of an edge: noise has no meaning for words, layers none for what stands in a prompt."""
    yield "cut", cut
    yield "swap", Probe(cut, "swap")
    if not all(CHANNELS[kind].words for kind in kinds):
        yield "noise", Probe(cut, "noise")
    if any(CHANNELS[kind].cached for kind in kinds):
        count = program.base(receiver).caches
        for first, last in thirds(count):
            yield f"layers {first}..{last}", Probe(cut, "layers", layers=(first, last))


def thirds(count: int) -> list[tuple[int, int]]:
    """The lower, middle and upper layers, inclusive; fewer parts where there are fewer layers."""
    ends = sorted({math.ceil(count * part / 3) for part in (1, 2, 3)})
    return [(first, last - 1) for first, last in zip([0, *ends], ends, strict=False)]


def _measure(
    program: Program,
    rows: Sequence[Row],
    scorer: Scorer,
    batch: int,
    outputs: Sequence[str],
    how: Probe | Plan | None,
    decoding: Decoding,
) -> _Measured:
    """The scores (0 to 1; of several outputs the lowest), and the gold answers' log-likelihood, by row."""
    probe = how if isinstance(how, Probe) else None
    with program.running(how if isinstance(how, Plan) else program.plan):
        columns = {name: answer_columns(program.plan)[name][1] for name in outputs}
        right = [0.0] * len(rows)
        # All by one engine: what is compared differs in the edge alone, not in how numbers are rounded.
        for i, said in say_all(program, rows, batch, probe=probe, decoding=decoding, engine="exact"):
            scored = (scorer.score(said[name].text, value(rows[i], columns[name], i), rows[i]) for name in outputs)
            right[i] = min(scored)
        losses = answer_losses(program, rows, batch, outputs, probe)
    return _Measured(right, [-loss for loss, _ in losses])


def _outcome(whole: _Measured, now: _Measured) -> Outcome:
    def change(a: list[float], b: list[float]) -> Interval:
        return (_mean(a) - _mean(b), *paired_bootstrap(a, b))

    return Outcome(
        _mean(now.right),
        _mean(now.likelihood),
        change(now.right, whole.right),
        change(now.likelihood, whole.likelihood),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _watch(
    program: Program, rows: Sequence[Row], receiver: str, outputs: Sequence[str], cut: Plan
) -> tuple[float | None, tuple[float, ...], float]:
    """The receiver's attention on the edge (mean, and by layer) and the gradient norm that crosses it."""
    mass: dict[int, float] = {}
    queries: dict[int, int] = {}
    squares = 0.0
    placed = False
    for i, row in enumerate(rows):
        probe = Probe(cut, "watch", receiver=receiver)
        program.zero_grad(set_to_none=True)
        with torch.enable_grad():
            scored = program([row], indices=[i], texts=False, probe=probe).outputs
            answers = [scored[name] for name in outputs]
            tokens = sum(int((one.labels != -100).sum()) for one in answers)
            loss = torch.stack([one.losses.sum() for one in answers]).sum() / tokens
            if loss.requires_grad:
                loss.backward()
        squares += sum(probe.squares)
        for watch in probe.watches:
            placed = placed or bool(watch.columns.any())
            for layer, part in watch.mass.items():
                mass[layer] = mass.get(layer, 0.0) + part
                queries[layer] = queries.get(layer, 0) + watch.queries[layer]
    program.zero_grad(set_to_none=True)
    by_layer = tuple(mass[layer] / queries[layer] for layer in sorted(mass)) if placed else ()
    return (_mean(by_layer) if by_layer else None), by_layer, math.sqrt(squares / len(rows))


def edges_of(plan: Plan, pairs: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, tuple[str, ...]]]:
    """The pairs of agents (sender, receiver, kind of edge) as edges to audit: those of which an activation that runs
    is the receiver, each once."""
    running = {turn.agent for turn in plan.turns}
    found: dict[tuple[str, str], dict[str, None]] = {}
    for sender, receiver, kind in pairs:
        if receiver in running and sender in running:
            found.setdefault((sender, receiver), {})[kind] = None
    return [(sender, receiver, tuple(kinds)) for (sender, receiver), kinds in found.items()]
