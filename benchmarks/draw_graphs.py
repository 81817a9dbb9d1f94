"""Random programs of the language: teams of two to five agents with every kind of edge and every option.

`Team` is a program in parts, so that a variant of it (edges in another order, gradients that are not stopped) can be
written down as well. Most teams are valid; the compiler says which ones are not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from masc.compiler.language.alignments import ALIGNMENTS


@dataclass(frozen=True)
class Agent:
    name: str
    model: str
    system: str | None
    user: str
    steps: int
    align: str
    gradient: str
    adapt: str
    answer: str | None
    template: bool = False
    """Written as a template with one field, and made an agent in the graph."""

    def text(self) -> str:
        user, head = self.user, self.name
        if self.template:
            head, user = f"t_{self.name}(word: text)", f"{{word}} {self.user}"
        lines = [f"agent {head} on {self.model} {{"]
        lines += [f'  system "{self.system}"'] * (self.system is not None)
        lines.append(f'  user "{user}"')
        if self.steps:
            lines.append(f"  think {self.steps} (align = {self.align}, gradient = {self.gradient})")
        lines.append(f"  adapt {self.adapt}")
        lines += [f"  answer ({self.answer})"] * (self.answer is not None)
        return "\n".join([*lines, "}"])


@dataclass(frozen=True)
class Edge:
    sender: str
    receiver: str
    kind: str
    options: tuple[tuple[str, str], ...] = ()

    def text(self) -> str:
        options = ", ".join(f"{name} = {value}" for name, value in self.options)
        return f"{self.sender} -> {self.receiver} : {self.kind}" + (f"({options})" if options else "")

    def without(self, option: str) -> Edge:
        return replace(self, options=tuple(pair for pair in self.options if pair[0] != option))


@dataclass(frozen=True)
class Repeat:
    count: int
    body: tuple[Edge | Repeat, ...]

    def text(self) -> str:
        return f"repeat {self.count} {{ " + "  ".join(item.text() for item in self.body) + " }"


@dataclass(frozen=True)
class Team:
    agents: tuple[Agent, ...]
    body: tuple[Edge | Repeat, ...]
    outputs: tuple[tuple[str, str], ...]
    """Who gives which output."""
    supervised: tuple[tuple[str, str], ...] = ()
    param: int | None = None
    """`param count: int`, which stands wherever a number of latent steps does."""

    def text(self) -> str:
        lines = ["mas 1", "model m = MODEL", "model n = OTHER"]
        lines += [f"param count: int = {self.param}"] * (self.param is not None)
        for agent in self.agents:
            text = agent.text()
            if self.param is not None and agent.steps == self.param:
                text = text.replace(f"think {agent.steps} ", "think count ")
            lines.append(text)
        lines.append(f"graph g(q, r) -> {', '.join(output for output, _ in self.outputs)} {{")
        lines += [f'  {a.name} = t_{a.name}("so")' for a in self.agents if a.template]
        lines += ["  " + item.text() for item in self.body]
        lines += [f"  {agent} -> {output}" for output, agent in self.outputs]
        lines.append("}")
        labels = [f"{name} <- {column}" for name, column in (*self.supervised, *self._columns())]
        return "\n".join([*lines, f"train {{ {'  '.join(labels)} }}", ""])

    def _columns(self) -> list[tuple[str, str]]:
        return [(output, "answer") for output, _ in self.outputs]

    @property
    def edges(self) -> tuple[Edge, ...]:
        return tuple(_flat(self.body))

    @property
    def turns(self) -> int:
        """About how many turns there are: one for each agent, and one more for each edge that is run again."""
        return len(self.agents) + _run(self.body) - len(self.edges)

    def unstopped(self, *kinds: str) -> Team:
        """The same with full gradients along edges of some kinds, and (`think`) from latent step to latent step."""
        agents = tuple(replace(a, gradient="full") if "think" in kinds else a for a in self.agents)
        return replace(self, agents=agents, body=_each(self.body, kinds))

    @property
    def stops(self) -> set[str]:
        """Where gradients stop: kinds of edges, `think`."""
        found = {e.kind for e in self.edges if ("gradient", "stop") in e.options}
        return found | {"think" for a in self.agents if a.steps and a.gradient == "stop"}

    def shuffled(self, random: Random) -> Team | None:
        """The same with agents and edges in another order; None where the order means something."""
        placeless: dict[str, int] = {}
        for edge in self.edges:
            if edge.kind in ("text", "hidden"):
                seen = f"{{{edge.sender}}}" in next(a.user for a in self.agents if a.name == edge.receiver)
                placeless[edge.receiver] = placeless.get(edge.receiver, 0) + (not seen)
        stacked = any(("merge", "stack") in edge.options for edge in self.edges)
        doubled = len({(e.sender, e.receiver, e.kind) for e in self.edges}) < len(self.edges)
        if (
            stacked
            or doubled
            or max(placeless.values(), default=0) > 1
            or any(isinstance(i, Repeat) for i in self.body)
        ):
            return None
        agents, body = list(self.agents), list(self.body)
        random.shuffle(agents)
        random.shuffle(body)
        return replace(self, agents=tuple(agents), body=tuple(body))


def _flat(body: tuple[Edge | Repeat, ...]) -> list[Edge]:
    return [edge for item in body for edge in (_flat(item.body) if isinstance(item, Repeat) else [item])]


def _run(body: tuple[Edge | Repeat, ...]) -> int:
    """How often edges are run, all together."""
    return sum(item.count * _run(item.body) if isinstance(item, Repeat) else 1 for item in body)


def _each(body: tuple[Edge | Repeat, ...], kinds: tuple[str, ...]) -> tuple[Edge | Repeat, ...]:
    return tuple(
        replace(item, body=_each(item.body, kinds))
        if isinstance(item, Repeat)
        else item.without("gradient")
        if item.kind in kinds
        else item
        for item in body
    )


LAYERS = {"m": 3, "n": 2}


def draw(random: Random) -> Team:
    """A team. Senders stand before receivers, but for those that take turns in a `repeat`."""
    names = "abcde"[: random.choice((2, 3, 3, 3, 4, 4, 5))]
    two_models = random.random() < 0.3
    models = {name: random.choice("mmn") if two_models else "m" for name in names}
    steps = {name: random.choice((0, 0, 1, 1, 2)) for name in names}
    stacked = {name: random.random() < 0.25 for name in names}
    edges: list[Edge] = []
    for i, receiver in enumerate(names[1:], 1):
        for sender in random.sample(names[:i], min(i, random.choice((1, 1, 2, 2, 3)))):
            edges += _edges(random, sender, receiver, models, steps, stacked)
    for i, sender in enumerate(names[:-1]):
        if not any(edge.sender == sender for edge in edges):
            edges += _edges(random, sender, random.choice(names[i + 1 :]), models, steps, stacked)
    body: list[Edge | Repeat] = list(edges)
    if random.random() < 0.2:
        body = _turns(random, names, edges, models, steps, stacked)
    flat = _flat(tuple(body))
    outputs = [("answer", names[-1])]
    if random.random() < 0.15:
        outputs.insert(0, ("first", random.choice(names[:-1])))
    telling = {edge.sender for edge in flat if edge.kind == "text"}
    answering = telling | {name for _, name in outputs}
    bare = frozenset(name for name in names if random.random() < 0.3)
    fusing = {name for edge in flat if edge.kind == "fuse" for name in (edge.sender, edge.receiver)}
    agents = tuple(_agent(random, name, models, steps, flat, answering, fusing, name in bare) for name in names)
    own = [name for name in sorted(telling) if name not in {who for _, who in outputs}]
    supervised = [(name, random.choice("qr")) for name in own if random.random() < 0.4]
    param = random.choice((None, None, 1, 2))
    return Team(_adapters(random, agents), tuple(body), tuple(outputs), tuple(supervised), param)


def _adapters(random: Random, agents: tuple[Agent, ...]) -> tuple[Agent, ...]:
    """Some adapters are DoRA or rank-stabilised, and some agents share one. Drawn last: a seed gives the same teams
    with and without it."""
    kinds = ("", "", ", dora = true", ", rslora = true", ", rslora = true, dora = true")
    drawn = [
        replace(a, adapt=a.adapt.replace(")", f"{random.choice(kinds)})")) if a.adapt != "none" else a for a in agents
    ]
    shared: set[str] = set()
    for i, agent in enumerate(drawn):
        owners = [a.name for a in drawn if a is not agent and a.model == agent.model and a.adapt.startswith("lora")]
        if owners and agent.name not in shared and random.random() < 0.15:
            owner = random.choice(owners)
            shared.add(owner)
            drawn[i] = replace(agent, adapt=f"as {owner}")
    return tuple(drawn)


def _agent(
    random: Random,
    name: str,
    models: dict[str, str],
    steps: dict[str, int],
    edges: list[Edge],
    answering: set[str],
    fusing: set[str],
    bare: bool,
) -> Agent:
    """Senders come before inputs in a prompt: a fuse edge carries only what stands before the shared values. For the
    same reason no input is in a system text there."""
    sending = dict.fromkeys(e.sender for e in edges if e.receiver == name and e.kind in ("text", "hidden"))
    words = [] if bare else [f"{{{sender}}}" for sender in sending]
    inputs = random.choice(("{q}", "{q}", "{q} {r}", "{r}!", f"{name} {{q}}?"))
    if name in fusing and "{q}" not in inputs:
        inputs = "{q}"
    system = random.choice((None, None, f"You are {name}.", None if name in fusing else "Mind {r}."))
    adapt = random.choice(
        ("lora(rank = 2)", "lora(rank = 2)", "lora(rank = 3, targets = attention)", "lora(rank = 1, targets = mlp)")
    )
    return Agent(
        name,
        models[name],
        system,
        " ".join([*words, inputs]),
        steps[name],
        random.choice(("norm", *ALIGNMENTS)),
        random.choice(("full", "full", "full", "stop")),
        "none" if random.random() < 0.1 else adapt,
        f"max_tokens = {random.choice((1, 2, 3))}" if name in answering else None,
        random.random() < 0.15,
    )


def _edges(
    random: Random,
    sender: str,
    receiver: str,
    models: dict[str, str],
    steps: dict[str, int],
    stacked: dict[str, bool],
) -> list[Edge]:
    """One edge, now and then two of different kinds."""
    kinds = ["hidden", "fuse", "text"]
    if models[sender] == models[receiver]:
        kinds += ["kv"] * 7
    chosen = [random.choice(kinds)]
    if random.random() < 0.15:
        chosen.append(random.choice([kind for kind in kinds if kind != chosen[0]]))
    return [
        _edge(random, sender, receiver, kind, models[receiver], steps[sender], stacked[receiver]) for kind in chosen
    ]


def _edge(random: Random, sender: str, receiver: str, kind: str, model: str, steps: int, stacked: bool) -> Edge:
    options: list[tuple[str, str]] = []
    if kind == "kv":
        carry = random.choice(("trace", "trace", "own", "latents" if steps else "own"))
        options.append(("carry", carry))
        options += [("merge", "stack")] * stacked
        if carry != "trace" and random.random() < 0.3:
            wider = random.choice(("own", "trace") if carry == "latents" else ("trace",))
            options.append(("open", f"{random.choice((4, 10, 10, 40))} as {wider}"))
    if kind == "hidden":
        carry = "own" if not steps else random.choice(("latents", "own"))
        options += [("carry", carry), ("link", random.choice(("linear", "mlp")))]
    if kind == "fuse":
        options.append(("width", str(random.choice((2, 3)))))
    if kind in ("kv", "fuse") and random.random() < 0.4:
        first = random.randrange(LAYERS[model])
        options.append(("layers", f"{first}..{random.randrange(first, LAYERS[model])}"))
    if kind != "text" and random.random() < 0.3:
        options.append(("gradient", "stop"))
    if kind != "text" and random.random() < 0.25:
        options.append(("gate", "learned"))
    return Edge(sender, receiver, kind, tuple(options))


def _turns(
    random: Random,
    names: str,
    edges: list[Edge],
    models: dict[str, str],
    steps: dict[str, int],
    stacked: dict[str, bool],
) -> list[Edge | Repeat]:
    """Some neighbours take turns; what runs between them stands in the repeat. Now and then repeats nest."""
    size = min(len(names), random.choice((2, 2, 3)))
    first = random.randrange(len(names) - size + 1)
    group = names[first : first + size]
    inside = [e for e in edges if e.sender in group and e.receiver in group]
    back = random.choice(group[:-1])
    inside += _edges(random, group[-1], back, models, steps, stacked)
    if random.random() < 0.3:
        random.shuffle(inside)
    repeat = Repeat(2, tuple(inside))
    if random.random() < 0.2 and len(inside) > 1:
        repeat = Repeat(2, (Repeat(2, tuple(inside[:-1])), inside[-1]))
    outside: list[Edge | Repeat] = [e for e in edges if e not in inside]
    return [*outside, repeat]
