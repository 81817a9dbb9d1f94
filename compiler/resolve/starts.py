"""What an adapter begins with: `adapt lora(...) from "folder"` looked up, and what is left out taken from there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from masc.compiler.ir.adapter import Lora
from masc.compiler.language.adapters import LORA
from masc.compiler.language.values import Scope
from masc.compiler.models.peft import CONFIG, AdapterFacts, differences, locate_adapter, read_adapter
from masc.dsl import syntax

_FROM_IT = [option.name for option in LORA.values() if option.weights]
"""Options that are the adapter's own where they are left out."""
_NEEDED = [name for name in _FROM_IT if not LORA[name].flag]


@dataclass(frozen=True)
class Here:
    """folder: what paths in a file are relative to; kept: the artifact whose copy of the file this is, if it is one:
    what its adapters began with may be gone, and need not be there any more."""

    folder: Path
    kept: Path | None = None


def begin(scope: Scope, agent: str, member: syntax.Adapt, said: Mapping[str, Any], here: Here) -> Lora:
    """The adapter of an agent that begins with a trained one. said: the options that are written."""
    lora, start = Lora(**said), member.start
    assert start is not None
    target = start.value
    if not isinstance(target, str) or not target:
        scope.complain("E0403", "`from` takes a folder or a Hugging Face id, in quotes", start.span)
        return lora
    found = locate_adapter(target, here.folder)
    kept = None if here.kept is None else here.kept / "adapters" / agent
    if (found is None or found[1] is None) and kept is not None and (kept / CONFIG).is_file():
        found = (found[0] if found else str((here.folder / target).absolute())), kept
    if found is None:
        hint = "name a folder that PEFT wrote (`./name`) or a Hugging Face id (`org/name`)"
        scope.complain("E0553", f"there is no adapter `{target}`: no folder with `{CONFIG}`", start.span, hint)
        return lora
    name, folder = found
    lora = replace(lora, start=name)
    if folder is None:
        return _unseen(scope, member, start, lora)
    try:
        facts = read_adapter(folder)
    except (OSError, ValueError) as error:
        scope.complain("E0554", f"masc cannot use the adapter `{target}`: {error}", start.span)
        return lora
    written = {option.name.text: option for option in member.options}
    lora = replace(lora, **{option: getattr(facts.lora, option) for option in _FROM_IT if option not in written})
    _compare(scope, target, lora, facts, written)
    return lora


def _unseen(scope: Scope, member: syntax.Adapt, start: syntax.Literal, lora: Lora) -> Lora:
    """An adapter on the hub that nobody has fetched: all that the plan needs of it must be written."""
    written = {option.name.text for option in member.options}
    if missing := [name for name in _NEEDED if name not in written]:
        message = f"`{lora.start}` is not on disk, and would have to say what is left out here: {', '.join(missing)}"
        hint = f"write `lora(rank = ..., alpha = ..., targets = ...)`, or fetch it: `hf download {lora.start}`"
        scope.complain("E0553", message, start.span, hint)
        return lora
    note = f"the adapter `{lora.start}` is not on disk yet: it is checked once it is fetched"
    scope.complain("I0501", note, start.span)
    return lora


def _compare(scope: Scope, target: str, lora: Lora, facts: AdapterFacts, written: Mapping[str, syntax.Option]) -> None:
    for name, (own, theirs) in differences(lora, facts).items():
        message = f"`{name}` is {own} here, and {theirs} in the adapter `{target}`"
        hint = f"take it out: what is left out is the adapter's own; another {name} needs a fresh adapter"
        scope.complain("E0555", message, written[name].span, hint)
