"""Reading the printed plan back. The format is described in `plan_text.py`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar, cast

from masc.compiler.ir.plan import (
    ALIGNS,
    Across,
    Align,
    Answer,
    BaseModel,
    End,
    Fuse,
    LatentMap,
    Lora,
    Loss,
    Operation,
    Plan,
    PlanAgent,
    Prefill,
    Reach,
    Read,
    Sampling,
    Slot,
    Splice,
    Template,
    Think,
    TrainSettings,
    View,
)
from masc.dsl.diagnostics import MascError, fail
from masc.dsl.source import Source, Span

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>"(?:[^"\\]|\\.)*")
    | (?P<arrow>->)
    | (?P<range>-?\d+\.\.-?\d+)
    | (?P<number>-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)
    | (?P<segment>[A-Za-z_]\w*\#\d+)
    | (?P<name>[A-Za-z_]\w*)
    | (?P<mark>[][(),.=+])
    )""",
    re.VERBOSE | re.ASCII,
)
_INTEGER_FIELDS = {f.name for f in fields(TrainSettings) if f.type == "int"}
T = TypeVar("T")


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    span: Span


class _Line:
    """A cursor over the tokens of one line."""

    def __init__(self, source: Source, start: int, text: str) -> None:
        self.end = Span(source, start + len(text), start + len(text))
        self.tokens: list[_Token] = []
        self.next = 0
        at = 0
        text = text.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise fail("E0520", "this is not part of a plan", Span(source, start + at, start + len(text)))
            kind = str(match.lastgroup)
            self.tokens.append(_Token(kind, match[kind], Span(source, start + match.start(kind), start + match.end())))
            at = match.end()

    def error(self, wanted: str) -> MascError:
        token = self.peek()
        got = f"`{token.text}`" if token else "the end of the line"
        return fail("E0520", f"expected {wanted}, not {got}", token.span if token else self.end)

    def peek(self) -> _Token | None:
        return self.tokens[self.next] if self.next < len(self.tokens) else None

    def take(self, *kinds: str, what: str) -> str:
        token = self.peek()
        if token is None or token.kind not in kinds:
            raise self.error(what)
        self.next += 1
        return token.text

    def has(self, text: str) -> bool:
        """Whether the next token reads so; takes it if it does. Texts in quotes never match."""
        token = self.peek()
        found = token is not None and token.text == text and token.kind != "text"
        self.next += found
        return found

    def need(self, *texts: str) -> None:
        for text in texts:
            if not self.has(text):
                raise self.error(f"`{text}`")

    def name(self) -> str:
        return self.take("name", what="a name")

    def segment(self) -> str:
        return self.take("segment", what="a segment such as `planner#1`")

    def integer(self) -> int:
        token = self.take("number", what="a whole number")
        try:
            return int(token)
        except ValueError:
            self.next -= 1
            raise self.error("a whole number") from None

    def real(self) -> float:
        return float(self.take("number", what="a number"))

    def text(self) -> str:
        try:
            return str(json.loads(self.take("text", what="a text in quotes"), strict=False))
        except ValueError:
            self.next -= 1
            raise self.error("a text in quotes (a JSON string)") from None

    def word(self, *words: str) -> str:
        token = self.peek()
        if token is None or token.text not in words:
            raise self.error(" or ".join(f"`{w}`" for w in words))
        self.next += 1
        return token.text

    def listed(self, item: Callable[[], T], close: str) -> tuple[T, ...]:
        """Items between commas up to a closing mark (an empty `close`: up to the end of the line)."""
        found: list[T] = []
        while not (self.has(close) if close else self.peek() is None):
            if found:
                self.need(",")
            found.append(item())
        return tuple(found)

    def done(self) -> None:
        if self.peek() is not None:
            raise self.error("the end of the line")


def parse(text: str) -> Plan:
    """The plan that a text describes, which may make no sense. E0520 says where it is none."""
    source = Source("<plan>", text)
    lines: list[_Line] = []
    start = 0
    for row in text.split("\n"):
        if row.strip():
            lines.append(_Line(source, start, row))
        start += len(row) + 1
    if not lines:
        raise fail("E0520", "the text is empty: a plan starts with `plan name(inputs) -> outputs`", Span(source, 0, 0))
    return _Reader(lines).plan()


class _Reader:
    def __init__(self, lines: list[_Line]) -> None:
        self.lines = lines
        self.at = 0

    def line(self, *keywords: str) -> _Line | None:
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
        agents = self.many(self.agent, "agent")
        operations = self.many(self.operation, "prefill", "think", "answer", "loss")
        train = self.train()
        if self.at < len(self.lines):
            raise self.lines[self.at].error("a line of a plan (model, agent, operation or `train`, in this order)")
        return Plan(name, inputs, outputs, models, agents, operations, train)

    def many(self, read: Callable[[_Line], T], *keywords: str) -> tuple[T, ...]:
        found: list[T] = []
        while (line := self.line(*keywords)) is not None:
            found.append(read(line))
            line.done()
        return tuple(found)

    def model(self, line: _Line) -> BaseModel:
        line.need("model")
        name = line.name()
        line.need("=")
        return BaseModel(name, line.text())

    def agent(self, line: _Line) -> PlanAgent:
        line.need("agent")
        name = line.name()
        line.need("on")
        model = line.name()
        adapters = self.many(_lora, "adapter")
        systems = self.many(lambda row: _prompt(row, "system"), "system")
        users = self.many(lambda row: _prompt(row, "user"), "user")
        if len(adapters) != 1 or len(systems) > 1 or len(users) != 1:
            end = self.lines[self.at] if self.at < len(self.lines) else line
            raise end.error("one `adapter`, at most one `system` and one `user` line of an agent")
        return PlanAgent(name, model, adapters[0], systems[0] if systems else None, users[0])

    def operation(self, line: _Line) -> Operation:
        kind = line.word("prefill", "think", "answer", "loss")
        if kind == "prefill":
            activation = line.segment()
            line.need("sees", "[")
            sees = line.listed(lambda: _view(line), "]")
            reads = _bracket(line, "reads", _read)
            splices = _bracket(line, "splices", _splice)
            fuses = _bracket(line, "fuses", _fuse)
            line.need("at")
            return Prefill(activation, sees, _at(line), reads, splices, fuses)
        if kind == "think":
            activation, steps = line.segment(), line.integer()
            line.need("align", "=")
            align = cast(Align, line.word(*ALIGNS))
            return Think(activation, steps, align, line.has("stop"))
        if kind == "answer":
            activation, sampling = line.segment(), _sampling(line)
            return Answer(activation, line.name() if line.has("->") else None, sampling)
        output = line.take("name", "segment", what="an output or a segment")
        line.need("column", "=")
        token = line.peek()
        column = line.text() if token is not None and token.kind == "text" else line.name()
        line.need("reaches")
        return Loss(output, column, line.listed(lambda: _reach(line), ""))

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
            else:
                found[name] = line.integer() if name in _INTEGER_FIELDS else line.real()
            line.done()
        return TrainSettings(**found)


def _lora(line: _Line) -> Lora | None:
    line.need("adapter")
    if line.has("none"):
        return None
    line.need("lora", "(", "rank", "=")
    rank = line.integer()
    line.need(",", "alpha", "=")
    alpha = line.real()
    line.need(",", "targets", "=")
    targets = [line.name()]
    while line.has("+"):
        targets.append(line.name())
    line.need(",", "dropout", "=")
    dropout = line.real()
    line.need(")")
    return Lora(rank, alpha, tuple(targets), dropout)


def _prompt(line: _Line, role: str) -> Template:
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


def _part(line: _Line) -> Literal["all", "latents"]:
    if line.has("."):
        line.need("latents")
        return "latents"
    return "all"


def _lengths(line: _Line) -> tuple[str, ...]:
    """`len(a#1)+len(b#1)`."""
    found: list[str] = []
    while not found or line.has("+"):
        line.need("len", "(")
        found.append(line.segment())
        line.need(")")
    return tuple(found)


def _range(line: _Line) -> tuple[int, int]:
    first, last = line.take("range", what="a range of layers such as `0..9`").split("..")
    return int(first), int(last)


def _layers(line: _Line) -> tuple[tuple[int, int], ...] | None:
    if not line.has("layers"):
        return None
    line.need("=")
    layers: tuple[tuple[int, int], ...] = (_range(line),)
    while line.has("+"):
        layers += (_range(line),)
    return layers


def _bracket(line: _Line, word: str, item: Callable[[_Line], T]) -> tuple[T, ...]:
    """`word [item, ...]`, or nothing."""
    if not line.has(word):
        return ()
    line.need("[")
    return line.listed(lambda: item(line), "]")


def _read(line: _Line) -> Read:
    return Read(line.segment(), line.has("cut"))


def _splice(line: _Line) -> Splice:
    segment, part = line.segment(), _part(line)
    line.need("shape", "=")
    shape = cast(Literal["linear", "mlp"], line.word("linear", "mlp"))
    return Splice(segment, part, shape, line.has("stop"), line.has("cut"))


def _fuse(line: _Line) -> Fuse:
    segment, layers = line.segment(), _layers(line)
    line.need("width", "=")
    return Fuse(segment, layers, line.integer(), line.has("stop"))


def _view(line: _Line) -> View:
    segment, part = line.segment(), _part(line)
    layers = _layers(line)
    stop = line.has("stop")
    shift: tuple[str, ...] = ()
    if line.has("shift"):
        line.need("=")
        shift = _lengths(line)
    until = None
    if line.has("until"):
        line.need("=")
        until = line.integer()
    return View(segment, part, layers, stop, shift, until)


def _at(line: _Line) -> tuple[End, ...]:
    if line.has("0"):
        return ()
    if line.has("max"):
        line.need("(")
        return line.listed(lambda: _end(line), ")")
    return (_end(line),)


def _end(line: _Line) -> End:
    line.need("end", "(")
    segment, part = line.segment(), _part(line)
    line.need(")")
    return End(segment, part, _lengths(line) if line.has("+") else ())


def _sampling(line: _Line) -> Sampling:
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


def _reach(line: _Line) -> Reach | LatentMap | Across:
    agent = line.name()
    if agent == "linear" and line.has("("):
        mapped = LatentMap(line.name())
        line.need(")")
        return mapped
    if agent in ("hidden", "fuse") and line.has("("):
        sender = line.name()
        line.need(",")
        receiver = line.name()
        layers = _layers(line) if line.has(",") else None
        line.need(")")
        return Across(cast(Literal["hidden", "fuse"], agent), sender, receiver, layers)
    if not line.has("."):
        return Reach(agent)
    line.need("kv", "(")
    layer = line.integer()
    line.need(")")
    return Reach(agent, layer)
