"""Reading values: what an option accepts is a Reader, and every complaint about a value is made here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from masc.compiler.language.bounds import LAST_LAYER, MOST, Bounds
from masc.compiler.language.other_names import meant
from masc.dsl import strings
from masc.dsl.diagnostics import Diagnostic, Label, did_you_mean
from masc.dsl.formatter import format_value
from masc.dsl.limits import ALIKE
from masc.dsl.source import Span
from masc.dsl.syntax import List, Literal, Name, Range, Table, Value


class BadValueError(Exception):
    """Internal to reading: the value is unusable and has been complained about."""


@dataclass(frozen=True)
class Constant:
    """The value of a parameter or of a template's field. `span`: its declaration, or what replaced it (`--set`, an
    argument); `text`: what it is in a prompt; `slot`: it is an input of the graph, and stands in prompts alone."""

    value: int | float | str | bool
    span: Span
    text: str
    slot: bool = False


@dataclass
class Scope:
    """What bare names mean while values are read, which parameters were used, and what was found wrong."""

    params: dict[str, Constant] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    notes: list[Diagnostic] = field(default_factory=list)
    told: Counter[str] = field(default_factory=Counter)
    """How many complaints there were of each code."""

    def complain(
        self, code: str, message: str, span: Span, hint: str | Callable[[], str | None] | None = None, *labels: Label
    ) -> None:
        """Note a complaint. A hint that takes time to find is given as a function: after very many of one code none is
        looked for, since they will not all be told (see `alike.py`)."""
        self.told[code] += 1
        if callable(hint):
            hint = hint() if self.told[code] <= ALIKE else None
        self.notes.append(Diagnostic(code, message, span, labels, hint))

    def constant(self, value: Value) -> tuple[Any, tuple[Label, ...]]:
        """A value with parameters put in (lists and ranges stay as written), and where it came from."""
        if isinstance(value, Literal):
            return value.value, ()
        if not isinstance(value, Name):
            return value, ()
        if (param := self.params.get(value.text)) is None:
            self.lost.add("use")
            if "param" not in self.lost:
                declare = f"declare it: `param {value.text}: int = 1`; text stands in quotes"
                message = f"there is no parameter `{value.text}`"
                self.complain("E0201", message, value.span, lambda: did_you_mean(value.text, self.params) or declare)
            raise BadValueError
        self.used.add(value.text)
        if param.slot:
            message = f"`{value.text}` is an input of the graph, which only prompts can use"
            self.complain("E0403", message, value.span, f"a prompt shows it where it says `{{{value.text}}}`")
            raise BadValueError
        return param.value, (Label(param.span, f"`{value.text}` is {show(param.value)} here"),)


@dataclass(frozen=True)
class Reader:
    """What an option accepts. `read` reads the value of the named option, or complains and raises BadValueError.

    schema  what can be written, as JSON Schema (in YAML; that a parameter may stand for it is not in there)
    words   the words of its own that it takes; `items`: those that stand in a list
    takes   what else it takes, in words
    bounds  of a number
    type    how `--set` reads it: a param's type, or "word"
    """

    read: Callable[[Scope, str, Value], Any]
    schema: Mapping[str, Any]
    words: tuple[str, ...] = ()
    items: tuple[str, ...] = ()
    takes: str = ""
    bounds: Bounds | None = None
    type: str = "word"

    def __call__(self, scope: Scope, name: str, value: Value) -> Any:
        return self.read(scope, name, value)


def show(value: object) -> str:
    """A value in words, for messages."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'the text "{value}"'
    if isinstance(value, List):
        return "a list"
    if isinstance(value, Table):
        return "names and values in parentheses"
    if isinstance(value, Range):
        return f"the range {value.first}..{value.last}"
    return str(value)


def _as_number(got: object, wants: str) -> str | None:
    """The hint for a number that is written as another kind of value."""
    number = strings.number(got) if isinstance(got, str) else got if isinstance(got, float) else None
    if "number" not in wants or number is None or ("whole" in wants and number != int(number)):
        return None
    return f"write {int(number) if 'whole' in wants else number}"


def plain(value: Value) -> str:
    """A literal as a prompt shows it: a text without its quotes, everything else as the formatter writes it."""
    return value.value if isinstance(value, Literal) and isinstance(value.value, str) else format_value(value)


def mismatch(
    scope: Scope, name: str, wants: str, got: object, value: Value, labels: Sequence[Label], hint: str | None = None
) -> BadValueError:
    scope.complain(
        "E0403", f"`{name}` takes {wants}, not {show(got)}", value.span, hint or _as_number(got, wants), *labels
    )
    return BadValueError()


def numeric(bounds: Bounds, hint: str | None = None) -> Reader:
    """A number within bounds: whole ones as int, all others as float. hint: for one that is out of bounds."""

    def read(scope: Scope, name: str, value: Value) -> int | float:
        got, labels = scope.constant(value)
        if not bounds.fits(got):
            raise mismatch(scope, name, bounds.kind, got, value, labels)
        if not bounds.holds(got):
            message = f"`{name}` is {got}: it must be {bounds.limit(got)}"
            scope.complain("E0404", message, value.span, hint, *labels)
            raise BadValueError
        number: int | float = got if bounds.whole else float(got)
        return number

    limits: dict[str, Any] = {"type": "integer" if bounds.whole else "number", "minimum": bounds.low}
    if bounds.high < MOST:
        limits["maximum"] = bounds.high
    schema = {"anyOf": [{"const": 0}, limits]} if bounds.zero else limits
    return Reader(read, schema, takes=bounds.takes, bounds=bounds, type="int" if bounds.whole else "float")


def word(*words: str) -> Reader:
    """One of an option's own words. They win over parameters; a text parameter may hold one of them."""

    def read(scope: Scope, name: str, value: Value) -> str:
        if isinstance(value, Name) and value.text in words:
            return value.text
        wants = " or ".join(f"`{w}`" for w in words)
        if isinstance(value, Name) and value.text not in scope.params:
            hint = meant(value.text, words)
            scope.complain("E0405", f"`{name}` takes {wants}, not `{value.text}`", value.span, hint)
            raise BadValueError
        got, labels = scope.constant(value)
        if not isinstance(value, Name) or got not in words:
            hint = (
                f"without the quotes: `{got}`" if isinstance(got, str) and got in words else meant(plain(value), words)
            )
            raise mismatch(scope, name, wants, got, value, labels, hint)
        return str(got)

    return Reader(read, {"enum": list(words)}, words=words)


def _truth(scope: Scope, name: str, value: Value) -> bool:
    got, labels = scope.constant(value)
    if not isinstance(got, bool):
        hint = meant(plain(value), ("true", "false"))
        raise mismatch(scope, name, "true or false", got, value, labels, hint)
    return got


truth = Reader(_truth, {"type": "boolean"}, words=("false", "true"), type="bool")
"""`true` or `false`."""


def _text(scope: Scope, name: str, value: Value) -> str:
    got, labels = scope.constant(value)
    if not isinstance(got, str):
        raise mismatch(scope, name, "a text in quotes", got, value, labels)
    return got


text = Reader(_text, {"type": "string"}, takes="a text in quotes", type="text")
"""A text in quotes."""


def _stops(scope: Scope, name: str, value: Value) -> tuple[str, ...]:
    """A text or a list of texts, none of them empty (an empty one would end every answer at once)."""
    found = []
    for item in value.items if isinstance(value, List) else (value,):
        found.append(text(scope, name, item))
        if not found[-1]:
            scope.complain("E0404", f"`{name}` holds an empty text: it would end every answer at once", item.span)
            raise BadValueError
    return tuple(dict.fromkeys(found))


_STOP = {"type": "string", "minLength": 1}
stops = Reader(
    _stops, {"anyOf": [_STOP, {"type": "array", "items": _STOP}]}, takes="a text or a list of texts", type="text"
)
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


_GROUPS = word("all", "attention", "mlp")
_PROJECTION = word(*PROJECTIONS)


def _targets(scope: Scope, name: str, value: Value) -> tuple[str, ...]:
    """`all`, `attention`, `mlp`, or a list of linear projections."""
    alone = plain(value)
    if alone in PROJECTIONS and alone not in scope.params:
        wants = "`all`, `attention`, `mlp` or a list of projections"
        raise mismatch(scope, name, wants, f"{alone}", value, (), f"write `[{alone}]`")
    if not isinstance(value, List):
        return (_GROUPS(scope, name, value),)
    if not value.items:
        message = f"`{name}` is an empty list: nothing would be adapted"
        scope.complain("E0404", message, value.span, "write `adapt none`")
        raise BadValueError
    return tuple(dict.fromkeys(_PROJECTION(scope, name, item) for item in value.items))


_SOME = {"type": "array", "items": _PROJECTION.schema, "minItems": 1}
targets = Reader(
    _targets,
    {"anyOf": [_GROUPS.schema, _SOME]},
    words=_GROUPS.words,
    items=PROJECTIONS,
    takes=f"a list of {', '.join(PROJECTIONS)}",
)


def _layers(scope: Scope, name: str, value: Value) -> tuple[int, int] | None:
    """`all` (None) or a range of layers, both ends included."""
    if isinstance(value, Name) and value.text == "all":
        return None
    if not isinstance(value, Range):
        got, labels = scope.constant(value)
        hint = f"`{got}..{got}` is the one layer" if isinstance(got, int) and not isinstance(got, bool) else None
        if isinstance(value, List) and value.items:
            hint = f"write `{format_value(value.items[0])}..{format_value(value.items[-1])}`"
        raise mismatch(scope, name, "`all` or a range such as `0..9`", got, value, labels, hint)
    if value.first < 0 or value.last < value.first:
        message = f"`{name}` is {value.first}..{value.last}: it must run upwards, from 0 or more"
        hint = f"did you mean `{value.last}..{value.first}`?" if 0 <= value.last < value.first else None
        scope.complain("E0404", message, value.span, hint)
        raise BadValueError
    if value.last > LAST_LAYER:
        message = f"`{name}` is {value.first}..{value.last}: the last layer must be at most {LAST_LAYER}"
        scope.complain("E0404", message, value.span)
        raise BadValueError
    return value.first, value.last


layers = Reader(
    _layers,
    {"type": "string", "pattern": r"^(all|[0-9]+\.\.[0-9]+)$"},
    words=("all",),
    takes="a range such as 0..9",
)


def read_value(scope: Scope, reader: Reader, name: str, value: Value) -> Any:
    """What the reader reads, or None where it complained."""
    try:
        return reader(scope, name, value)
    except BadValueError:
        return None


def duplicate(scope: Scope, what: str, again: Span, first: Span) -> None:
    """The complaint about a second one of something that there can be only one of."""
    scope.complain("E0202", f"{what} is written twice", again, "keep one of them", Label(first, "first given here"))
