"""What a run of training belongs to, and how another one differs from it.

A checkpoint goes on only where all that decides the coming steps is as it was: plan, base models, data, the order of
the rows, numbers. Settings that change how far and how fast training goes may differ; what that does is told.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch

from masc.backends.torch.data.check import columns_of
from masc.backends.torch.data.values import Row
from masc.backends.torch.model.prompts import value
from masc.backends.torch.program import Program
from masc.backends.torch.training.schedule import rate_at
from masc.compiler.artifact import versions
from masc.compiler.forms.differences import changed_lines
from masc.compiler.forms.essence import essence
from masc.compiler.ir.plan import Plan, Sampling, TrainSettings
from masc.dsl.diagnostics import Diagnostic


@dataclass(frozen=True)
class Origin:
    """plan: its essence; models, bases: hashes of their files and of their weights, by name; data: a hash of what the
    plan reads of the rows; kept: one of the adapters and links that are not trained (`requires_grad` switched off);
    dtype: of the base models; objective: what is made better, as a text."""

    plan: str
    models: Mapping[str, str]
    bases: Mapping[str, str]
    data: str
    rows: int
    kept: str
    seed: int
    batch: int
    accumulate: int
    processes: int
    dtype: str
    objective: str = "supervised"


@dataclass(frozen=True)
class Around:
    """What numbers depend on in their last bits: versions of libraries, the device, CPU threads; and the hash of the
    rows that are evaluated on."""

    versions: Mapping[str, str]
    device: str
    threads: int
    eval_data: str | None


def origin_of(
    program: Program, rows: Sequence[Row], settings: TrainSettings, processes: int, objective: str = "supervised"
) -> Origin:
    return Origin(
        plan=_essence(program.plan),
        models={record.name: record.hash or "" for record in program.model_records()},
        bases={model.name: _content(program, model.name) for model in program.plan.models},
        data=hash_of(program.plan, rows, texts=True),
        rows=len(rows),
        kept=_kept(program),
        seed=settings.seed,
        batch=settings.batch,
        accumulate=settings.accumulate,
        processes=processes,
        dtype=_dtype(program),
        objective=objective,
    )


def _essence(plan: Plan) -> str:
    """All of a plan that decides what training makes: how an answer is decoded only where no column supervises it."""
    decoded = plan.unsupervised()
    turns = tuple(
        replace(turn, answer=replace(turn.answer, sampling=Sampling()))
        if turn.answer is not None and turn not in decoded
        else turn
        for turn in plan.turns
    )
    return essence(replace(plan, turns=turns), decoding=True)


def around(program: Program, eval_rows: Sequence[Row] | None, texts: bool) -> Around:
    return Around(
        versions=dict(versions()),
        device=program.device.type,
        threads=torch.get_num_threads() if program.device.type == "cpu" else 0,
        eval_data=hash_of(program.plan, eval_rows, texts) if eval_rows else None,
    )


def hash_of(plan: Plan, rows: Sequence[Row], texts: bool) -> str:
    """sha256 over the texts of the columns that a plan reads, row by row; some objectives need no answers."""
    columns = columns_of(plan, labels=True, texts=texts)
    digest = hashlib.sha256(json.dumps(columns).encode())
    for i, row in enumerate(rows):
        read = [value(row, column, i) if column in row else None for column in columns]
        digest.update(json.dumps(read).encode() + b"\n")
    return digest.hexdigest()


def _content(program: Program, model: str) -> str:
    """A base model's weights as they were loaded (of large files only parts are hashed): the sums of the rows and of
    the columns of each tensor, its numbers taken for integers."""
    digest = hashlib.sha256()
    for name, parameter in program.bases[f"model_{model}"].named_parameters():
        if ".lora_" not in name and parameter.numel() > 0:
            numbers = parameter.detach().contiguous().view(_INTEGERS[parameter.element_size()])
            for axis in range(numbers.dim()) or (0,):
                sums = numbers.sum(axis, dtype=torch.int64)
                digest.update(f"{name} {axis}\n".encode() + sums.cpu().numpy().tobytes())
    return digest.hexdigest()


_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _kept(program: Program) -> str:
    """The adapters and links that stay as they are, by their bytes."""
    digest = hashlib.sha256()
    for name, parameter in program.named_parameters():
        if not parameter.requires_grad and (".lora_" in name or name.startswith(("links.", "across."))):
            digest.update(f"{name}\n".encode() + parameter.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _dtype(program: Program) -> str:
    return ", ".join(sorted({program.base(agent.name).held for agent in program.plan.agents}))


# -- reading ----------------------------------------------------------------------------------------------------------


def as_json(origin: Origin, now: Around, settings: TrainSettings) -> dict[str, Any]:
    """What a checkpoint notes."""
    return {"belongs": asdict(origin), "around": asdict(now), "settings": asdict(settings)}


def read(state: Mapping[str, Any]) -> tuple[Origin, Around, dict[str, Any]]:
    """What a checkpoint has noted; its settings are not checked. ValueError where that is not to be understood."""
    settings = state.get("settings")
    if not isinstance(settings, dict):
        raise ValueError("`settings` is not an object")
    origin = Origin(**_fields(_brought_up(state), "belongs", Origin))
    near = Around(**_fields(state, "around", Around))
    types = {"plan": str, "models": dict, "bases": dict, "data": str, "kept": str, "dtype": str, "objective": str}
    for name, found in asdict(origin).items():
        if type(found) is not types.get(name, int):
            raise ValueError(f"`{name}` is {found!r:.40}")
    if not isinstance(near.versions, dict):
        raise ValueError(f"`versions` is {near.versions!r:.40}")
    return origin, near, settings


def _brought_up(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """What was noted before there was more than one objective is that of a supervised run."""
    belongs = state.get("belongs")
    return {**state, "belongs": {"objective": "supervised", **belongs}} if isinstance(belongs, dict) else state


def _fields(state: Mapping[str, Any], key: str, kind: type[Origin] | type[Around]) -> dict[str, Any]:
    body = state.get(key)
    names = {field.name for field in fields(kind)}
    if not isinstance(body, dict) or set(body) != names:
        raise ValueError(f"`{key}` does not hold {', '.join(sorted(names))}")
    return body


# -- differences ------------------------------------------------------------------------------------------------------


def refusals(path: str, before: Origin, now: Origin) -> list[Diagnostic]:
    """Why a run does not go on from a checkpoint: each difference by name, with what to do about it."""
    return list(_refusals(path, before, now))


def _refusals(path: str, before: Origin, now: Origin) -> Iterator[Diagnostic]:
    over = "or start over with --force"

    def other(what: str, hint: str) -> Diagnostic:
        return Diagnostic("E0608", f"`{path}` {what}", hint=f"{hint}, {over}")

    if before.plan != now.plan:
        yield other(f"was trained for another graph: {changed_lines(before.plan, now.plan)}", "put the graph back")
    for name in sorted(now.models) if before.plan == now.plan else sorted(set(before.models) & set(now.models)):
        # What was loaded are other numbers in another dtype, which is told for itself.
        loaded = before.dtype != now.dtype or before.bases.get(name) == now.bases.get(name)
        if before.models.get(name) != now.models[name] or not loaded:
            message = f"`{path}` was trained on another base model: the files of `{name}` have changed"
            yield Diagnostic("E0615", message, hint=f"put the model back, {over}")
    if before.dtype != now.dtype:
        yield other(f"was trained with dtype {before.dtype}, not {now.dtype}", f"say dtype = {before.dtype}")
    if before.objective != now.objective:
        yield other(f"was trained by {before.objective}, not {now.objective}", "give the same objective")
    if before.data != now.data:
        count = "" if before.rows == now.rows else f": {before.rows} rows, not {now.rows}"
        yield other(f"was trained on other data{count}", "give the same rows in the same order")
    if before.kept != now.kept:
        what = "was trained beside other weights that stay as they are (`requires_grad` switched off)"
        yield other(what, "load those, and switch off the same")
    for name, what in (("seed", "seed"), ("batch", "batch"), ("accumulate", "accumulate")):
        if getattr(before, name) != getattr(now, name):
            yield other(
                f"was trained with {what} = {getattr(before, name)}, not {getattr(now, name)}: the order of the rows "
                "would differ",
                f"say {what} = {getattr(before, name)}",
            )
    if before.processes != now.processes:
        yield other(
            f"was trained by {_processes(before.processes)}, not {now.processes}: the order of the rows would differ",
            f"start {_processes(before.processes)}",
        )


def _processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"


_SCHEDULE = ("steps", "rate", "warmup")
_EFFECTS = {
    "clip": "from here on",
    "weight_decay": "from here on",
    "save_every": "from here on",
    "keep": "from here on",
    "eval_every": "from here on",
    "max_length": "it refuses rows, and changes none",
    "checkpoint": "the weights are the same either way",
    "sparsity": "from here on",
    "gate_rate": "from here on",
}
"""What the other settings do when they change. Those that are in neither must not change (`Origin`), or say where the
rows are, which are compared themselves."""


def remarks(path: str, step: int, before: TrainSettings, now: TrainSettings) -> list[Diagnostic]:
    """W0601 for the settings that differ from the run that goes on, with what that does."""
    found = []
    schedule = [name for name in _SCHEDULE if getattr(before, name) != getattr(now, name)]
    for names in [schedule, *([name] for name in _EFFECTS if getattr(before, name) != getattr(now, name))]:
        if names:
            old, new = (" and ".join(f"{name} = {getattr(s, name)}" for name in names) for s in (before, now))
            effect = _EFFECTS.get(names[0]) or _rates(step, before, now)
            found.append(Diagnostic("W0601", f"`{path}` was trained with {old}, now it is {new}: {effect}"))
    return found


def _rates(step: int, before: TrainSettings, now: TrainSettings) -> str:
    """What a changed schedule does to the rate at the place where the run goes on."""
    if step >= now.steps:
        return "no step is left"
    last, following = rate_at(before, step - 1), rate_at(now, step)
    return f"step {step} ran at a rate of {last:.2g}, step {step + 1} runs at {following:.2g} of the new schedule"


def drift(path: str, before: Around, now: Around) -> list[Diagnostic]:
    """W0603 for what may change the last bits of the weights, W0601 for other evaluation rows."""
    found = []
    for name in sorted(set(before.versions) | set(now.versions)):
        old, new = before.versions.get(name, "none"), now.versions.get(name, "none")
        if old != new:
            found.append(f"{name} {old}, now it is {new}")
    if before.device != now.device:
        found.append(f"on {before.device}, now it is {now.device}")
    elif before.threads != now.threads:
        found.append(f"with {before.threads} CPU threads, now it is {now.threads}")
    told = [
        Diagnostic("W0603", f"`{path}` was made with {what}: the last bits of the weights may differ") for what in found
    ]
    if before.eval_data != now.eval_data and before.eval_data and now.eval_data:
        told.append(Diagnostic("W0601", f"`{path}` was evaluated on other rows than now: metrics mix the two"))
    return told
