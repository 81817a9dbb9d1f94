"""Looking inside a team while it answers one row (`masc inspect`): what each agent reads and says, which words its
latent positions are near to, what it attends to, and what each edge carried."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from masc.backends.torch.data.check import check_output, columns_of
from masc.backends.torch.data.rows import rows_of
from masc.backends.torch.data.values import Row
from masc.backends.torch.engine.walk import Walk
from masc.backends.torch.model import applying
from masc.backends.torch.model.base import Base
from masc.backends.torch.model.depths import finished
from masc.backends.torch.model.prompts import answer_ids, value
from masc.backends.torch.probing.audit import edges_of
from masc.backends.torch.probing.inspection import (
    Activation,
    Carried,
    Depth,
    Inspection,
    Latent,
    Spoken,
    Team,
)
from masc.backends.torch.probing.looking import Look, Looks, layers_of
from masc.backends.torch.probing.words import likeliest, nearest, spelt
from masc.backends.torch.program import Program
from masc.compiler.analysis.decoding import AS_WRITTEN, Decoding
from masc.compiler.ir.graph import Graph
from masc.compiler.ir.plan import Plan, agent_of
from masc.compiler.pipeline import Compilation, lower, text_plan
from masc.dsl.diagnostics import fail

Layer = int | str
"""A layer, from 0, or `last`."""
Tokens = Mapping[str, Sequence[int]]
"""By answer (`Turn.said`) its token ids."""


def inspect(
    program: Program,
    row: Row,
    *,
    layers: Sequence[Layer] = ("last",),
    top: int = 5,
    answer: str | None = None,
    output: str | None = None,
    text: bool = True,
    decoding: Decoding = AS_WRITTEN,
) -> Inspection:
    """Look inside a team that answers one row.

    layers: behind which latent positions are read; a model that is not as deep shows what it has. top: how many words.
    answer: of the output, told instead of said. output: whose answer counts (None: the first). text: the same team in
    text is looked at, too. decoding: of the outputs, where it is not the graph's. Errors: ValueError for a program that
    was not compiled from a file, or that runs with edges cut; E0604 a column that is missing, E0611 no such output,
    E0648 no such layer."""
    graph, compilation = _whole(program)
    check_inspection(program.plan, {name: base.layers for name, base in _bases(program).items()}, layers, output)
    if top < 1:
        raise ValueError(f"top = {top}: at least one word is shown")
    (row,) = rows_of([row], "row")
    chosen = output or program.plan.outputs[0]
    inputs = {name: value(row, name, 0) for name in columns_of(program.plan, labels=False)}
    edges = edges_of(program.plan, [(agent_of(e.sender), agent_of(e.receiver), e.kind) for e in graph.edges])

    def team(plan: Plan, cuts: Sequence[tuple[str, str, tuple[str, ...], Plan]]) -> Team:
        with program.running(plan):
            return _team(program, row, chosen, answer, layers, top, cuts, decoding)

    mode = program.training
    program.eval()
    try:
        with torch.no_grad(), applying.still():
            whole = program.plan
            found = team(whole, [(a, b, kinds, lower(compilation, graph, ((a, b),))) for a, b, kinds in edges])
            beside = None
            if text and (words := text_plan(compilation)) != whole:
                cuts = [(a, b, ("text",), text_plan(compilation, ((a, b),))) for a, b, _ in edges]
                beside = team(words, cuts)
    finally:
        program.train(mode)
    return Inspection(graph, inputs, chosen, found, beside)


def check_inspection(plan: Plan, depths: Mapping[str, int], layers: Sequence[Layer], output: str | None) -> None:
    """E0611 for an output that there is not, E0648 for a layer that no model has. depths: how many each model has."""
    if output is not None:
        check_output(plan, output)
    for layer in layers:
        if layer != "last" and not isinstance(layer, int):
            raise ValueError(f"{layer!r} is no layer: they are numbers from 0 on, and `last`")
        if not any(layers_of([layer], count) for count in depths.values()):
            deepest = max(depths.values()) - 1
            raise fail("E0648", f"there is no layer {layer} to look behind", hint=f"they are 0 to {deepest}")


def _bases(program: Program) -> dict[str, Base]:
    return {agent.model: program.base(agent.name) for agent in program.plan.agents}


def _whole(program: Program) -> tuple[Graph, Compilation]:
    """The graph of a program, from which others are made with edges cut. ValueError where it runs another one."""
    compilation = program.history.compilation
    if compilation is None or compilation.graph is None:
        raise ValueError("only a program that was compiled from a file can be inspected")
    if lower(compilation, compilation.graph) != program.plan:
        raise ValueError("a program whose edges are cut cannot be inspected: edges are cut one by one here")
    return compilation.graph, compilation


def _team(
    program: Program,
    row: Row,
    output: str,
    answer: str | None,
    layers: Sequence[Layer],
    top: int,
    cuts: Sequence[tuple[str, str, tuple[str, ...], Plan]],
    decoding: Decoding,
) -> Team:
    plan = program.plan
    turns = {turn.said: turn for turn in plan.answering}
    told = {} if answer is None else {output: answer_ids(program.base(turns[output].agent), answer)}
    said = _said(program, row, told, decoding)
    looks = Looks({model: layers_of(layers, base.layers) for model, base in _bases(program).items()})
    scores: dict[str, Tensor] = {}
    with program.holding(looked=looks.at):
        walk = Walk(program, [row], None, False, {}, given={name: [ids] for name, ids in said.items()})
        for turn in walk.steps():
            done = walk.activated[turn.activation]
            hidden = torch.cat([done.last, done.label], 1)[0, : len(said[turn.said])]
            scores[turn.activation] = program.base(turn.agent).logits(hidden)
            walk.check_numbers(turn.agent, scores[turn.activation][None])
    activations = []
    for turn in plan.turns:
        name, base = turn.activation, program.base(turn.agent)
        look, ids = looks.found[name], said.get(turn.said, ()) if turn.answer else ()
        sources, heats = look.seen(len(ids))
        activations.append(
            Activation(
                activation=name,
                agent=turn.agent,
                model=plan.agent(turn.agent).model,
                start=int(walk.segments[name].start[0]),
                prompt=look.tokens,
                latents=tuple(_latents(base, look, walk, name, top)),
                said=walk.texts[name][0] if turn.answer else None,
                spoken=tuple(_spoken(base, ids, scores[name], top)) if turn.answer else (),
                sources=sources,
                heats=heats,
            )
        )
    answers = {name: walk.texts[turns[name].activation][0] for name in plan.outputs}
    likely = _likelihood(program, row, output, said)
    carried = []
    for sender, receiver, kinds, cut in cuts:
        again = _behind(plan, cut)
        with program.running(cut):
            now = _likelihood(
                program, row, output, {n: ids for n, ids in said.items() if n == output or n not in again}
            )
        carried.append(Carried(sender, receiver, kinds, now, now - likely))
    return Team(answers, answers[output], answer is not None, likely, tuple(activations), tuple(carried))


def _said(program: Program, row: Row, told: Tokens, decoding: Decoding) -> dict[str, Sequence[int]]:
    """The tokens of all that is said, the end of a turn included, where some of it is told."""
    given = {name: [ids] for name, ids in told.items()}
    walk = Walk(program, [row], None, False, {}, decoding=decoding, cuts=True, given=given)
    for _ in walk.steps():
        pass
    found = dict(told)
    for name, (one,) in walk.decoded.items():
        found[name] = [*one.ids, *([] if one.end is None else [one.end])]
    return found


def _behind(plan: Plan, cut: Plan) -> set[str]:
    """What is said by turns that the cut reaches: it may be other words then."""
    reached: set[str] = set()
    for turn in cut.turns:
        was = plan.turn(turn.activation)
        senders = {one.segment for one in (*turn.sees, *turn.arrives)}
        if (turn.sees, turn.arrives, turn.at) != (was.sees, was.arrives, was.at) or senders & reached:
            reached.add(turn.activation)
    return {cut.turn(name).said for name in reached}


def _likelihood(program: Program, row: Row, output: str, said: Tokens) -> float:
    """Of an output's answer, nats, by the plan that runs. said: what counts as said; all else is said anew."""
    return math.fsum(program.score([row], {name: [ids] for name, ids in said.items()}, output)[0].tolist())


def _latents(base: Base, look: Look, walk: Walk, name: str, top: int) -> Iterator[Latent]:
    if not look.latent:
        return
    fed = walk.activated[name].fed[0].float()
    norms = (fed.norm(dim=-1) / base.tau).tolist()
    depths = [_depths(base, layer, look.thoughts(layer), top) for layer in sorted(look.states)]
    first = int(walk.segments[name].place[0, look.prompt])
    for step, words in enumerate(nearest(base, fed, top)):
        yield Latent(step + 1, first + step, norms[step], words, tuple(depth[step] for depth in depths))


def _depths(base: Base, layer: int, states: Tensor, top: int) -> list[Depth]:
    """Latent positions behind a layer. states: [m + 1, d], of the position before them and of these."""
    normed = finished(base, states)
    drift = 1 - torch.nn.functional.cosine_similarity(normed[1:].float(), normed[:-1].float(), dim=-1)
    norms = states[1:].float().norm(dim=-1)
    read = likeliest(base, base.logits(normed[1:]), top)
    numbers = zip(read, norms.tolist(), drift.tolist(), strict=True)
    return [Depth(layer, words, entropy, norm, moved) for (words, entropy), norm, moved in numbers]


def _spoken(base: Base, ids: Sequence[int], scores: Tensor, top: int) -> Iterator[Spoken]:
    logs = scores.float().log_softmax(-1)
    texts = spelt(base, ids)
    for i, (words, entropy) in enumerate(likeliest(base, scores, top)):
        yield Spoken(ids[i], texts[i], float(logs[i, ids[i]]), entropy, words)
