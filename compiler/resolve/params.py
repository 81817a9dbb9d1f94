"""Parameters and `--set`: what `param` declares, replaced by what the command line says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from masc.compiler.language.other_names import meant
from masc.compiler.language.values import Constant, Scope, plain, show
from masc.dsl.diagnostics import Diagnostic, did_you_mean
from masc.dsl.one_value import parse_value
from masc.dsl.source import Source, Span
from masc.dsl.strings import HALF, half_alone
from masc.dsl.syntax import Literal, Name, Param, Value

TYPES: dict[str, tuple[str, type | tuple[type, ...]]] = {
    "int": ("a whole number", int),
    "float": ("a number", (int, float)),
    "bool": ("true or false", bool),
    "text": ("a text in quotes", str),
}
INPUT = "input"
"""The type of a template's field that stands for an input of the graph."""
FIELD_TYPES: dict[str, str] = {kind: wants for kind, (wants, _) in TYPES.items()} | {INPUT: "an input of the graph"}
"""What the fields of templates take, by type."""
SAMPLES: dict[str, int | float | bool | str] = {"int": 1, "float": 0.5, "bool": True, "text": "x"}
"""A value of each type."""
_BOOLS = {"true": True, "false": False}


def declare(scope: Scope, param: Param, settings: Mapping[str, str]) -> None:
    """Put a parameter's value into the scope: the one set, else its default."""
    name, kind = param.name.text, param.type.text
    if kind not in TYPES:
        hint = did_you_mean(kind, list(TYPES)) or f"the types are {', '.join(TYPES)}"
        scope.complain("E0405", f"there is no type `{kind}`", param.type.span, hint)
        scope.lost.add("param")
        return
    value = argument(name, settings[name], kind) if name in settings else param.default
    constant = fit(value.value, kind) if isinstance(value, Literal) else None
    if constant is None:
        got = (
            f"`{value.text}`" if isinstance(value, Name) else show(value.value if isinstance(value, Literal) else value)
        )
        word = meant(value.text, ("true", "false")) if kind == "bool" and isinstance(value, Name) else None
        scope.complain("E0403", f"the parameter `{name}` takes {TYPES[kind][0]}, not {got}", value.span, word)
        scope.lost.add("param")
        return
    scope.params[name] = Constant(constant, value.span if name in settings else param.span, plain(value))


def fit(value: object, kind: str) -> int | float | bool | str | None:
    """A value as one of a type (a whole number is a number too); None if it is not of that type."""
    if not isinstance(value, TYPES[kind][1]) or (isinstance(value, bool) and kind != "bool"):
        return None
    assert isinstance(value, int | float | str)
    if kind == "float":
        try:
            return float(value)
        except OverflowError:
            return float("inf")  # the option that uses it refuses it
    return value


def argument(name: str, text: str, kind: str) -> Value:
    """The value of `--set name=text` as a syntax node that stands in a source of its own, so that carets can point at
    it.

    `kind`: int, float, bool, text, word (one of an option's own words), or entry (as it would stand in `train`). What
    does not fit becomes text, and whoever reads the value complains.
    """
    text = str(text)
    source = Source("--set", f"{name}={text}")
    span = Span(source, len(name) + 1, len(name) + 1 + len(text))
    if kind == "entry":
        return parse_value(source, name, span.start) or Name(span, text)
    if kind == "word":
        return Name(span, text)
    if kind == "bool" and text.lower() in _BOOLS:
        return Literal(span, _BOOLS[text.lower()])
    for convert in {"int": (int,), "float": (int, float)}.get(kind, ()):
        try:
            return Literal(span, convert(text))
        except ValueError:
            continue
    return Literal(span, text)


def unknown_settings(settings: Mapping[str, str], params: Sequence[str], entries: Sequence[str]) -> list[Diagnostic]:
    """Complaints about names that are neither a parameter of some file nor a train entry, and about values that are no
    text (a shell passes on what is not UTF-8 as halves of characters)."""
    found = []
    for name, text in settings.items():
        found += [
            half_alone(Span(Source("--set", f"{name}={text}"), *half.span()))
            for half in HALF.finditer(f"{name}={text}")
        ]
        if name not in params and name not in entries:
            source = Source("--set", f"{name}={text}")
            have = f"the file's parameters are {', '.join(params)}" if params else "the file has no parameters"
            hint = did_you_mean(name, [*params, *entries]) or f"{have}; train entries can be set too"
            message = f"nothing called `{name}` can be set"
            found.append(Diagnostic("E0206", message, Span(source, 0, len(name)), hint=hint))
    return found
