"""Where numbers come from: what the JSON of `eval`, `compare` and `audit` records, so that they can be reproduced."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masc.backends.scoring.registry import declared
from masc.compiler.artifact import versions
from masc.compiler.files.reading import digest_of
from masc.compiler.files.sources import RowSource
from masc.compiler.forms.essence import fingerprint
from masc.version import __version__

if TYPE_CHECKING:
    from masc.backends.torch.evaluation.answering import Answering
    from masc.backends.torch.program import Program
    from masc.compiler.pipeline import Compilation
    from masc.session.programs import Found
    from masc.studies.comparison_runs import Task


def of(found: Found, program: Program | Answering, *, data: Mapping[str, Any], batch: int) -> dict[str, Any]:
    """Everything that decides a program's answers, but for decoding, which the report holds. data: from `of_data`."""
    from masc.backends.torch.evaluation.answering import answering_of

    answering = answering_of(program)
    numbers = answering.numbers
    return {
        "time": now(),
        "versions": {"masc": __version__, **dict(versions())},
        "file": str(found.path),
        "artifact": str(found.artifact.layout.root),
        "weights": weights_of(found),
        "models": [
            {"name": record.name, "target": record.target, "sha256": record.hash}
            for record in answering.model_records()
        ],
        "plan": fingerprint(found.plan, decoding=True),
        "set": dict(found.compilation.set),
        "channel": found.channel,
        "cut": [":".join(pair) for pair in found.cut],
        "data": data,
        "batch": batch,
        "dtype": numbers.dtypes[0].removeprefix("torch."),
        "device": numbers.device,
    }


def weights_of(found: Found) -> dict[str, Any]:
    """Which weights were used: those of a checkpoint (hash of its file), trained ones of the artifact (hash in its
    manifest), or fresh ones (their seed)."""
    if found.checkpoint is not None:
        path = found.checkpoint / "weights.safetensors"
        return {"checkpoint": found.checkpoint.name, "sha256": digest_of(path)}
    if found.artifact.manifest.trained:
        return {"sha256": found.artifact.manifest.weights}
    return {"fresh": True, "seed": found.artifact.manifest.seed}


def of_data(
    rows: Sequence[Mapping[str, Any]], task: str | None, source: RowSource | None, named: Mapping[str, str]
) -> dict[str, Any]:
    """Which rows: a file with its hash, what else was named, or a public data set. rows: those that were used, of the
    first ones on."""
    known: dict[str, Any] = {} if task is None else {"task": task}
    if source is not None:
        known |= {"path" if source.path is not None else "hub": source.absolute}
    if source is not None and source.path is not None and source.path.is_file():
        known |= {"sha256": digest_of(source.path)}
    elif task is None:  # nobody but the rows themselves can tell which they are
        text = json.dumps([dict(row) for row in rows], sort_keys=True, default=str)
        known |= {"rows_sha256": hashlib.sha256(text.encode()).hexdigest()}
    return known | {"rows": len(rows), "columns": dict(named)}


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def of_comparison(
    path: Path,
    first: Compilation,
    task: Task,
    *,
    seeds: Sequence[int],
    sets: Mapping[str, str],
    sweep: Mapping[str, Sequence[str]],
    train: RowSource | None = None,
    test: RowSource | None = None,
    named: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The same of a comparison. train, test: where the rows are from, where that has a name."""
    return {
        "time": now(),
        "versions": {"masc": __version__, **dict(versions())},
        "file": str(path),
        "models": [{"name": model.name, "target": model.target} for model in first.require().models],
        "set": dict(sets),
        "sweep": {name: list(values) for name, values in sweep.items()},
        "seeds": list(seeds),
        "scorer": declared(task.scorer).name,
        "output": task.output,
        "train": of_data(task.train_rows, None, train, named or {}),
        "test": of_data(task.test_rows, None, test, named or {}),
        "samples": task.samples,
        "sampled": task.sampled,
        "batch": task.batch,
        "dtype": task.dtype or first.require().train.dtype,
        "device": task.device,
    }
