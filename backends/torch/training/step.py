"""One step of the optimiser: the loss over a batch of rows, its gradients, their norms, AdamW."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from masc.backends.torch.data.values import Row
from masc.backends.torch.engine.opening import opening_at
from masc.backends.torch.model.adapters import derive, tensors
from masc.backends.torch.program import Program
from masc.backends.torch.training.metrics import Metrics
from masc.backends.torch.training.processes import Processes
from masc.backends.torch.training.schedule import rate_at, sparsity_at
from masc.compiler.ir.plan import TrainSettings, agent_of
from masc.dsl.diagnostics import fail

Rounds = dict[str, dict[str, Tensor]]


@dataclass
class Stepper:
    """Takes steps. module: the program, or what exchanges its gradients between processes; parameters: what is trained,
    by name."""

    program: Program
    module: nn.Module
    parameters: Mapping[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    settings: TrainSettings
    processes: Processes

    def take(self, step: int, batch: Sequence[Row], indices: Sequence[int], saved: int = 0) -> Metrics:
        """One step (counted from 0) on the rows of all processes; returns its metrics. indices: the rows' numbers, for
        errors. saved: the step of the newest checkpoint (0: there is none), for a hint. E0701 where the loss or a
        gradient is no longer a number: nothing is changed then."""
        began = time.perf_counter()
        settings = self.settings
        rank, world = self.processes.rank, self.processes.count
        torch.manual_seed(derive(settings.seed, "dropout", step, rank))
        self.program.train()
        rounds: Rounds | None = {} if self._by_round else None
        # None of what somebody else's backward pass has left.
        self.clear()
        whole = opening_at(settings.seed, step, len(batch), self.program.gates())
        # The mean is over the answer tokens of the whole optimiser batch, not of each micro-batch.
        total = self.program.forward_tokens(batch)
        summed = torch.zeros((), dtype=torch.float64, device=self.program.device)
        positions = 0
        for micro in range(settings.accumulate):
            at = (micro * world + rank) * settings.batch
            part = slice(at, at + settings.batch)
            opening = whole.of(part, self.program.device)
            last = micro == settings.accumulate - 1
            with self.processes.exchanging(self.module, last), self.program.holding(rounds=rounds):
                out = self.module(
                    batch[part],
                    opening=opening,
                    recompute=settings.checkpoint == "agent",
                    indices=indices[part],
                )
                # The exchange takes the mean over processes, hence the factor.
                (out.loss * (out.tokens * world / total)).backward()
            summed += out.loss.detach().double() * out.tokens
            positions += out.positions
        loss = float(self.processes.reduced(summed, "sum")) / total
        pull = self._pull(step)
        norms = self._norms()
        by_round = {} if rounds is None else self._round_norms(rounds)
        norm = math.sqrt(sum(n * n for n in norms.values()))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise fail(
                "E0701",
                f"the loss is no longer a number at step {step + 1} (loss {loss}, gradient norm {norm})",
                hint=_way_out(step, saved),
            )
        if settings.clip:
            self._clip(settings.clip)
        rate = rate_at(settings, step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("share", 1.0)
        self.optimizer.step()
        for gate in self.program.gates().values():
            gate.hold()
        self.clear()
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
            **({"sparsity_loss": pull, "gates": self.program.openness()} if self.program.gates() else {}),
            "seconds": round(seconds, 4),
        }

    def _pull(self, step: int) -> float:
        """Add the gradient of what open gates cost at a step; returns that price, which `loss` leaves out. It is the
        same in all processes, so that nothing of it is exchanged."""
        gates = self.program.gates().values()
        if not gates:
            return 0.0
        weight = sparsity_at(self.settings, step)
        price = weight * torch.stack([gate.price for gate in gates]).sum()
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

    def _round_norms(self, rounds: Rounds) -> dict[str, float]:
        """By activation (`critic#2`): the L2 norm of what it contributes to the gradient of its adapter, before
        clipping, over the whole optimiser batch. The contributions themselves are summed in the adapters' float32: in
        bfloat16 those of early rounds round to zero."""
        found: dict[str, float] = {}
        plan = self.program.plan
        for name in (turn.activation for turn in plan.turns):
            if plan.agent(agent_of(name)).adapter is None:
                continue
            parts = list(rounds.get(name, {}).values())
            if self.processes.count > 1:
                parts = self._summed(name, rounds)
            found[name] = math.sqrt(sum(float(part.double().pow(2).sum()) for part in parts))
        return found

    def _summed(self, activation: str, rounds: Mapping[str, Mapping[str, Tensor]]) -> list[Tensor]:
        """Contributions of all processes: each must take part, whether it has any or not. The mean, as the exchanged
        gradients are."""
        agent = self.program.plan.agent(agent_of(activation))
        base = self.program.base(agent.name).model
        own = rounds.get(activation, {})
        named = tensors(base, agent.adapter or agent.name)
        return [self.processes.reduced(own.get(n, torch.zeros_like(p.detach())), "mean") for n, p in named.items()]

    def _norms(self) -> dict[str, float]:
        """L2 norm of the gradient of each agent's parameters and each edge's (`hidden(a, b)`), before clipping, summed
        in float64. A shared adapter is told once, under the agent whose own it is."""
        links = self.program.links
        agents = [agent.name for agent in self.program.plan.agents if not agent.shares or agent.name in links]
        squares: dict[str, float] = dict.fromkeys(agents, 0.0)
        squares |= dict.fromkeys(self.program.across, 0.0)
        for name, parameter in self.parameters.items():
            if parameter.grad is not None:
                squares[self.program.owner(name)] += float(parameter.grad.double().pow(2).sum())
        return {name: math.sqrt(square) for name, square in squares.items()}

    def _clip(self, limit: float) -> None:
        """Limit the gradient's norm of each agent and each edge on its own: a gradient that explodes in one of them, as
        behind many latent steps, would else leave the others hardly any."""
        owned: dict[str, list[nn.Parameter]] = {}
        for name, parameter in self.parameters.items():
            owned.setdefault(self.program.owner(name), []).append(parameter)
        for parameters in owned.values():
            nn.utils.clip_grad_norm_(parameters, limit)


def _way_out(step: int, saved: int) -> str:
    """What to do about a loss that is no number at a step, counted from 0."""
    if saved:
        return (
            "go on from the last checkpoint with a lower rate: --resume --set rate=...; or start over with a longer "
            "`warmup`"
        )
    if step:
        return "start over with a lower `rate` or a longer `warmup`"
    return (
        "nothing has been trained yet, so that it is no matter of `rate`: the weights of a base model, or those that "
        "training begins with, are damaged, or the numbers are too large for the dtype (try `float32`)"
    )
