"""Reading the printed plan back. The format is described in `plan_text.py`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, TypeVar, cast, get_args

from masc.compiler.analysis.verify_plan import contradiction
from masc.compiler.channels import ARRIVALS, PLAIN
from masc.compiler.ir.adapter import Lora, parse_adapter
from masc.compiler.ir.arrival import Arrival, Kept
from masc.compiler.ir.lines import Line
from masc.compiler.ir.model import Told, parse_loading, parse_told
from masc.compiler.ir.objective import parse_objective
from masc.compiler.ir.plan import (
    Across,
    Answer,
    BaseModel,
    End,
    Gate,
    Keep,
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
)
from masc.compiler.language.alignments import ALIGNMENTS
from masc.dsl.diagnostics import fail
from masc.dsl.source import Source, Span

_INTEGER_FIELDS = {f.name for f in fields(TrainSettings) if f.type == "int"}
_LINKED = {PLAIN.kind} | {arrival.kind for arrival in ARRIVALS.values() if arrival.link}
T = TypeVar("T")


def parse_plan(text: str) -> Plan:
    """The plan that a text describes, verified. Raises MascError: E0520 says where it is not a plan, E0521 in what it
    contradicts itself."""
    plan = parse(text)
    if (promise := contradiction(plan)) is not None:
        raise fail("E0521", f"the plan contradicts itself: it is not so that {promise}")
    return plan


def parse(text: str) -> Plan:
    """The plan that a text describes, which may make no sense. E0520 says where it is none."""
    source = Source("<plan>", text)
    lines: list[Line] = []
    start = 0
    for row in text.split("\n"):
        if row.strip():
            lines.append(Line(source, start, row))
        start += len(row) + 1
    if not lines:
        raise fail("E0520", "the text is empty: a plan starts with `plan name(inputs) -> outputs`", Span(source, 0, 0))
    return _Reader(lines).plan()


class _Reader:
    def __init__(self, lines: list[Line]) -> None:
        self.lines = lines
        self.at = 0

    def line(self, *keywords: str) -> Line | None:
        """The next line if it starts with one of the keywords, which stays the next token."""
        if self.at < len(self.lines) and (token := self.lines[self.at].peek()) is not None and token.text in keywords:
            self.at += 1
            return self.lines[self.at - 1]
        return None

    def plan(self) -> Plan:
        head = self.lines[0]
        head.need("plan")
        self.at = 1
        name = head.name()
        head.need("(")
        inputs = head.listed(head.name, ")")
        outputs = head.listed(head.name, "") if head.has("->") else ()
        head.done()
        models = self.many(self.model, "model")
        agents = _shared(self.many(self.agent, "agent"))
        turns = self.many(self.turn, "turn")
        losses = self.many(_loss, "loss")
        columns = self.many(_column, "column")
        train = self.train()
        if self.at < len(self.lines):
            raise self.lines[self.at].error(
                "a line of a plan (model, agent, turn, loss, column or `train`, in this order)"
            )
        return Plan(name, inputs, outputs, models, agents, turns, losses, train, columns)

    def many(self, read: Callable[[Line], T], *keywords: str) -> tuple[T, ...]:
        found: list[T] = []
        while (line := self.line(*keywords)) is not None:
            found.append(read(line))
            line.done()
        return tuple(found)

    def model(self, line: Line) -> BaseModel:
        line.need("model")
        name = line.name()
        line.need("=")
        return BaseModel(name, line.text(), parse_loading(line))

    def agent(self, line: Line) -> PlanAgent:
        line.need("agent")
        name = line.name()
        line.need("on")
        model = line.name()
        adapters = self.many(_adapter, "adapter")
        told = self.one(_told, "template") or ()
        systems = self.many(lambda row: _prompt(row, "system"), "system")
        users = self.many(lambda row: _prompt(row, "user"), "user")
        if len(adapters) != 1 or len(systems) > 1 or len(users) != 1:
            end = self.lines[self.at] if self.at < len(self.lines) else line
            raise end.error("one `adapter`, at most one `system` and one `user` line of an agent")
        lora, shares = adapters[0]
        return PlanAgent(name, model, lora, systems[0] if systems else None, users[0], shares, told)

    def turn(self, line: Line) -> Turn:
        line.need("turn")
        activation = line.segment()
        line.need("at")
        at = _at(line)
        gradient = not line.has("no")
        if not gradient:
            line.need("gradient")
        line.done()
        sees = self.one(lambda row: _bracket(row, "sees", _view), "sees") or ()
        arrives: tuple[Arrival, ...] = ()
        for word, kind in ARRIVALS.items():
            arrives += self.one(lambda row, word=word, kind=kind: _bracket(row, word, kind.parse), word) or ()  # type: ignore[misc]
        think, answer = self.one(_think, "think"), self.one(_answer, "answer")
        return Turn(activation, sees, at, arrives, think, answer, self.many(_keep, "keeps"), gradient)

    def one(self, read: Callable[[Line], T], keyword: str) -> T | None:
        """What the next line says if it starts with a keyword."""
        line = self.line(keyword)
        if line is None:
            return None
        found = read(line)
        line.done()
        return found

    def train(self) -> TrainSettings:
        line = self.line("train")
        if line is None:
            return TrainSettings()
        line.need("train")
        line.done()
        found: dict[str, Any] = {"data": None, "eval_data": None}
        names = [f.name for f in fields(TrainSettings)]
        while (line := self.line(*names)) is not None:
            name = line.name()
            if name in ("data", "eval_data"):
                found[name] = line.text()
            elif name == "dtype":
                found[name] = line.word("float32", "bfloat16")
            elif name == "checkpoint":
                found[name] = line.word("none", "agent")
            elif name == "objective":
                found[name] = parse_objective(line)
            else:
                found[name] = line.integer() if name in _INTEGER_FIELDS else line.real()
            line.done()
        return TrainSettings(**found)


def _shared(agents: tuple[PlanAgent, ...]) -> tuple[PlanAgent, ...]:
    """The agents, those that share an adapter with what it is."""
    own = {agent.name: agent.lora for agent in agents}
    return tuple(agent if agent.shares is None else replace(agent, lora=own.get(agent.shares)) for agent in agents)


def _adapter(line: Line) -> tuple[Lora | None, str | None]:
    line.need("adapter")
    return parse_adapter(line)


def _told(line: Line) -> Told:
    line.need("template")
    return parse_told(line)


def _prompt(line: Line, role: str) -> Template:
    line.need(role)
    parts: list[str | Slot] = []
    for piece in re.split(r"(\{\{|\}\}|\{[A-Za-z_]\w*\})", line.text(), flags=re.ASCII):
        if re.fullmatch(r"\{\w+\}", piece):
            parts.append(Slot(piece[1:-1]))
        elif piece:
            text = {"{{": "{", "}}": "}"}.get(piece, piece)
            if parts and isinstance(parts[-1], str):
                parts[-1] += text
            else:
                parts.append(text)
    return tuple(parts)


def _lengths(line: Line) -> tuple[str, ...]:
    """`len(a#1)+len(b#1)`."""
    found: list[str] = []
    while not found or line.has("+"):
        line.need("len", "(")
        found.append(line.segment())
        line.need(")")
    return tuple(found)


def _bracket(line: Line, word: str, item: Callable[[Line], T]) -> tuple[T, ...]:
    """`word [item, ...]`."""
    line.need(word, "[")
    return line.listed(lambda: item(line), "]")


def _think(line: Line) -> Think:
    line.need("think")
    steps = line.integer()
    line.need("align", "=")
    return Think(steps, line.word(*ALIGNMENTS), line.has("stop"))


def _answer(line: Line) -> Answer:
    line.need("answer")
    sampling = _sampling(line)
    return Answer(line.name() if line.has("->") else None, sampling)


def _keep(line: Line) -> Keep:
    line.need("keeps")
    what = cast(Kept, line.word(*get_args(Kept)))
    line.need("for")
    return Keep(what, line.listed(line.segment, ""))


def _loss(line: Line) -> Loss:
    line.need("loss")
    output = line.take("name", "segment", what="an output or a segment")
    line.need("column", "=")
    column = _data_column(line)
    line.need("reaches")
    return Loss(output, column, line.listed(lambda: _reach(line), ""))


def _column(line: Line) -> tuple[str, str]:
    line.need("column")
    name = line.name()
    line.need("=")
    return name, _data_column(line)


def _data_column(line: Line) -> str:
    token = line.peek()
    return line.text() if token is not None and token.kind == "text" else line.name()


def _view(line: Line) -> View | TraceOf:
    trace = line.has("trace")
    if trace:
        line.need("(")
    segment = line.segment()
    if trace:
        line.need(")")
    part = "all" if trace else line.part()
    layers, stop = line.layers(), line.has("stop")
    shift: tuple[str, ...] = ()
    if line.has("shift"):
        line.need("=")
        shift = _lengths(line)
    until = None
    if line.has("until"):
        line.need("=")
        until = line.integer()
    gates: tuple[Gate, ...] = ()
    if line.has("gate"):
        line.need("=")
        gates = _gates(line)
    cut = line.has("cut")
    return (
        TraceOf(segment, layers, stop, shift, until, cut, gates)
        if trace
        else View(segment, part, layers, stop, shift, until, cut, gates)
    )


def _gates(line: Line) -> tuple[Gate, ...]:
    """`kv(a, b)+kv(b, c)`."""
    found: list[Gate] = []
    while not found or line.has("+"):
        line.need(PLAIN.kind, "(")
        sender = line.name()
        line.need(",")
        found.append((sender, line.name()))
        line.need(")")
    return tuple(found)


def _at(line: Line) -> tuple[End, ...]:
    if line.has("0"):
        return ()
    if line.has("max"):
        line.need("(")
        return line.listed(lambda: _end(line), ")")
    return (_end(line),)


def _end(line: Line) -> End:
    line.need("end", "(")
    segment, part = line.segment(), line.part()
    line.need(")")
    return End(segment, part, _lengths(line) if line.has("+") else ())


def _sampling(line: Line) -> Sampling:
    line.need("max_tokens", "=")
    max_tokens = line.integer()
    line.need("temperature", "=")
    temperature = line.real()
    line.need("top_p", "=")
    top_p = line.real()
    line.need("seed", "=")
    seed = line.integer()
    line.need("stop", "=", "[")
    return Sampling(max_tokens, temperature, top_p, seed, line.listed(line.text, "]"))


def _reach(line: Line) -> Reach | LatentMap | Across:
    agent = line.name()
    if agent == "map" and line.has("("):
        mapped = LatentMap(line.name())
        line.need(")")
        return mapped
    if agent in _LINKED and line.has("("):
        sender = line.name()
        line.need(",")
        receiver = line.name()
        layers = line.layers() if line.has(",") else None
        line.need(")")
        return Across(agent, sender, receiver, layers)
    if not line.has("."):
        return Reach(agent)
    line.need("kv", "(")
    layer = line.integer()
    line.need(")")
    return Reach(agent, layer)
