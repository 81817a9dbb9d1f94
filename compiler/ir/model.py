"""How a base model is loaded, and how that is written. Its options are declared in `compiler/language/models.py`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from masc.compiler.ir.lines import Line
from masc.compiler.ir.words import NAME, number_text, quote
from masc.compiler.language.models import DEVICE, LOADS, MODEL, QUANTISED, REVISION, Plain, Variable

Told = tuple[tuple[str, Plain], ...]
"""What a chat template is told: names and values, in the order of the names."""


def told_of(wide: tuple[Variable, ...], narrow: tuple[Variable, ...]) -> tuple[Variable, ...]:
    """All variables, by name; what is said twice counts as the narrow ones say it."""
    found = {one.name: one for one in (*wide, *narrow)}
    return tuple(found[name] for name in sorted(found))


@dataclass(frozen=True)
class Loading:
    """How a model is loaded. revision: of a repository on the hub (None: its main branch); load: of `LOADS` (None: in
    the caller's dtype, or as a checkpoint that is quantised says); device: None: the caller's."""

    revision: str | None = None
    load: str | None = None
    device: str | None = None

    @property
    def quantised(self) -> bool:
        """Whether its weights are quantised as they are loaded."""
        return self.load in QUANTISED

    @property
    def text(self) -> str:
        """As it stands in a plan: ` load=nf4 device="cuda:1"`; nothing where nothing is said."""
        return "".join(f" {name}={_written(name, value)}" for name, value in self.said())

    def said(self) -> Iterator[tuple[str, str]]:
        """What is said of it, in the order of the declarations."""
        for one in fields(self):
            if (value := getattr(self, one.name)) is not None:
                yield one.name, value

    @property
    def of_weights(self) -> Loading:
        """As far as it decides what is computed: where and in which dtype is the caller's matter."""
        return replace(self, load=self.load if self.quantised else None, device=None)

    def promises(self) -> Iterator[tuple[bool, str]]:
        """What holds of it in a plan: whether, and what."""
        yield self.load is None or self.load in LOADS, "a model is loaded in a way that there is"
        yield self.revision is None or bool(REVISION.fullmatch(self.revision)), "a revision is a name"
        yield self.device is None or bool(DEVICE.fullmatch(self.device)), "a device is a name"


PLAIN = Loading()
"""As the caller says."""


def _written(name: str, value: str) -> str:
    return value if MODEL[name].reads.words else quote(value)


def parse_loading(line: Line) -> Loading:
    """Read what `Loading.text` wrote."""
    found: dict[str, Any] = {}
    for one in fields(Loading):
        if line.has(one.name):
            line.need("=")
            words = MODEL[one.name].reads.words
            found[one.name] = line.word(*words) if words else line.text()
    return Loading(**found)


def told_text(told: Told) -> str:
    """Variables as they stand in a plan: `depth=3 enable_thinking=false name="x"`."""
    return " ".join(f"{name}={_value(value)}" for name, value in told)


def _value(value: Plain) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value)  # with its point: 1.0 is no whole number
    return quote(value) if isinstance(value, str) else number_text(value)


def parse_told(line: Line) -> Told:
    """Read what `told_text` wrote."""
    found: list[tuple[str, Plain]] = []
    while line.peek() is not None:
        name = line.name()
        line.need("=")
        found.append((name, _read(line)))
    return tuple(found)


def _read(line: Line) -> Plain:
    if line.has("true"):
        return True
    if line.has("false"):
        return False
    token = line.peek()
    if token is not None and token.kind == "text":
        return line.text()
    number = token.text if token is not None else ""
    return line.real() if {*number} & {*".e"} else line.integer()


def well_told(told: Told) -> bool:
    """Whether variables are names, each once and in order."""
    names = [name for name, _ in told]
    return names == sorted(set(names)) and all(map(NAME.fullmatch, names))
