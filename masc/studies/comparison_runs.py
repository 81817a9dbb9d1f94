"""The runs of `masc compare`: one for each row, each value of a sweep and each seed.

A run's folder is named by a hash of everything that its weights depend on, and its result by a hash of the test rows
and of how they are answered. So finished work is found again."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from masc.backends.scoring.registry import Function, declared
from masc.compiler.analysis.decoding import AS_WRITTEN, Decoding
from masc.compiler.analysis.policy import outspoken
from masc.compiler.analysis.reach import with_reach
from masc.compiler.artifact import model_hash
from masc.compiler.channels import CHANNELS
from masc.compiler.files.sources import RowSource
from masc.compiler.forms.essence import fingerprint
from masc.compiler.ir.adapter import Lora
from masc.compiler.ir.graph import Graph
from masc.compiler.ir.plan import Plan, TrainSettings, agent_of
from masc.compiler.language.objectives import GRPO, SUPERVISED, Grpo
from masc.compiler.language.scorers import runs_code
from masc.compiler.models.facts import read_config
from masc.compiler.passes.controls import (
    alone,
    is_latent_chain,
    pooled,
    reaching,
    stopped,
    thinking,
    unread,
    unthinking,
    wider,
)
from masc.compiler.passes.text_team import as_text
from masc.compiler.pipeline import Compilation, lower
from masc.dsl.diagnostics import did_you_mean, fail
from masc.session.costing import cost_of
from masc.session.programs import accepted, compile_source_of, data_source
from masc.terminal.console import say

ROWS: dict[str, tuple[str, bool]] = {
    "single": ("single agent", False),
    "single-tuned": ("single agent, fine-tuned", True),
    "single-thinking": ("single agent with as many latent steps, fine-tuned", True),
    "majority": ("majority of fine-tuned single agents, at equal cost", True),
    "pooled-tuned": ("single agent that reads all prompts, fine-tuned", True),
    "text": ("text agents", False),
    "text-tuned": ("text agents, fine-tuned", True),
    "text-rewarded": ("text agents, trained on a reward", True),
    "latent": ("as written, untrained", False),
    "zero-latents": ("as written, zero latent steps", True),
    "stopped": ("as written, upstream gradient stopped", True),
    "reaching": ("as written, upstream gradient let through", True),
    "team": ("as written, end to end", True),
}
"""The rows in the order of the table: the title of each, and whether it is trained."""
SAME = {"majority": "single-tuned"}
"""The rows that have the weights of another one."""
PAPERS = {"latent": "LatentMAS", "team": "DiffMAS"}
"""The method that a row is if the graph is a chain as in its paper (arXiv 2511.20639, 2604.21794; see
`controls.is_latent_chain`)."""
WEIGHTS, ANSWERS = 5, 3
"""Versions of how runs are trained and of how they are evaluated. Raise one when masc itself changes the results:
earlier runs are then trained or evaluated again."""
BASELINE = "single-tuned"
"""The row that the others are compared with."""


@dataclass(frozen=True)
class Task:
    """What all rows share. samples: how many answers are sampled to measure agreement (0: none), for the first
    `sampled` rows. decoding: what replaces the graph's own decoding of its outputs."""

    train_rows: Sequence[Mapping[str, Any]]
    test_rows: Sequence[Mapping[str, Any]]
    scorer: str | Function
    output: str
    batch: int = 16
    samples: int = 5
    sampled: int = 40
    dtype: str | None = None
    device: str | None = None
    allow_code_execution: bool = False
    sandbox: str = "auto"
    decoding: Decoding = AS_WRITTEN


@dataclass(frozen=True)
class Run:
    """One row at one value of the sweep with one seed."""

    row: str
    values: dict[str, str]
    seed: int
    compilation: Compilation
    settings: TrainSettings

    @property
    def trains(self) -> bool:
        return ROWS[self.row][1]

    @property
    def name(self) -> str:
        """What it is called in what is told of it."""
        return f"{title_of(self.row, self.values)} seed={self.seed}"

    @property
    def weights(self) -> str:
        """The row whose weights it has."""
        return SAME.get(self.row, self.row)


def task_of(
    compilation: Compilation,
    train: str | None,
    test: str | None,
    scorer: str,
    output: str | None = None,
    limit: int | None = None,
    rows: Sequence[str] | None = None,
    named: Mapping[str, str] | None = None,
    **options: Any,
) -> Task:
    """The data of a comparison, read and checked. train, test: None: what the file names; where no row (out of `rows`,
    None: all) trains, nothing is read to train on. named: what columns are called in the data. options: of a Task."""
    from masc.backends.torch.data.check import check_output
    from masc.session.columns import read, reading

    check_rows(rows or ())
    plan = compilation.require()
    if output is not None:
        check_output(plan, output)
    train_rows: Sequence[Mapping[str, Any]] = ()
    if any(ROWS[row][1] for row in rows or ROWS):
        train_rows = read(source_of(compilation, train, "data"), reading(plan, named, labels=True))
    asked = reading(plan, named, labels=not runs_code(scorer), texts=False)
    test_rows = read(source_of(compilation, test, "eval_data"), asked)[:limit]
    return Task(train_rows, test_rows, scorer, output or plan.outputs[0], **options)


def source_of(compilation: Compilation, given: str | None, entry: str) -> RowSource:
    """Where the rows are that are trained on (entry `data`) or scored (`eval_data`)."""
    return data_source(given, getattr(compilation.require().train, entry), compilation.base, entry)


def runs(
    path: Path,
    task: Task,
    rows: Sequence[str] | None,
    seeds: Sequence[int],
    sets: Mapping[str, str],
    sweep: Mapping[str, Sequence[str]],
) -> Iterator[Run]:
    """All runs in order: by row, then by value, then by seed."""
    for name, instead in {"data": "--train", "eval_data": "--test", "seed": "--seeds"}.items():
        if name in sets or name in sweep:
            raise fail("E0611", f"`{name}` cannot be set for a comparison", hint=f"give {instead}")
    points = [dict(zip(sweep, values, strict=True)) for values in itertools.product(*sweep.values())]
    compiled = [(values, accepted(compile_source_of(path, {**sets, **values}))) for values in points]
    for row in dict.fromkeys(rows or ROWS):
        for values, compilation in compiled:
            if rows is None and (why := idle(row, compilation, task)) is not None:
                say(f"{title_of(row, values)}: left out, {why}")
                continue
            for seed in dict.fromkeys(seeds):
                settings = replace(compilation.require().train, seed=seed, keep=1)
                if row == "text-rewarded":
                    settings = replace(settings, objective=_reward(settings, task))
                yield Run(row, values, seed, compilation, settings)


def _reward(settings: TrainSettings, task: Task) -> Grpo:
    """What text agents are rewarded by: as the file says, else whether the scorer calls an answer right. E0611 where
    that is none that a file may name."""
    if isinstance(settings.objective, Grpo):
        return settings.objective
    if not isinstance(task.scorer, str) or task.scorer not in GRPO["reward"].reads.words:
        message = f"the scorer `{declared(task.scorer).name}` cannot be the reward of `text-rewarded`"
        raise fail("E0611", message, hint="name one in the file: `train { objective grpo(reward = exact) }`")
    return Grpo(task.scorer)


def spoken(run: Run, plan: Plan) -> Plan:
    """The plan of a row as it is trained by."""
    return outspoken(plan) if run.row == "text-rewarded" else plan


def idle(row: str, compilation: Compilation, task: Task) -> str | None:
    """Why a row would tell nothing new about a graph; None: it does."""
    graph, plan, output = _graph(compilation), compilation.require(), task.output
    if row == "pooled-tuned" and not unread(graph, output):
        return "the answering agent reads every input itself"
    if row == "latent" and lower(compilation, as_text(graph)) == plan:
        return "nothing but text crosses"
    if row == "text-tuned":
        now = lower(compilation, as_text(graph))
        if now == plan:
            return "nothing but text crosses as it is"
        if not any(loss.reaches for loss in now.losses):
            return "who answers is frozen, and words carry no gradient to anybody else"
    if row == "text-rewarded" and not isinstance(plan.train.objective, Grpo):
        return "the file trains on no reward (`--rows text-rewarded` takes the scorer)"
    if row in ("single-thinking", "zero-latents") and not any(turn.think for turn in plan.turns):
        return "nobody thinks in latent steps"
    if row == "majority" and (why := lone(compilation, task)) is not None:
        return why
    if row == "reaching" and lower(compilation, reaching(graph)) == plan:
        return "a gradient crosses every edge as it is"
    if row == "stopped":
        now = lower(compilation, stopped(graph))
        if now == plan:
            return "no gradient crosses an edge as it is"
        if not any(loss.reaches for loss in now.losses):
            return "who answers is frozen, and nothing else is left to train"
        silent = [edge for edge in graph.edges if not CHANNELS[edge.kind].words]
        if all(graph.agent(agent_of(edge.sender)).lora is None for edge in silent):
            return "every sender is frozen as it is"
    return None


def lone(compilation: Compilation, task: Task) -> str | None:
    """Why no majority of single agents can be held against a team; None: one can."""
    if runs_code(task.scorer):
        return "no two programs are the same answer"
    count = voters(compilation, task)
    if count is None:
        return "what the team costs cannot be told"
    return "a team costs no more than one" if count < 2 else None


def voters(compilation: Compilation, task: Task) -> int | None:
    """How many single agents cost as much as the team, in FLOPs of a row that is answered; at least 1. None: that
    cannot be told."""
    graph = _graph(compilation)
    team = cost_of(compilation.require(), compilation, task.test_rows)
    single = cost_of(lower(compilation, alone(graph, task.output)), compilation, task.test_rows)
    return None if team is None or single is None else max(1, round(team.flops / single.flops))


def check_rows(rows: Sequence[str]) -> None:
    """E0611 for a name that is no row."""
    for row in rows:
        if row not in ROWS:
            hint = did_you_mean(row, list(ROWS)) or f"the rows are {', '.join(ROWS)}"
            raise fail("E0611", f"there is no row `{row}`", hint=hint)


def title_of(row: str, values: Mapping[str, str]) -> str:
    return " ".join([row, *(f"{name}={value}" for name, value in values.items())])


def label_of(row: str, compilation: Compilation) -> str:
    """The title of a row in the table."""
    paper = PAPERS.get(row) if is_latent_chain(_graph(compilation)) else None
    return ROWS[row][0] + (f" ({paper})" if paper else "")


def hidden_inputs(compilation: Compilation, output: str) -> tuple[str, ...]:
    """The inputs that a single agent does not see: only other agents read them."""
    return unread(_graph(compilation), output)


def _graph(compilation: Compilation) -> Graph:
    compilation.require()
    assert compilation.graph is not None
    return compilation.graph


def plan_of(run: Run, output: str, lora: Lora | None = None) -> Plan:
    """The plan of a row. lora: the adapter of a single agent, or of the one that answers among text agents."""
    graph = _graph(run.compilation)
    if run.row == "single-thinking":
        return lower(run.compilation, thinking(graph, output, lora))
    if run.weights.startswith("single"):
        return lower(run.compilation, alone(graph, output, lora))
    if run.row.startswith("pooled"):
        return lower(run.compilation, pooled(graph, output, lora))
    if run.row.startswith("text"):
        return lower(run.compilation, wider(as_text(graph), output, lora))
    if run.row == "stopped":
        return lower(run.compilation, stopped(graph))
    if run.row == "reaching":
        return lower(run.compilation, reaching(graph))
    if run.row == "zero-latents":
        return lower(run.compilation, unthinking(graph))
    return run.compilation.require()


# -- names -----------------------------------------------------------------------------------------------------------


def weights_key(run: Run, task: Task) -> str:
    """A hash of everything that a run's weights depend on. The seed is part of it only if it has an effect."""
    from masc.backends.torch.build import fast_dtype

    plan = plan_of(run, task.output)
    settings = asdict(run.settings)
    if settings["objective"] == SUPERVISED:  # as before there was another one
        del settings["objective"]
    drawn = run.trains or any(arrival.link for turn in plan.turns for arrival in turn.arrives)
    if not drawn:
        settings["seed"] = None
    known: dict[str, Any] = {
        "version": WEIGHTS,
        "row": run.weights,
        "plan": fingerprint(plan),
        "said": [repr((turn.activation, turn.answer)) for turn in plan.unsupervised()] if run.trains else [],
        "team": _team(run) if run.trains else None,
        "models": _models(run, plan),
        "train": [settings, _digest(task.train_rows)] if run.trains else settings["seed"],
        "output": task.output,
        "numbers": [task.dtype or run.settings.dtype or fast_dtype(task.device), task.device],
    }
    return _hash(known)


def answers_key(run: Run, task: Task) -> str:
    """A hash of the test rows, the scorer and the decoding. Together with `weights_key` it covers everything that a
    result depends on."""
    how = declared(task.scorer)
    scorer = [how.name, how.mark] if how.mark else how.name
    sampled = task.sampled if task.samples else 0
    answers = [(turn.activation, turn.answer) for turn in plan_of(run, task.output).answering if turn.answer]
    decoding = [repr((name, task.decoding.of(answer))) for name, answer in answers]
    votes = [voters(run.compilation, task)] if run.row == "majority" else []
    return _hash([ANSWERS, _digest(task.test_rows), scorer, task.samples, sampled, decoding, *votes])


def _hash(known: Any) -> str:
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def _team(run: Run) -> list[Any]:
    """What of the team decides a row's training but is not in the row's own plan: its size and its models."""
    from masc.backends.torch.model.fetch import resolve

    plan, base = run.compilation.require(), run.compilation.base
    # Layers are read now: the models may not have been on disk at compile time.
    folders = {model.name: resolve(model.target, base, revision=model.loading.revision) for model in plan.models}
    layers = {name: read_config(folder).caches for name, folder in folders.items()}
    return [_sizes(with_reach(plan, layers)), _models(run, plan)]


def _models(run: Run, plan: Plan) -> list[str | None]:
    """What each model is, and how it is loaded where anything is said of that."""
    base = str(run.compilation.base)
    found = [_content(model.target, base, model.loading.revision) for model in plan.models]
    return [*found, *(f"{model.name}{model.loading.text}" for model in plan.models if model.loading.text)]


def _sizes(plan: Plan) -> list[str]:
    """What decides the number of a team's trained parameters, and so the rank of a single agent."""
    found = [repr((agent.name, agent.model, agent.lora, agent.shares)) for agent in plan.agents]
    found += [turn.think.align for turn in plan.turns if turn.think is not None]
    found += [arrival.shape for turn in plan.turns for arrival in turn.arrives if arrival.link]
    found += [repr(loss.reaches) for loss in plan.losses]
    return found


@cache
def _content(target: str, base: str, revision: str | None) -> str | None:
    """A model's content hash, remembered because the files are large."""
    from masc.backends.torch.model.fetch import resolve

    return model_hash(resolve(target, Path(base), revision=revision))


def _digest(rows: Sequence[Mapping[str, Any]]) -> str:
    return _hash([dict(row) for row in rows])


def leaked(task: Task) -> int:
    """The number of test rows that are training rows too."""
    seen = {_digest([row]) for row in task.train_rows}
    return sum(_digest([row]) in seen for row in task.test_rows)
