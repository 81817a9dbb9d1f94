"""One step of training: the gradients of its objective over a batch of rows, their norms, AdamW."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from masc.backends.torch.data.values import Row
from masc.backends.torch.engine.labels import label_of
from masc.backends.torch.engine.rounds import Rounds
from masc.backends.torch.model.adapters import derive, tensors
from masc.backends.torch.model.gates import votes
from masc.backends.torch.program import Program
from masc.backends.torch.training.metrics import Metrics
from masc.backends.torch.training.objective import Around, Batch, Judged, Objective
from masc.backends.torch.training.processes import Processes
from masc.backends.torch.training.schedule import rate_at, sparsity_at
from masc.backends.torch.training.supervised import Supervised
from masc.compiler.ir.plan import TrainSettings, agent_of
from masc.dsl.diagnostics import fail


@dataclass
class Stepper:
    """Takes steps. module: the program, or what exchanges its gradients between processes; parameters: what is trained,
    by name; start: what that was when training began, for an objective that looks at it."""

    program: Program
    module: nn.Module
    parameters: Mapping[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    settings: TrainSettings
    processes: Processes
    objective: Objective = field(default_factory=Supervised)
    start: Mapping[str, Tensor] = field(default_factory=dict)

    def take(self, step: int, batch: Sequence[Row], indices: Sequence[int], saved: int = 0) -> Metrics:
        """One step (counted from 0) on the rows of all processes; returns its metrics. indices: the rows' numbers, for
        errors. saved: the step of the newest checkpoint (0: there is none), for a hint. E0701 where the loss or a
        gradient is no longer a number: nothing is changed then."""
        began = time.perf_counter()
        settings = self.settings
        torch.manual_seed(derive(settings.seed, "dropout", step, self.processes.rank))
        self.program.free()  # what runs adapters as they are now
        # None of what somebody else's backward pass has left.
        self.clear()
        around = Around(self.program, self.module, self.parameters, settings, self.processes, self.start)
        ready = self.objective.begin(around, step, batch, indices)
        found = [self._update(ready, step, saved) for _ in range(self.objective.updates)]
        seconds = time.perf_counter() - began
        return {**found[0], "seconds": round(seconds, 4)}

    def _update(self, ready: Batch, step: int, saved: int) -> Metrics:
        """One step of the optimiser; of several on one batch the first is told, which is at the weights that it was
        made ready for."""
        settings, named = self.settings, label_of(self.program.here.profiled)
        rounds: Rounds | None = {} if self._by_round else None
        work = ready.gradients(rounds)
        summed, total = work.summed, work.total
        with named("norms"):
            summed = self.processes.reduced(summed, "sum")
            positions = self.processes.added(work.positions)
            pull = 0.0
            if work.judged:
                several = sum(len(one.tokens) for one in work.judged) * self.processes.count > 1
                self._judge(work.judged, summed / total if several else torch.zeros_like(summed), total)
                pull = self._pull(step)
            loss, norms, by_round = self._measured(summed, rounds or {})
        loss /= total
        norm = math.sqrt(sum(n * n for n in norms.values()))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise fail(
                "E0701",
                f"the loss is no longer a number at step {step + 1} (loss {loss}, gradient norm {norm})",
                hint=_way_out(step, saved),
            )
        if settings.clip:
            self._clip(settings.clip, norms)
        rate = rate_at(settings, step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("share", 1.0)
        with named("optimiser"):
            self.optimizer.step()
        for gate in self.program.gates().values():
            gate.hold()
        self.clear()
        return {
            "step": step + 1,
            "loss": loss,
            **work.told,
            "rate": rate,
            "tokens": work.tokens,
            "positions": positions,
            "grad_norm": norm,
            "grad_norms": norms,
            **({"grad_norms_by_round": by_round} if by_round else {}),
            **({"sparsity_loss": pull, "gates": self.program.openness()} if self.program.gates() else {}),
        }

    def _judge(self, judged: Sequence[Judged], mean: Tensor, total: int) -> None:
        """Give gates the gradient of the loss, by the losses of all samples (`votes`). mean: the loss, scalar float64,
        which is taken off that of each token: whether a row is hard and long says nothing of a gate. It is 0 for a
        batch of one sample, of which nothing would be left."""
        draws = torch.cat([one.draws for one in judged], 1)
        losses = torch.cat([one.losses - mean * one.tokens for one in judged])
        found = self.processes.reduced(votes(draws, losses) / total, "sum")
        for gate, vote in zip(self.program.gates().values(), found, strict=True):
            gate.log_alpha.grad = vote.to(gate.log_alpha)

    def _pull(self, step: int) -> float:
        """Add the gradient of what open gates cost at a step; returns that price, which `loss` leaves out. It is the
        same in all processes, so that nothing of it is exchanged."""
        weight = sparsity_at(self.settings, step)
        price = weight * self.program.sparsity()
        if weight and price.requires_grad:
            price.backward()
        return float(price.detach())

    def clear(self) -> None:
        """No parameter has a gradient."""
        for parameter in self.parameters.values():
            parameter.grad = None

    @cached_property
    def _by_round(self) -> bool:
        """Whether some adapter is used by several activations: rounds of an agent, or agents that share it."""
        plan = self.program.plan
        return len(plan.turns) > len(plan.agents) or any(agent.shares for agent in plan.agents)

    def _measured(self, loss: Tensor, rounds: Rounds) -> tuple[float, dict[str, float], dict[str, float]]:
        """The loss, scalar float64; by agent and edge (`hidden(a, b)`) the L2 norm of its gradient before clipping, a
        shared adapter's under the agent whose own it is; and by activation (`critic#2`) that of what it contributes to
        its adapter's. Sums of squares are taken in float64, and the device is asked once for all of them."""
        gradients = {name: p.grad for name, p in self.parameters.items() if p.grad is not None}
        parts = self._contributions(rounds) if self._by_round else {}
        whole = [*gradients.values(), *(part for own in parts.values() for part in own)]
        sizes = torch._foreach_norm(whole, 2, dtype=torch.float64) if whole else ()
        value, *found = torch.stack([loss, *(size.to(loss.device) for size in sizes)]).tolist()
        links, plan = self.program.links, self.program.plan
        owners = [agent.name for agent in plan.agents if not agent.shares or agent.name in links]
        squares: dict[str, float] = dict.fromkeys([*owners, *self.program.across], 0.0)
        numbers = iter(found)
        for name in gradients:
            squares[self.program.owner(name)] += next(numbers) ** 2
        by_round = {name: math.sqrt(sum(next(numbers) ** 2 for _ in own)) for name, own in parts.items()}
        return value, {name: math.sqrt(square) for name, square in squares.items()}, by_round

    def _contributions(self, rounds: Rounds) -> dict[str, list[Tensor]]:
        """By activation, what it contributes to the gradient of its adapter over the whole optimiser batch, summed in
        the adapter's float32: in bfloat16 contributions of early rounds would round to zero."""
        plan = self.program.plan
        names = [t.activation for t in plan.turns if plan.agent(agent_of(t.activation)).adapter is not None]
        if self.processes.count > 1:
            return {name: [self._summed(name, rounds)] for name in names}
        return {name: list(rounds.get(name, {}).values()) for name in names}

    def _summed(self, activation: str, rounds: Mapping[str, Mapping[str, Tensor]]) -> Tensor:
        """Contributions of all processes, one behind the other: one exchange for all of them, in which each must take
        part, whether it has any or not. The mean, as the exchanged gradients are."""
        agent = self.program.plan.agent(agent_of(activation))
        base = self.program.base(agent.name).model
        own = rounds.get(activation, {})
        named = tensors(base, agent.adapter or agent.name)
        parts = [own.get(name, torch.zeros_like(p.detach())).flatten() for name, p in named.items()]
        return self.processes.reduced(torch.cat(parts), "mean")

    def _clip(self, limit: float, norms: Mapping[str, float]) -> None:
        """Limit the gradient's norm of each agent and each edge on its own: a gradient that explodes in one of them, as
        behind many latent steps, would else leave the others hardly any."""
        gradients: list[Tensor] = []
        factors: list[float] = []
        for name, parameter in self.parameters.items():
            factor = limit / (norms[self.program.owner(name)] + 1e-6)
            if parameter.grad is not None and factor < 1:
                gradients.append(parameter.grad)
                factors.append(factor)
        if gradients:
            torch._foreach_mul_(gradients, factors)


def optimizer_of(
    program: Program, parameters: Mapping[str, nn.Parameter], settings: TrainSettings
) -> torch.optim.Optimizer:
    """AdamW over what is trained. Gates have a rate of their own (`share`: of the schedule's), and none of them decays:
    half open is no natural state of an edge."""
    gates = {gate.log_alpha for gate in program.gates().values()}
    groups: list[dict[str, Any]] = [{"params": [p for p in parameters.values() if p not in gates]}]
    if own := [p for p in parameters.values() if p in gates]:
        groups.append({"params": own, "share": settings.gate_rate / settings.rate, "weight_decay": 0.0})
    asked: Any = {"lr": settings.rate, "weight_decay": settings.weight_decay, "foreach": True}
    return torch.optim.AdamW(groups, **asked)  # not `fused`: going on ends with other bits


def _way_out(step: int, saved: int) -> str:
    """What to do about a loss that is no number at a step, counted from 0."""
    model = "the weights of a base model are damaged, or its numbers are too large for the dtype (try `float32`)"
    if saved:
        return (
            "if training has diverged, go on from the last checkpoint with a lower rate, --resume --set rate=..., or "
            f"start over with a longer `warmup`; if that ends alike, {model}"
        )
    if step:
        return (
            "if training has diverged, start over with a lower `rate` or a longer `warmup`; if that ends alike, "
            f"{model}"
        )
    return (
        "this run has changed no weights yet, so that it is no matter of its `rate`: either the adapters that it "
        f"begins with are damaged or have diverged in an earlier training, or {model}"
    )
