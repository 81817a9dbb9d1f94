"""Reading the options that stand in parentheses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from masc.compiler.language.declare import Option
from masc.compiler.language.other_names import meant
from masc.compiler.language.values import BadValueError, Scope, duplicate
from masc.dsl import syntax


def read_options(
    scope: Scope,
    options: Sequence[syntax.Option],
    known: Mapping[str, Option],
    owner: str,
    qualified: Sequence[str] = (),
) -> dict[str, Any]:
    """The options that could be read, by name. `owner`: whose options, in words. Only the
    `qualified` ones may say `as`."""
    found: dict[str, Any] = {}
    first: dict[str, syntax.Option] = {}
    for option in options:
        name = option.name.text
        if name not in known:
            hint = meant(name, list(known))
            hint = hint or (f"it takes {', '.join(known)}" if known else "it takes no options")
            scope.complain("E0401", f"{owner} has no option `{name}`", option.name.span, hint)
            continue
        if name in first:
            duplicate(scope, f"the option `{name}`", option.name.span, first[name].name.span)
            continue
        first[name] = option
        if option.qualifier is not None and name not in qualified:
            scope.complain("E0401", f"`{name}` takes no `as`", option.qualifier.span)
        try:
            found[name] = known[name].reads(scope, name, option.value)
        except BadValueError:
            continue
    return found
