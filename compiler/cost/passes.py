"""What a turn runs: its passes through the model, one behind the other, and what each of them attends to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from masc.compiler.analysis.sights import sights
from masc.compiler.cost import engine
from masc.compiler.cost.lengths import Lengths
from masc.compiler.ir.arrival import Arrival
from masc.compiler.ir.plan import Plan, Turn, View

Doing = Literal["running", "training"]
"""What a plan is worked out for: its answers are decoded, or labels are read and a gradient comes back."""


@dataclass(frozen=True)
class Pass:
    """Positions of one sample that go through the model together.

    queries   how many they are; times: such passes one behind the other
    columns   how many they attend to, their own included (of several passes the mean)
    graph     a gradient graph of it is kept
    final     a gradient comes to its final hidden states; else to its keys and values alone
    inputs    a gradient goes on to its input embeddings
    """

    queries: int
    columns: float
    times: int = 1
    graph: bool = False
    final: bool = False
    inputs: bool = False

    @property
    def positions(self) -> int:
        return self.queries * self.times


@dataclass(frozen=True)
class Written:
    """One turn in one sample.

    prompt    columns of its prompt, vectors that others send included; latents: of its latent steps
    answer    tokens that are predicted: decoded, or of the label; read: how many of them it reads
    seen      columns of earlier segments in its cache
    vectors   by arrival, how many vectors it brings into the prompt
    passes    what runs
    graph     whether a gradient graph of it is kept; past: whether a gradient goes on to what it sees
    gated     there are half open gates in what it attends to
    grows     its cache is written in place, column by column (`model/growing.py`)
    unsaid    training decodes it, too: it is said to others, and no column supervises it
    """

    prompt: int
    latents: int
    answer: int
    read: int
    seen: int
    vectors: Mapping[Arrival, int] = field(default_factory=dict)
    passes: tuple[Pass, ...] = ()
    graph: bool = False
    past: bool = False
    gated: bool = False
    grows: bool = False
    unsaid: bool = False

    @property
    def columns(self) -> int:
        """Of its segment."""
        return self.prompt + self.latents + self.read

    @property
    def positions(self) -> int:
        """That run through the model."""
        return sum(one.positions for one in self.passes)

    @property
    def widest(self) -> Pass:
        return max(self.passes, key=lambda one: one.queries)


def written(plan: Plan, lengths: Lengths, doing: Doing, opened: bool = True) -> dict[str, Written]:
    """Every turn, in the order of the plan. opened: channels with `open = N` are open, as in the first steps of
    training; when a plan runs they never are."""
    found: dict[str, Written] = {}
    looks = sights(plan)
    supervised = {loss.output for loss in plan.losses}
    for turn in plan.turns:
        views = [view for view in looks[turn.activation] if view.until is None or (opened and doing == "training")]
        found[turn.activation] = _written(plan, turn, views, lengths, doing, turn.said in supervised, found)
    return found


def _written(
    plan: Plan,
    turn: Turn,
    views: list[View],
    lengths: Lengths,
    doing: Doing,
    supervised: bool,
    before: Mapping[str, Written],
) -> Written:
    length = lengths[turn.activation]
    vectors = {each: _vectors(each, before) for each in turn.arrives if each.keeps == "hidden"}
    prompt = length.prompt + sum(vectors.values())
    latents = 0 if turn.think is None else turn.think.steps
    answer = 0 if turn.answer is None else length.answer
    training = doing == "training"
    unsaid = training and answer > 0 and not supervised
    read = answer - (not turn.read_to_end) if answer else 0
    if unsaid and not turn.read_to_end:
        read = 0
    graph = training and turn.gradient
    gates = [bool(view.gates) for view in views]
    gates += [each.gated for each in turn.arrives if each.keeps == "hidden"]
    made = Written(
        prompt=prompt,
        latents=latents,
        answer=answer,
        read=read,
        seen=_seen(views, before),
        vectors=vectors,
        graph=graph,
        past=graph and any(not view.stop and _moves(plan, view.segment, before) for view in views),
        gated=training and any(gates),
        grows=training and turn.grows,
        unsaid=unsaid,
    )
    return _with_passes(plan, turn, made, training)


def _vectors(arrival: Arrival, before: Mapping[str, Written]) -> int:
    sender = before[arrival.segment]
    return sender.latents if arrival.latents else sender.prompt + sender.latents


def _seen(views: list[View], before: Mapping[str, Written]) -> int:
    """The columns of others in a turn's cache: of a segment all, or its latents where no view shows more."""
    whole = {view.segment: False for view in views}
    for view in views:
        whole[view.segment] |= view.part == "all"
    return sum(before[name].columns if all_of else before[name].latents for name, all_of in whole.items())


def _moves(plan: Plan, name: str, before: Mapping[str, Written]) -> bool:
    """Whether a gradient at a segment's keys and values comes to anything that is trained."""
    turn, made = plan.turn(name), before[name]
    trained = plan.agent(turn.agent).lora is not None or any(arrival.link for arrival in turn.arrives)
    return made.graph and (trained or made.past)


def _with_passes(plan: Plan, turn: Turn, made: Written, training: bool) -> Written:
    decoded = () if training and not made.unsaid else tuple(_running(turn, made))
    if not training:
        decoded = tuple(_in_slots(one, made.seen == 0 and i == 0) for i, one in enumerate(decoded))
    forced = tuple(_training(plan, turn, made)) if training else ()
    return replace(made, passes=decoded + forced)


def _prompt(turn: Turn, made: Written, final: bool) -> Iterator[Pass]:
    embedded = made.graph and bool(made.vectors)
    if turn.changed:  # its last token is read after what others add to its keys and values
        yield Pass(made.prompt - 1, made.seen + made.prompt - 1, 1, made.graph, False, embedded)
        yield Pass(1, made.seen + made.prompt, 1, made.graph, final, False)
    else:
        yield Pass(made.prompt, made.seen + made.prompt, 1, made.graph, final, embedded)


def _steps(turn: Turn, made: Written, after: bool, foreseen: bool = False) -> Iterator[Pass]:
    """Latent steps. after: a gradient comes to the last one's hidden state; foreseen: they are taken without a graph
    first, and then read in one pass."""
    if turn.think is None:
        return
    first, count = made.seen + made.prompt, made.latents
    if foreseen:
        if count > 1:
            yield Pass(1, first + count / 2, count - 1)
        yield Pass(count, first + count, 1, made.graph, after)
        return
    through = made.graph and not turn.think.stop
    if count > 1:
        yield Pass(1, first + count / 2, count - 1, made.graph, through, through)
    yield Pass(1, first + count, 1, made.graph, after, through)


def _running(turn: Turn, made: Written) -> Iterator[Pass]:
    """Without a gradient: prompt, latent steps, one pass for each token that is read."""
    bare = replace(made, graph=False)
    yield from _prompt(turn, bare, False)
    yield from _steps(turn, bare, False)
    read = made.answer - (not turn.read_to_end) if made.answer else 0
    if read:
        yield Pass(1, made.seen + made.prompt + made.latents + (read + 1) / 2, read)


def _in_slots(one: Pass, fresh: bool) -> Pass:
    """The same over slots, as the fast engine runs it: with the columns that are read beside those that hold something.
    fresh: nothing stands before it."""
    if fresh and one.queries > 1:
        return one
    first = int(one.columns - (one.times - 1) / 2)
    return replace(one, columns=sum(engine.wide(first + i) for i in range(one.times)) / one.times)


def _training(plan: Plan, turn: Turn, made: Written) -> Iterator[Pass]:
    """Prompt and label go together where nothing stands between them."""
    loss = made.graph and made.answer > 0 and not made.unsaid
    sent = made.graph and turn.kept("hidden") and _passes_on(plan, turn)
    if turn.think is None and not turn.changed:
        queries = made.prompt + made.read
        yield Pass(queries, made.seen + queries, 1, made.graph, loss or sent, made.graph and bool(made.vectors))
        return
    thinks = made.graph and turn.think is not None and not turn.think.stop
    yield from _prompt(turn, made, thinks or sent or (loss and turn.think is None))
    lora = plan.agent(turn.agent).lora
    dropped = lora is not None and lora.dropout > 0
    yield from _steps(turn, made, loss or sent, made.graph and not thinks and not dropped)
    if made.read:
        whole = made.seen + made.prompt + made.latents + made.read
        yield Pass(made.read, whole, 1, made.graph, loss, False)


def _passes_on(plan: Plan, turn: Turn) -> bool:
    """Whether a gradient comes back through what is sent of its hidden states."""
    return any(
        each.segment == turn.activation and each.keeps == "hidden" and each.passes and later.gradient
        for later in plan.turns
        for each in later.arrives
    )
