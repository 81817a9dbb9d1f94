"""What must hold before a run of training begins: its settings, its rows, and that there is something to train."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from masc.backends.torch.data.check import columns_of
from masc.backends.torch.data.values import Row, names_of
from masc.backends.torch.model.loading import is_spread
from masc.backends.torch.model.prompts import value
from masc.backends.torch.program import Program
from masc.backends.torch.training.objective import Objective
from masc.compiler.analysis.policy import sampled_texts
from masc.compiler.ir.plan import TrainSettings, agent_of
from masc.compiler.language.objectives import SUPERVISED
from masc.compiler.language.objectives import Grpo as Said
from masc.compiler.language.other_names import meant
from masc.compiler.language.train import NUMBERS
from masc.dsl.diagnostics import Diagnostic, MascError, fail


def never_closed(program: Program, steps: int) -> list[Diagnostic]:
    """W0304 for each edge that is open for as long as training goes."""
    found = {
        (agent_of(view.segment), turn.agent): view.until
        for turn in program.plan.turns
        for view in turn.sees
        if view.until is not None and view.until >= steps
    }
    return [
        Diagnostic(
            "W0304",
            f"the channel from `{sender}` to `{receiver}` never closes: it is open for {until} steps, and training has "
            f"{steps}",
        )
        for (sender, receiver), until in found.items()
    ]


_ELSEWHERE = {
    "data": "the rows are the second argument",
    "eval_data": "rows to evaluate on are `eval_rows`",
    "dtype": "it is that of the base models: give it to `masc.compile`",
    "objective": "a reward is `reward`; without one the graph says what counts",
}
"""Entries of a `train` block that mean something to the command alone."""


def chosen_of(written: TrainSettings, settings: Mapping[str, Any]) -> TrainSettings:
    """A `train` block with other entries. TypeError, ValueError for those that are none."""
    names = {field.name for field in dataclasses.fields(TrainSettings)}
    if unknown := sorted(set(settings) - names):
        known = sorted(names - set(_ELSEWHERE))
        hint = meant(unknown[0], known) or f"known are {', '.join(known)}"
        raise TypeError(f"unknown train setting {unknown[0]!r}: {hint}")
    for name, where in _ELSEWHERE.items():
        if settings.get(name) is not None:
            raise TypeError(f"train does not read {name!r}: {where}")
    return checked(dataclasses.replace(written, **settings))


def checked(settings: TrainSettings) -> TrainSettings:
    """The settings, if each is of the type and in the range that a `train` block takes; else ValueError."""
    for name, limits in NUMBERS.items():
        if wrong := limits.complaint(name, getattr(settings, name)):
            raise ValueError(wrong)
    plain = {name: limits.plain(getattr(settings, name)) for name, limits in NUMBERS.items()}
    settings = dataclasses.replace(settings, **plain)
    if settings.checkpoint not in ("none", "agent"):
        raise ValueError(f"`checkpoint` is {settings.checkpoint!r}, which is neither 'none' nor 'agent'")
    if isinstance(settings.objective, dict):  # of a checkpoint
        settings = dataclasses.replace(settings, objective=Said(**settings.objective))
    if not isinstance(settings.objective, Said) and settings.objective != SUPERVISED:
        raise ValueError(f"`objective` is {settings.objective!r}, which is none")
    for name in ("data", "eval_data", "dtype"):
        if not isinstance(getattr(settings, name), str | None):
            raise ValueError(f"`{name}` takes a text, not {getattr(settings, name)!r}")
    return settings


def check_rows(
    program: Program,
    rows: list[Row],
    eval_rows: list[Row] | None,
    texts: bool,
    max_length: int,
    objective: Objective,
) -> None:
    if not rows:
        raise fail("E0605", "there are no rows to train on")
    for given, told, labels in ((rows, True, objective.compares), (eval_rows or [], texts, True)):
        columns = columns_of(program.plan, labels=labels, texts=told)
        for i, row in enumerate(given):
            for column in columns:
                if column not in row and given is rows and not objective.told and column not in program.plan.inputs:
                    message = f"row {i + 1} has no column `{column}`, which {objective.text()} compares with"
                    raise fail("E0604", message, hint=f"it has {names_of(row)}")
                value(row, column, i)
    with program.holding(max_length=max_length):
        program.check_lengths(rows, labels=objective.told)
        with of_evaluation():
            program.check_lengths(eval_rows or [])


@contextmanager
def of_evaluation() -> Iterator[None]:
    """What is wrong with rows within it is told of the evaluation data."""
    try:
        yield
    except MascError as error:
        raise MascError(
            [dataclasses.replace(d, message=f"of the evaluation data, {d.message}") for d in error.diagnostics]
        ) from error


def parameters_of(program: Program, objective: Objective) -> dict[str, torch.nn.Parameter]:
    """What is trained, by name. With a reward also by way of what agents sample for each other. E0609 where that is
    nothing, E0649 where a model is spread over several devices, ValueError where it is more than adapters and links."""
    for base in program.models:
        if is_spread(base.model):
            message = f"the model in `{base.folder}` is spread over several devices, which is for running it"
            raise fail("E0649", message, hint="FSDP2 trains a model that no card holds (docs/cluster.md)")
    parameters = program.trainable()
    if not parameters:
        raise fail("E0609", "nothing can be trained: every agent is `adapt none`")
    if not (any(loss.reaches for loss in program.plan.losses) or (not objective.told and sampled_texts(program.plan))):
        raise fail("E0609", "nothing can be trained: no gradient reaches an adapter", hint="`masc check` says why")
    for name in parameters:
        if not (".lora_" in name or name.startswith(("links.", "across."))):
            raise ValueError(f"{name} is the base model's, which stays frozen: switch its requires_grad off")
    return parameters
