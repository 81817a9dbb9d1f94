"""Tasks of lm-evaluation-harness, asked of a team: `masc eval --task NAME`."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masc.dsl.diagnostics import MascError, did_you_mean, fail, first_line

if TYPE_CHECKING:
    from masc.backends.torch.program import Program

PREFIX = "lm_eval:"
"""Before the name of a task: the harness's, though masc has one of that name."""


def is_foreign(name: str, own: Sequence[str]) -> bool:
    """Whether a task is the harness's: masc has none of that name, or the prefix says so."""
    return name.startswith(PREFIX) or name not in own


def check_task(name: str, own: Sequence[str]) -> None:
    """E0611 no such task, here or in the harness; E0631 where the harness is not installed and the task can be none of
    masc's."""
    plain = name.removeprefix(PREFIX)
    try:
        known = [] if _is_file(plain) else _manager(plain).all_tasks
    except ImportError:
        if name.startswith(PREFIX) or _is_file(plain):
            raise missing() from None
        also = "with the extra `lm-eval` also those of lm-evaluation-harness"
        hint = did_you_mean(name, own) or f"known are {', '.join(own)}; {also}"
        raise fail("E0611", f"unknown task `{name}`", hint=hint) from None
    if _is_file(plain):
        if find_spec("lm_eval") is None:
            raise missing()
        if not Path(plain).is_file():
            raise fail("E0634", f"there is no task file `{plain}`")
    elif plain not in known:
        near = did_you_mean(plain, [*own, *known])
        hint = near or f"masc's own are {', '.join(own)}; `lm_eval ls tasks` lists the rest"
        raise fail("E0611", f"unknown task `{name}`", hint=hint)


def missing() -> MascError:
    hint = "pip install lm-eval (masc's extra `lm-eval` brings it)"
    return fail("E0631", "tasks of lm-evaluation-harness need the package `lm_eval`, which is not installed", hint=hint)


def _is_file(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


def _manager(name: str) -> Any:
    """What finds the harness's tasks. For a file it does not read all of theirs, which takes many seconds."""
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return TaskManager(include_defaults=not _is_file(name))


def run_task(
    program: Program,
    name: str,
    *,
    batch: int,
    limit: int | None,
    fewshot: int | None,
    output: str | None,
    engine: str = "fast",
) -> dict[str, Any]:
    """The results of a task, as the harness tells them (its `simple_evaluate`). fewshot: examples before each question
    (None: the task's own number). Errors: E0632, E0633 as of `MascLM`; E0634 a task that cannot be loaded or run."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks._yaml_loader import load_yaml

    from masc.harness.model import MascLM

    model = MascLM(program=program, output=output, batch_size=batch, engine=engine)
    plain = name.removeprefix(PREFIX)
    try:
        task = load_yaml(plain, resolve_func=True) if _is_file(plain) else plain
        found = simple_evaluate(model, tasks=[task], num_fewshot=fewshot, limit=limit, task_manager=_manager(plain))
    except MascError:
        raise
    except Exception as error:  # of many kinds: its own, those of `datasets`, of the hub, of a task's code
        hint = "masc's own tasks humaneval and mbpp run code behind walls" if "unsafe" in str(error).lower() else None
        raise fail("E0634", f"the task `{plain}` cannot be run: {first_line(error)}", hint=hint) from None
    if found is None:
        raise fail("E0634", f"the task `{plain}` gave no results")
    return dict(found)


def rows_of(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is printed: task, number of questions, and each metric with its standard error."""
    rows: list[tuple[str, str]] = []
    for task, metrics in results["results"].items():
        count = results.get("n-samples", {}).get(task, {}).get("effective")
        rows.append((str(metrics.get("alias", task)).strip(), "" if count is None else f"{count} questions"))
        for key, value in metrics.items():
            metric, comma, form = key.partition(",")
            if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = metrics.get(f"{metric}_stderr,{form}")
            told = f" ± {error:.4f}" if isinstance(error, int | float) else ""
            rows.append((f"  {metric}" + (f" ({form})" if form != "none" else ""), f"{value:.4f}{told}"))
    return rows


def to_json(results: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """Results without the samples, and where they come from."""
    kept = {name: value for name, value in results.items() if name != "samples"}
    return json.dumps({**kept, "run": about}, indent=1, ensure_ascii=False, default=str) + "\n"


def samples_text(results: Mapping[str, Any]) -> str:
    """Each question and answer as a line of JSON, as the harness keeps them."""
    lines = [
        json.dumps({"task": task, **sample}, ensure_ascii=False, default=str)
        for task, samples in results.get("samples", {}).items()
        for sample in samples
    ]
    return "".join(f"{line}\n" for line in lines)
