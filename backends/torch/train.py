"""The graph trainer: every agent's adapter and every link, end to end, on the answers' cross entropy (DiffMAS, stage
II).

All that happens at a step is a function of the settings, the seed and the step, so a run that was killed and resumed
ends with the weights that it would have had.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs

from masc.backends.torch import checkpoints
from masc.backends.torch.adapters import derive, tensors
from masc.backends.torch.data import columns_of
from masc.backends.torch.program import Program
from masc.backends.torch.prompts import Row, value
from masc.backends.torch.segments import Opening
from masc.compiler.plan import Loss, Prefill, TrainSettings, agent_of
from masc.dsl.diagnostics import fail

Metrics = dict[str, Any]
Listener = Callable[[Metrics], None]


def train(
    program: Program,
    rows: Sequence[Row],
    eval_rows: Sequence[Row] | None = None,
    *,
    directory: Path | str | None = None,
    resume: bool = False,
    force: bool = False,
    listen: Listener | None = None,
    evaluate: Callable[[Program], Metrics] | None = None,
    trackers: Sequence[str] = (),
    **settings: Any,
) -> list[Metrics]:
    """Train a program in place; returns the metrics of each step that ran.

    directory: where `checkpoints/` and `metrics.jsonl` go (None: nowhere). resume: go on from the newest checkpoint
    there. force: forget a run that lies there. listen: called with each step's metrics. evaluate: called every
    `eval_every` steps and at the end; without it, eval_rows are scored by loss. trackers: accelerate's names
    ("tensorboard", "wandb", ...). settings: `train` entries that differ from the graph's. Errors: E0604/E0607 a bad
    row, E0608 nothing to resume or a broken checkpoint, E0701 the loss is no longer a number (the last good
    checkpoint stays).
    """
    names = {field.name for field in dataclasses.fields(TrainSettings)}
    if unknown := sorted(set(settings) - names):
        raise TypeError(f"unknown train setting {unknown[0]!r}; known are {', '.join(sorted(names))}")
    chosen = checked(dataclasses.replace(program.plan.train, **settings))
    run = _Run(program, list(rows), eval_rows, chosen, directory, force, listen, evaluate, trackers)
    program.max_length = chosen.max_length
    try:
        with torch.random.fork_rng(devices=[]):
            return run.go(resume)
    finally:
        program.max_length = 0
        program.eval()


def checked(settings: TrainSettings) -> TrainSettings:
    """The settings, if each is of the type and in the range that a `train` block takes; else ValueError."""
    least = {"batch": 1, "accumulate": 1, "steps": 1, "keep": 1}
    for field in dataclasses.fields(TrainSettings):
        value = getattr(settings, field.name)
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            whole = isinstance(field.default, int)
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
                raise ValueError(f"{field.name} = {value!r} is not {'a whole number' if whole else 'a number'}")
            most = 1e3 if field.name == "rate" else math.inf  # a rate that overflows float32 inside AdamW
            if not (math.isfinite(value) and least.get(field.name, 0) <= value <= most):
                raise ValueError(f"{field.name} = {value!r} is out of range")
    if settings.checkpoint not in {"none", "agent"}:
        raise ValueError(f"checkpoint = {settings.checkpoint!r} is neither 'none' nor 'agent'")
    return settings


def data_order(seed: int, count: int) -> Iterator[int]:
    """Row numbers for ever: each epoch a permutation that depends on the seed and the epoch alone."""
    epoch = 0
    while True:
        generator = torch.Generator().manual_seed(derive(seed, "order", epoch))
        yield from torch.randperm(count, generator=generator).tolist()
        epoch += 1


def rate_at(settings: TrainSettings, step: int) -> float:
    """Linear warm-up over the first share of the steps, then a cosine down to zero. step counts from 0."""
    warm = max(1, round(settings.warmup * settings.steps)) if settings.warmup else 0
    if step < warm:
        return settings.rate * (step + 1) / warm
    done = (step - warm) / max(1, settings.steps - warm)
    return settings.rate * 0.5 * (1 + math.cos(math.pi * done))


def opening_draws(seed: int, step: int, count: int) -> torch.Tensor:
    """float [count]: one draw per sample of the optimiser's batch, stratified so that the share of samples that see an
    opening channel is as even as it can be from step to step."""
    generator = torch.Generator().manual_seed(derive(seed, "open", step))
    order = torch.randperm(count, generator=generator)
    return (order + torch.rand(1, generator=generator)) / count


@dataclass
class _Run:
    program: Program
    rows: list[Row]
    eval_rows: Sequence[Row] | None
    settings: TrainSettings
    directory: Path | str | None
    force: bool
    listen: Listener | None
    evaluate: Callable[[Program], Metrics] | None
    trackers: Sequence[str]

    def go(self, resume: bool) -> list[Metrics]:
        settings, program = self.settings, self.program
        if not self.rows:
            raise fail("E0605", "there are no rows to train on")
        for rows, texts in ((self.rows, True), (self.eval_rows or [], self.evaluate is None)):
            for i, row in enumerate(rows):
                for column in columns_of(program.plan, labels=True, texts=texts):
                    value(row, column, i)
        program.check_lengths(self.rows)
        self.parameters = program.trainable()
        if not self.parameters:
            raise fail("E0609", "nothing can be trained: every agent is `adapt none`")
        losses = [op for op in program.plan.operations if isinstance(op, Loss)]
        if not any(loss.reaches for loss in losses):
            raise fail("E0609", "nothing can be trained: no gradient reaches an adapter", hint="`masc check` says why")
        self.accelerator = Accelerator(
            cpu=program.device.type == "cpu",
            log_with=list(self.trackers) or None,
            project_dir=str(self.directory) if self.directory else None,
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        if self.trackers:
            self.accelerator.init_trackers("masc", config={k: str(v) for k, v in dataclasses.asdict(settings).items()})
        optimizer = torch.optim.AdamW(
            list(self.parameters.values()), lr=settings.rate, weight_decay=settings.weight_decay
        )
        start = self._restore(optimizer) if resume else self._fresh()
        self.module, self.optimizer = self.accelerator.prepare(program, optimizer)
        order = data_order(settings.seed, len(self.rows))
        size = settings.batch * settings.accumulate * self.accelerator.num_processes
        for _ in range(start * size):
            next(order)
        history = []
        for step in range(start, settings.steps):
            metrics = self._step(step, [next(order) for _ in range(size)])
            history.append(metrics)
            done = step + 1
            evaluates = done == settings.steps or (settings.eval_every and done % settings.eval_every == 0)
            # Metrics before the checkpoint: then no step can be missing from them after a kill. Evaluation last:
            # one that fails costs nothing.
            self._log(metrics)
            if done == settings.steps or (settings.save_every and done % settings.save_every == 0):
                self._save(done)
            if evaluates and (found := self._evaluation()):
                metrics.update(found)
                self._write({"step": done, **found})
        if self.trackers:
            self.accelerator.end_training()
        return history

    def _step(self, step: int, indices: list[int]) -> Metrics:
        began = time.perf_counter()
        settings, accelerator = self.settings, self.accelerator
        rank, world = accelerator.process_index, accelerator.num_processes
        torch.manual_seed(derive(settings.seed, "dropout", step, rank))
        self.program.train()
        self.program.rounds = {} if self._by_round else None
        batch = [self.rows[i] for i in indices]
        draws = opening_draws(settings.seed, step, len(batch))
        # The mean is over the answer tokens of the whole optimiser batch, not of each micro-batch.
        total = self.program.forward_tokens(batch)
        summed = torch.zeros((), dtype=torch.float64, device=accelerator.device)
        positions = 0
        for micro in range(settings.accumulate):
            at = (micro * world + rank) * settings.batch
            part = slice(at, at + settings.batch)
            opening = Opening(step, draws[part].to(self.program.device)) if self._opens(step) else None
            last = micro == settings.accumulate - 1
            with _exchange(accelerator, self.module, last):
                out = self.module(
                    batch[part],
                    opening=opening,
                    recompute=settings.checkpoint == "agent",
                    indices=indices[part],
                )
                # DDP averages over processes, hence the factor.
                accelerator.backward(out.loss * (out.tokens * world / total))
            summed += out.loss.detach().double() * out.tokens
            positions += out.positions
        loss = float(accelerator.reduce(summed, "sum")) / total if world > 1 else float(summed) / total
        norms = self._norms()
        by_round = self._round_norms()
        norm = math.sqrt(sum(n * n for n in norms.values()))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise fail(
                "E0701",
                f"the loss is no longer a number at step {step + 1} (loss {loss}, gradient norm {norm})",
                hint="lower `rate`, or resume from the last checkpoint with another `seed`",
            )
        if settings.clip:
            self._clip(settings.clip)
        rate = rate_at(settings, step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        seconds = time.perf_counter() - began
        return {
            "step": step + 1,
            "loss": loss,
            "rate": rate,
            "tokens": total,
            "positions": positions * world,
            "grad_norm": norm,
            "grad_norms": norms,
            **({"grad_norms_by_round": by_round} if by_round else {}),
            "seconds": round(seconds, 4),
        }

    def _opens(self, step: int) -> bool:
        views = [v for op in self.program.plan.operations if isinstance(op, Prefill) for v in op.sees]
        return any(view.until is not None and step < view.until for view in views)

    @cached_property
    def _by_round(self) -> bool:
        """Whether some agent is active more than once."""
        prefills = [op for op in self.program.plan.operations if isinstance(op, Prefill)]
        return len(prefills) > len(self.program.plan.agents)

    def _round_norms(self) -> dict[str, float]:
        """By activation (`critic#2`): the L2 norm of what it contributes to the gradient of its agent's adapter, before
        clipping, over the whole optimiser batch. The contributions themselves are summed in the adapters' float32: in
        bfloat16 those of early rounds round to zero."""
        rounds, self.program.rounds = self.program.rounds, None
        found: dict[str, float] = {}
        plan = self.program.plan
        for name in (op.activation for op in plan.operations if isinstance(op, Prefill) and rounds is not None):
            if plan.agent(agent_of(name)).lora is None:
                continue
            parts = [] if rounds is None else list(rounds.get(name, {}).values())
            if self.accelerator.num_processes > 1:
                parts = self._summed(name, rounds or {})
            found[name] = math.sqrt(sum(float(part.double().pow(2).sum()) for part in parts))
        return found

    def _summed(self, activation: str, rounds: Mapping[str, Mapping[str, torch.Tensor]]) -> list[torch.Tensor]:
        """Contributions of all processes: each must take part, whether it has any or not. The mean, as DDP's gradients
        are."""
        base = self.program.base(agent_of(activation)).model
        own = rounds.get(activation, {})
        named = tensors(base, agent_of(activation))
        return [self.accelerator.reduce(own.get(n, torch.zeros_like(p.detach())), "mean") for n, p in named.items()]

    def _norms(self) -> dict[str, float]:
        """L2 norm of the gradient of each agent's parameters and each edge's (`hidden(a, b)`), before clipping, summed
        in float64."""
        squares: dict[str, float] = {agent.name: 0.0 for agent in self.program.plan.agents}
        squares |= dict.fromkeys(self.program.across, 0.0)
        for name, parameter in self.parameters.items():
            if parameter.grad is not None:
                squares[self.program.owner(name)] += float(parameter.grad.double().pow(2).sum())
        return {name: math.sqrt(square) for name, square in squares.items()}

    def _clip(self, limit: float) -> None:
        """Limit the gradient's norm of each agent and each edge on its own: a gradient that explodes in one of them, as
        behind many latent steps, would else leave the others hardly any."""
        owned: dict[str, list[torch.nn.Parameter]] = {}
        for name, parameter in self.parameters.items():
            owned.setdefault(self.program.owner(name), []).append(parameter)
        for parameters in owned.values():
            torch.nn.utils.clip_grad_norm_(parameters, limit)

    def _evaluation(self) -> Metrics:
        self.program.eval()
        if self.evaluate is not None:
            return self.evaluate(self.program)
        if not self.eval_rows:
            return {}
        loss, tokens = 0.0, 0
        with torch.no_grad():
            for at in range(0, len(self.eval_rows), self.settings.batch):
                part = range(at, min(at + self.settings.batch, len(self.eval_rows)))
                out = self.program([self.eval_rows[i] for i in part], indices=part)
                loss, tokens = loss + float(out.loss) * out.tokens, tokens + out.tokens
        return {"eval_loss": loss / tokens}

    # -- what is kept on disk --------------------------------------------------------------------------------------

    @property
    def _folder(self) -> Path | None:
        return None if self.directory is None else Path(self.directory)

    @cached_property
    def _data(self) -> str:
        """A hash of the rows, so that a run is not resumed on other data unnoticed."""
        text = json.dumps([dict(row) for row in self.rows], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def _log(self, metrics: Metrics) -> None:
        if not self.accelerator.is_main_process:
            return
        self._write(metrics)
        if self.trackers:
            flat = {k: v for k, v in metrics.items() if isinstance(v, int | float)}
            flat |= {f"grad_norm/{name}": norm for name, norm in metrics["grad_norms"].items()}
            flat |= {f"grad_norm/{name}": norm for name, norm in metrics.get("grad_norms_by_round", {}).items()}
            self.accelerator.log(flat, step=metrics["step"])
        if self.listen is not None:
            self.listen(metrics)

    def _write(self, metrics: Metrics) -> None:
        """One line of `metrics.jsonl`: a step's metrics, or (after them) what its evaluation found."""
        if self._folder is not None and self.accelerator.is_main_process:
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(metrics) + "\n")

    def _save(self, step: int) -> None:
        if self._folder is None or not self.accelerator.is_main_process:
            return
        state = {"settings": dataclasses.asdict(self.settings), "data": self._data, "seed": self.program.seed}
        inner = getattr(self.optimizer, "optimizer", self.optimizer)
        checkpoints.save(self._folder / "checkpoints", step, self.parameters, inner, state, self.settings.keep)

    def _fresh(self) -> int:
        """Start in an empty place: an earlier run there is neither mixed with this one nor lost unasked."""
        folder = self._folder
        if folder is None:
            return 0
        if checkpoints.newest(folder / "checkpoints") is not None and not self.force:
            raise fail(
                "E0610",
                f"{folder} holds the checkpoints of an earlier run",
                hint="go on with --resume, or start over with --force",
            )
        if self.accelerator.is_main_process:
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
            (folder / "metrics.jsonl").unlink(missing_ok=True)
        return 0

    def _restore(self, optimizer: torch.optim.Optimizer) -> int:
        folder = self._folder
        newest = None if folder is None else checkpoints.newest(folder / "checkpoints")
        if folder is None:
            return 0
        main = self.accelerator.is_main_process
        if newest is None:  # killed before the first checkpoint: from the start
            if main:
                _drop_after(folder / "metrics.jsonl", 0)
            return 0
        state = checkpoints.read_state(newest)
        if state.get("data") != self._data:
            raise fail(
                "E0608", f"{newest} was trained on other data", hint="give the same data, or start over with --force"
            )
        before = state.get("settings", {})
        for name in ("seed", "batch", "accumulate"):
            if before.get(name) != getattr(self.settings, name):
                raise fail(
                    "E0608",
                    f"{newest} was trained with {name} = {before.get(name)}, not {getattr(self.settings, name)}",
                    hint="the order of the data would differ: resume with the same, or start over with --force",
                )
        checkpoints.load(newest, self.parameters, optimizer)
        if main:
            _drop_after(folder / "metrics.jsonl", state["step"])
        return int(state["step"])


def resumed_settings(directory: Path) -> TrainSettings | None:
    """The settings of the run whose checkpoint lies in a directory, or None if there is none."""
    newest = checkpoints.newest(directory / "checkpoints")
    if newest is None:
        return None
    known: Mapping[str, Any] = checkpoints.read_state(newest).get("settings", {})
    return TrainSettings(**known)


def _drop_after(path: Path, step: int) -> None:
    """Forget metrics of steps that will run again, and a last line that was cut off by a kill."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (json.JSONDecodeError, KeyError, TypeError):
            continue
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(line + "\n" for line in kept))
    os.replace(temporary, path)


def _exchange(accelerator: Accelerator, module: torch.nn.Module, last: bool) -> AbstractContextManager[None]:
    """Gradients are exchanged between processes only after the last micro-batch."""
    return nullcontext() if last else accelerator.no_sync(module)
