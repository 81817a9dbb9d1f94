"""An agent's adapter, and how it is written. Its options are declared in `compiler/language/adapters.py`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from masc.compiler.ir.lines import Line
from masc.compiler.ir.words import NAME, number_text, quote
from masc.compiler.language.adapters import ADAPTERS, LORA
from masc.compiler.language.declare import Adapter, AdapterOption, Form

_MOST = 2**63
_EQUALS: dict[Form, str] = {"plan": "=", "panel": " = ", "weights": " = "}
"""The forms that list options by name, and what stands between name and value."""


@dataclass(frozen=True)
class Lora:
    """`targets`: ("all",), ("attention",), ("mlp",) or names of linear projections (`q_proj`, ...). start: the trained
    adapter that it begins with, a folder or an id on the hub (None: it is drawn). The rest is as the language says."""

    rank: int = 16
    alpha: float = 32.0
    targets: tuple[str, ...] = ("all",)
    dropout: float = 0.0
    rslora: bool = False
    dora: bool = False
    start: str | None = None

    @property
    def additive(self) -> bool:
        """Whether it adds to what a projection gives and changes nothing else of it."""
        return not self.dora

    def of_rank(self, rank: int) -> Lora:
        """A fresh one of another rank, with outputs as strong."""
        share = rank / self.rank
        return replace(self, rank=rank, alpha=self.alpha * (share**0.5 if self.rslora else share), start=None)

    def promises(self) -> Iterator[tuple[bool, str]]:
        """What holds of it in a plan: whether, and what."""
        yield 1 <= self.rank < _MOST and 0 < self.alpha < math.inf, "a rank and its alpha are positive"
        yield 0 <= self.dropout < 1, "dropout is a share below 1"
        once = len(set(self.targets)) == len(self.targets)
        yield bool(self.targets) and once, "an adapter has targets, each once"
        yield all(map(NAME.fullmatch, self.targets)), "targets are names"
        yield self.start != "", "an adapter begins with one that has a name"


def adapter_text(lora: Lora | None, shares: str | None, form: Form) -> str:
    """An agent's adapter in a form. lora None: it has none; shares: the agent whose adapter it is."""
    kind = _kind(lora, shares)
    if lora is None or shares is not None:
        return kind.forms[form].format(of=shares)
    texts = {"options": _options(lora, form), "noun": _noun(lora, form), "start": _start(lora, form)}
    return kind.forms[form].format(**texts)


def _kind(lora: Lora | None, shares: str | None) -> Adapter:
    of, own = shares is not None, shares is None and lora is not None
    return next(kind for kind in ADAPTERS.values() if kind.of == of and bool(kind.options) == own)


def _options(lora: Lora, form: Form) -> str:
    if form in _EQUALS:
        told = (option for option in LORA.values() if option.weights or form != "weights")
        return ", ".join(filter(None, (_listed(lora, option, form) for option in told)))
    return "".join(_put(lora, option, form) for option in LORA.values())


def _listed(lora: Lora, option: AdapterOption, form: Form) -> str:
    value = getattr(lora, option.name)
    if option.flag:
        return option.name if value else ""
    return f"{option.name}{_EQUALS[form]}{_value(value, form)}"


def _put(lora: Lora, option: AdapterOption, form: Form) -> str:
    """An option as a form says that it is written."""
    value = getattr(lora, option.name)
    pattern = {"graph": option.graph, "drawing": option.drawing, "hover": option.hover}[form]
    if option.flag:
        return pattern.format(option.name) if value else ""
    if form == "drawing" and not option.always and value == getattr(Lora(), option.name):
        return ""
    return pattern.format(_value(value, form))


def _value(value: Any, form: Form) -> str:
    if isinstance(value, tuple):
        return ("+" if form in ("plan", "graph", "weights") else ", ").join(value)
    return f"{value:g}" if form in ("hover", "weights") else number_text(value)


def _noun(lora: Lora, form: Form) -> str:
    has = [option for option in LORA.values() if option.flag and getattr(lora, option.name)]
    noun = next((option.noun for option in has if option.noun), "LoRA")
    return ("".join(option.adjective for option in has) if form == "hover" else "") + noun


def _start(lora: Lora, form: Form) -> str:
    if lora.start is None:
        return ""
    return f", begins with {lora.start}" if form == "panel" else f" from {quote(lora.start)}"


def parse_adapter(line: Line) -> tuple[Lora | None, str | None]:
    """Read what `adapter_text` wrote into a plan: an adapter, or the agent whose it is."""
    if line.has("as"):
        return None, line.name()
    return None if line.has("none") else _parse(line), None


def _parse(line: Line) -> Lora:
    found: dict[str, Any] = {}
    line.need("lora", "(")
    for option in LORA.values():
        if not option.flag:
            line.need(*([","] if found else []), option.name, "=")
            found[option.name] = _read(line, option)
    flags = [option.name for option in LORA.values() if option.flag]
    while line.has(","):
        found[line.word(*flags)] = True
    line.need(")")
    return Lora(**found, start=line.text() if line.has("from") else None)


def _read(line: Line, option: AdapterOption) -> Any:
    if option.reads.bounds is not None:
        return line.integer() if option.reads.bounds.whole else line.real()
    names = [line.name()]
    while line.has("+"):
        names.append(line.name())
    return tuple(names)
