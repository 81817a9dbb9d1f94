"""What must hold of a plan, whether a pass made it or it was read from a file: all that a backend relies on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, field, replace

from masc.compiler.analysis.keep import keep
from masc.compiler.analysis.reach import with_reach
from masc.compiler.channels import ARRIVALS, PLAIN
from masc.compiler.ir.model import well_told
from masc.compiler.ir.plan import (
    Across,
    Answer,
    LatentMap,
    Loss,
    Plan,
    PlanAgent,
    Reach,
    Sampling,
    Slot,
    Template,
    Think,
    TraceOf,
    TrainSettings,
    Turn,
    View,
    agent_of,
)
from masc.compiler.ir.ranges import in_order
from masc.compiler.ir.views import distinct
from masc.compiler.ir.words import NAME, SEGMENT
from masc.compiler.language.alignments import ALIGNMENTS
from masc.compiler.language.objectives import GRPO, Grpo

_MOST = 2**63
Promise = tuple[bool, str]
"""Whether something holds, and what."""


def broken(plan: Plan) -> str | None:
    """The first promise that a plan does not keep; None: it keeps them all."""
    return next((promise for holds, promise in _promises(plan) if not holds), None)


def contradiction(plan: Plan) -> str | None:
    """As `broken`, and of what follows from the rest of the plan and is filled in last: what turns keep, and that
    `reaches` names nothing that is out of reach."""
    if (promise := broken(plan)) is not None:
        return promise
    if keep(plan).turns != plan.turns:
        return "a turn keeps what later ones need of it, and has a gradient where a loss is behind it"
    # How many layers a model has is not in the plan; without that number `reaches` errs on the wide side.
    for own, widest in zip(plan.losses, with_reach(plan, {}).losses, strict=True):
        allowed = {_named(reach) for reach in widest.reaches}
        found = [_named(reach) for reach in own.reaches]
        if len(set(found)) < len(found) or not allowed >= set(found):
            return "a loss reaches what the views let it reach"
    return None


def _named(reach: Reach | LatentMap | Across) -> tuple[str, ...]:
    if isinstance(reach, Across):
        return reach.edge, reach.sender, reach.receiver
    return type(reach).__name__, reach.agent


def _promises(plan: Plan) -> Iterator[Promise]:
    names = [plan.name, *plan.inputs, *plan.outputs, *(m.name for m in plan.models), *(a.name for a in plan.agents)]
    yield all(map(NAME.fullmatch, names)), "names are words"
    for group in (plan.inputs, plan.outputs, [m.name for m in plan.models], [a.name for a in plan.agents]):
        yield _different(group), "inputs, outputs, models and agents have different names"
    models = {model.name for model in plan.models}
    for model in plan.models:
        yield from model.loading.promises()
    for agent in plan.agents:
        yield agent.model in models, "every agent's model is in the plan"
        yield from _agent(agent)
        if agent.shares is not None:
            owner = next((a for a in plan.agents if a.name == agent.shares), None)
            yield owner is not None and owner.own is not None, "an adapter that is shared is an agent's own"
            yield owner is not None and owner.model == agent.model, "an adapter is shared on one model"
            yield owner is not None and owner.lora == agent.lora, "an adapter that is shared is the same for all"
    renamed = [name for name, _ in plan.columns]
    yield set(renamed) <= set(plan.inputs) and _different(renamed), "inputs have one other name in the data"
    yield from _train(plan.train)
    first = {model.base: model.name for model in reversed(plan.models)}
    same = {model.name: first[model.base] for model in plan.models}  # two names of one model are one model in the end
    agents = {agent.name: replace(agent, model=same[agent.model]) for agent in plan.agents}
    state = _State(agents, plan.outputs)
    for turn in plan.turns:
        yield from state.turn(turn)
    for loss in plan.losses:
        yield from state.loss(loss)
    yield state.given == set(plan.outputs), "every output is given"
    yield set(plan.outputs) <= state.losses, "every output has a loss"


def _agent(agent: PlanAgent) -> Iterator[Promise]:
    for template in (agent.system, agent.user):
        yield template is None or _normal(template), "prompts are texts and placeholders, no two texts side by side"
    yield from agent.lora.promises() if agent.lora is not None else ()
    yield well_told(agent.variables), "what a chat template is told has names, each once and in order"


def _normal(template: Template) -> bool:
    before: str | Slot = Slot("")
    for part in template:
        if isinstance(part, Slot):
            if NAME.fullmatch(part.name) is None:
                return False
        elif not part or isinstance(before, str):
            return False
        before = part
    return True


def _train(train: TrainSettings) -> Iterator[Promise]:
    counts = (train.batch, train.accumulate, train.steps, train.keep)
    yield all(1 <= n < _MOST for n in counts), "batch, accumulate, steps and keep are at least 1"
    others = (train.seed, train.save_every, train.eval_every, train.max_length)
    yield all(0 <= n < _MOST for n in others), "no train setting is negative"
    yield 0 <= train.rate <= 1e3 and 0 <= train.warmup <= 1, "rate and warmup are in range"
    yield 0 <= train.sparsity < math.inf and 0 < train.gate_rate < math.inf, "what is said of gates is in range"
    if isinstance(train.objective, Grpo):
        held = (option.reads.bounds for option in GRPO.values())
        numbers = zip(held, astuple(train.objective), strict=True)
        yield all(b is None or b.holds(n) for b, n in numbers), "the numbers of an objective are in range"
        yield train.objective.reward in GRPO["reward"].reads.words, "a reward is a scorer that runs nothing"
    yield 0 <= train.clip < math.inf and 0 <= train.weight_decay < math.inf, "clip and weight_decay are in range"


@dataclass
class _State:
    """What has been written and said, as far as the turns have been looked at."""

    agents: Mapping[str, PlanAgent]
    outputs: tuple[str, ...]
    written: set[str] = field(default_factory=set)
    thought: set[str] = field(default_factory=set)
    aligned: dict[str, str] = field(default_factory=dict)
    said: set[str] = field(default_factory=set)
    answered: set[str] = field(default_factory=set)
    given: set[str] = field(default_factory=set)
    links: dict[tuple[str, str, str], str] = field(default_factory=dict)
    """By channel, sender and receiver of an edge with a trained link: its shape."""
    gated: dict[tuple[str, str], bool] = field(default_factory=dict)
    """By sender and receiver of an edge by which keys and values are seen: whether it has a gate."""
    losses: set[str] = field(default_factory=set)

    def turn(self, turn: Turn) -> Iterator[Promise]:
        yield SEGMENT.fullmatch(turn.activation) is not None, "an activation is an agent and its round"
        yield turn.activation not in self.written and turn.agent in self.agents, "a segment is written once"
        yield from self._places(turn)
        yield from self._arrives(turn)
        self.written.add(turn.activation)
        if turn.think is not None:
            yield from self._think(turn, turn.think)
        if turn.answer is not None:
            yield from self._answer(turn, turn.answer)

    def _places(self, turn: Turn) -> Iterator[Promise]:
        places = (*turn.sees, *turn.at)
        named = {name for place in places for name in (place.segment, *place.shift)}
        yield self.written >= named | {a.segment for a in turn.arrives}, "every segment is written before it is named"
        model = self.agents[turn.agent].model
        alike = all(self.agents[agent_of(name)].model == model for name in named)
        yield alike, "keys and values stay on one model"
        latent = {x.segment for x in places if not isinstance(x, TraceOf) and x.part == "latents"}
        latent |= {arrival.segment for arrival in turn.arrives if arrival.latents}
        yield self.thought >= latent, "latent positions are there where they are seen"
        yield from _views(turn.sees)
        for entry in turn.sees:
            edge = agent_of(entry.segment), turn.agent
            yield entry.gates in ((), (edge,)), "what a turn sees comes through the gate of its edge alone"
            gated = bool(entry.gates)
            yield self.gated.setdefault(edge, gated) == gated, "an edge has a gate in all rounds or in none"
        yield _different(turn.at), "an end is named once"

    def _arrives(self, turn: Turn) -> Iterator[Promise]:
        order = list(ARRIVALS.values())
        ranks = [order.index(type(arrival)) for arrival in turn.arrives]
        yield ranks == sorted(ranks), "what arrives is told channel by channel"
        yield _different([(type(a), a.segment) for a in turn.arrives]), "what arrives arrives once"
        told = {arrival.segment for arrival in turn.arrives if arrival.keeps == "text"}
        yield self.said >= told, "every text is said before it is read"
        for arrival in turn.arrives:
            yield from arrival.promises()
            if arrival.link:
                key = arrival.kind, agent_of(arrival.segment), turn.agent
                yield self.links.setdefault(key, arrival.shape) == arrival.shape, "two agents have one link of a kind"

    def _think(self, turn: Turn, think: Think) -> Iterator[Promise]:
        yield 1 <= think.steps < _MOST, "an agent that thinks has steps"
        yield think.align in ALIGNMENTS, "latent steps are aligned in a way that there is"
        align = self.aligned.setdefault(turn.agent, think.align)
        yield align == think.align, "an agent aligns its latent steps alike in all rounds"
        self.thought.add(turn.activation)

    def _answer(self, turn: Turn, answer: Answer) -> Iterator[Promise]:
        yield turn.said not in self.answered, "an output is given once"
        yield answer.output is None or answer.output in self.outputs, "what is given is an output"
        yield from _sampling(answer.sampling)
        self.answered.add(turn.said)
        self.said.add(turn.activation)
        self.given |= {answer.output} if answer.output is not None else set()

    def loss(self, loss: Loss) -> Iterator[Promise]:
        yield loss.output in self.answered, "every loss has its answer"
        yield loss.output not in self.losses, "an answer has one loss"
        yield bool(loss.column), "a loss has a column"
        for reach in loss.reaches:
            if isinstance(reach, Across):
                edge = reach.sender, reach.receiver
                there = (reach.edge, *edge) in self.links or (reach.edge == PLAIN.kind and self.gated.get(edge, False))
                yield there, "a loss reaches links that are there"
                yield in_order(reach.layers), "layers that a loss reaches are sorted ranges"
            else:
                known = self.agents.get(reach.agent)
                yield known is not None and known.lora is not None, "losses reach adapters"
                whose = isinstance(reach, LatentMap) or (known is not None and known.own is not None)
                yield whose, "a loss reaches a shared adapter under its own name"
            if isinstance(reach, Reach):
                yield reach.layer is None or -1 <= reach.layer < _MOST, "a layer that a loss reaches is a layer"
        self.losses.add(loss.output)


def _views(views: tuple[View | TraceOf, ...]) -> Iterator[Promise]:
    shifts: dict[str, tuple[str, ...]] = {}
    for view in views:
        yield in_order(view.layers), "layers are sorted ranges"
        yield view.until is None or 1 <= view.until < _MOST, "a view that ends is there for a step or more"
        yield shifts.setdefault(view.segment, view.shift) == view.shift, "a segment is seen at one place"
    yield distinct(views) == views, "no view says what another says already"


def _sampling(sampling: Sampling) -> Iterator[Promise]:
    yield 1 <= sampling.max_tokens < _MOST, "an answer has tokens"
    yield 0 <= sampling.temperature < math.inf and 0 < sampling.top_p <= 1, "temperature and top_p are in range"
    yield 0 <= sampling.seed < _MOST, "a seed is not negative"
    yield all(sampling.stop) and _different(sampling.stop), "stop strings are not empty, each once"


def _different(items: Iterable[object]) -> bool:
    found = list(items)
    return len(set(found)) == len(found)
