"""Checks of a command's options before any work is done. Each returns a complaint, or None."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from masc.dsl.diagnostics import FAR, Diagnostic, did_you_mean, fail

DTYPES = ["float32", "bfloat16", "float64"]
"""The same list as in the backend, which takes seconds to import: mistakes in a file are shown before that."""


def device_problem(name: str) -> str | None:
    """Whether torch can put a tensor on a device and read it back. `auto` says: where there is room."""
    from masc.backends.torch.build import why_not

    why = None if name == "auto" else why_not(name)
    return None if why is None else f"cannot use the device `{name}`: {why[:FAR]}"


def dtype_problem(name: str) -> str | None:
    return _not_one_of(name, DTYPES, "dtype")


def scorer_problem(name: str, code: bool) -> str | None:
    """code: whether the scorer `code` may be chosen."""
    from masc.compiler.language.scorers import scorer_problem as problem

    return problem(name, code)


def task_problem(name: str) -> str | None:
    from masc.backends.torch.evaluation.tasks import task_problem as problem

    return problem(name)


def tracker_problem(name: str) -> str | None:
    """Checked here because accelerate silently ignores a tracker that is not installed."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    known = [str(kind) for kind in LOGGER_TYPE_TO_CLASS]
    if problem := _not_one_of(name, known, "tracker"):
        return problem
    if name not in [str(kind) for kind in get_available_trackers()]:
        return f"the tracker `{name}` is not installed: pip install {name.replace('_', '-')}"
    return None


def _not_one_of(name: str, known: list[str], what: str) -> str | None:
    hint = did_you_mean(name, known) or f"known are {', '.join(known)}"
    return None if name in known else f"unknown {what} `{name}`: {hint}"


def check_inputs(row: Mapping[str, Any], inputs: Sequence[str], used: Sequence[str]) -> None:
    """E0604 if a row has a name that is no input of the graph, or lacks an input that a prompt uses."""
    if unknown := sorted(set(row) - set(inputs)):
        has = f"its inputs are {', '.join(inputs)}" if inputs else "it has none"
        hint = did_you_mean(unknown[0], inputs) or has
        raise fail("E0604", f"the graph has no input `{unknown[0]}`", hint=hint)
    if missing := [name for name in used if name not in row]:
        also = " ".join(f'--input {name}="..."' for name in missing)
        raise fail("E0604", f"the input `{missing[0]}` is not given", hint=f"add {also}")


def explained(diagnostics: Iterable[Diagnostic], kept: Mapping[str, str]) -> tuple[Diagnostic, ...]:
    """The diagnostics. Those about a `--set` that an artifact remembers (`kept`) say how to make it forget that."""
    return tuple(replace(d, hint=_FORGET.format(name)) if (name := _set_name(d)) in kept else d for d in diagnostics)


_FORGET = "`{}` is remembered from an earlier `masc compile --set`; `masc compile` without it forgets it"


def _set_name(diagnostic: Diagnostic) -> str:
    span = diagnostic.span
    return span.source.text.partition("=")[0] if span is not None and span.source.path == "--set" else ""
