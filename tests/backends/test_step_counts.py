"""What a step of training asks of torch: operations and waits for the device are counted, since a test cannot time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from masc.backends.torch.model import losses
from masc.backends.torch.training.processes import Processes
from masc.backends.torch.training.step import Stepper
from support import ROWS, chain, make_program

CHAIN = chain(("a", 4, "norm"), ("b", 4, "norm"), ("c", 0, "norm"))


class Counted(TorchDispatchMode):
    """Operations by name."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        self.found[function.overloadpacket.__name__] += 1
        return function(*arguments, **(named or {}))


def counted(program: Any, batch: list[Any]) -> Counter[str]:
    """Operations of the second step, all but the optimiser's."""
    parameters = program.trainable()
    optimizer = torch.optim.SGD(parameters.values(), lr=1e-3, foreach=True)
    stepper = Stepper(program, program, parameters, optimizer, program.plan.train, Processes())
    stepper.take(0, batch, range(len(batch)))
    with Counted() as mode:
        stepper.take(1, batch, range(len(batch)))
    return mode.found


def test_a_step_is_not_more_operations_than_it_was(tiny: Path) -> None:
    """3 layers, 3 agents, 8 latent steps: 5,100 operations, and 13,300 where PEFT computes the adapters."""
    found = counted(make_program(CHAIN, tiny), [ROWS[0]] * 3)
    assert sum(found.values()) < 5500
    # Products of a pass through a layer: 4 groups of projections (q, k, v; o; gate, up; down), of each W, A, B; 11
    # passes, back as many. Those for the gradients of A and B are of sums, once for each agent.
    assert found["mm"] + found["addmm"] + found["addmm_"] < 3 * 11 * (2 * 4 * 3 + 4)


@pytest.mark.parametrize("padded", [False, True])
def test_a_step_waits_for_few_numbers(padded: bool, tiny: Path) -> None:
    """Once for each agent that thinks (may all be seen?), and not for each tensor."""
    found = counted(make_program(CHAIN, tiny), ROWS[:3] if padded else [ROWS[0]] * 3)
    assert found["_local_scalar_dense"] <= 4


def test_losses_are_cross_entropy_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(50, 8, generator=generator)
    hidden, labels = torch.randn(11, 8, generator=generator), torch.randint(50, (11,), generator=generator)
    share = torch.randn(11, generator=generator)
    plain, parts = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
    (cross_entropy(plain @ weight.T, labels, reduction="none") * share).sum().backward()
    sizes: list[int] = []

    def head(states: torch.Tensor) -> torch.Tensor:
        sizes.append(len(states))
        return states @ weight.T

    monkeypatch.setattr(losses, "AT_ONCE", 200)
    own, largest = losses.token_losses(head, parts, labels, 50)
    (own * share).sum().backward()
    assert sizes == [4, 4, 3]
    assert torch.allclose(largest, (hidden @ weight.T).amax(-1))
    assert torch.allclose(own, cross_entropy(hidden @ weight.T, labels, reduction="none"), atol=1e-6)
    assert plain.grad is not None
    assert torch.allclose(parts.grad, plain.grad, atol=1e-6)


def test_padded_labels_are_not_scored(tiny: Path) -> None:
    """Their logits are there for whoever asks."""
    program = make_program(CHAIN, tiny)
    out = program(ROWS)
    scored = out.outputs["answer"]
    assert scored.losses.shape == scored.labels.shape == scored.logits.shape[:2]
    assert bool((scored.losses[scored.labels == -100] == 0).all())
    whole = cross_entropy(scored.logits.flatten(0, 1), scored.labels.flatten(), reduction="none").view_as(scored.losses)
    assert torch.allclose(whole, scored.losses, atol=1e-6)
    assert out.tokens == int((scored.labels != -100).sum())
    assert out.positions == sum(int(turn.real.sum()) for turn in program.trace(ROWS, forced=True).turns.values())
