"""One program, any number of threads: nobody sees another agent's adapter, another thread's dropout, plan or notes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from graphs import GRAPHS
from masc.backends.torch.training.train import train
from support import ROWS, chain, make_program

TEAM = chain(
    *(("a", 2, "norm"), ("b", 1, "linear"), ("c", 0, "norm")), adapt="lora(rank = 4, alpha = 8, dropout = 0.4)"
)


def at_once(*jobs: Callable[[], Any]) -> list[Any]:
    """What jobs return that start at the same moment, a thread each. Raises what the first of them raised."""
    found: list[Any] = [None] * len(jobs)
    failed: list[BaseException] = []
    gate = threading.Barrier(len(jobs))

    def run(at: int, job: Callable[[], Any]) -> None:
        try:
            gate.wait()
            found[at] = job()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return found


@pytest.fixture
def switching() -> Any:
    """Threads take turns as often as they can."""
    import sys

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def gradients(program: Any, rows: Any, recompute: bool) -> dict[str, torch.Tensor]:
    names = program.trainable()
    found = torch.autograd.grad(program(rows, recompute=recompute).loss, list(names.values()), allow_unused=True)
    return {name: grad for name, grad in zip(names, found, strict=True) if grad is not None}


@pytest.mark.usefixtures("switching")
@pytest.mark.parametrize("name", ["rounds", "hidden"])
def test_eight_threads_that_generate_stream_and_take_gradients(name: str, tiny: Path) -> None:
    program = make_program(GRAPHS[name], tiny)
    said, streamed = program.generate(ROWS), ["".join(program.generate([row], stream=True)) for row in ROWS]
    plain = gradients(program, ROWS, False)

    def generates() -> None:
        for _ in range(2):
            assert program.generate(ROWS) == said

    def streams() -> None:
        for row, want in zip(ROWS, streamed, strict=True):
            assert "".join(program.generate([row], stream=True)) == want

    def learns(recompute: bool) -> Callable[[], None]:
        def run() -> None:
            found = gradients(program, ROWS, recompute)
            assert found.keys() == plain.keys()
            for key, gradient in plain.items():
                assert torch.equal(found[key], gradient), key

        return run

    at_once(generates, generates, generates, streams, streams, learns(False), learns(True), learns(True))


@pytest.mark.usefixtures("switching")
def test_while_one_thread_trains_others_hear_nothing_of_it(tiny: Path) -> None:
    """At rate 0 the weights stay: answers must be those of before, whatever dropout, limits and notes training has
    switched on, and training must be what it is alone."""
    settings: dict[str, Any] = {"steps": 3, "batch": 2, "warmup": 0.0, "checkpoint": "agent"}
    program = make_program(TEAM, tiny)
    said = program.generate(ROWS)

    def generates() -> list[Any]:
        return [program.generate(ROWS) for _ in range(3)]

    def trains() -> list[Any]:
        return train(program, ROWS, **settings, rate=1e-12)

    found = at_once(trains, generates, generates, generates)
    assert all(answers == said for one in found[1:] for answers in one)
    alone = train(make_program(TEAM, tiny), ROWS, **settings, rate=1e-12)
    assert [m["loss"] for m in found[0]] == [m["loss"] for m in alone]
    assert [m["grad_norm"] for m in found[0]] == [m["grad_norm"] for m in alone]


@pytest.mark.usefixtures("switching")
def test_values_stay_characters_while_templates_are_read(tiny: Path) -> None:
    """Whether special tokens are split is state of the tokenizer."""
    from masc.backends.torch.model.prompts import prompt_ids

    program = make_program(TEAM, tiny)
    base, agent = program.base("a"), program.plan.agent("a")
    rows = [{"q": "<|im_end|>" * 20}, {"q": "plain"}]
    want = [prompt_ids(base, agent, row, 0) for row in rows]

    def reads(at: int) -> Callable[[], bool]:
        return lambda: all(prompt_ids(base, agent, rows[at], 0) == want[at] for _ in range(50))

    assert all(at_once(*(reads(i % 2) for i in range(8))))


def test_recompute_drops_what_was_dropped(tiny: Path) -> None:
    """Also where torch's own generator was used in between."""
    program = make_program(TEAM, tiny)
    program.train()
    torch.manual_seed(3)
    plain = gradients(program, ROWS, False)
    torch.manual_seed(3)
    loss = program(ROWS, recompute=True).loss
    torch.rand(100)
    names = program.trainable()
    found = torch.autograd.grad(loss, list(names.values()), allow_unused=True)
    for (name, _), gradient in zip(names.items(), found, strict=True):
        if gradient is not None:
            assert torch.equal(gradient, plain[name]), name
    torch.manual_seed(4)
    assert program(ROWS).loss.item() != loss.item()


def test_what_is_said_in_training_mode_is_what_is_said(tiny: Path) -> None:
    program = make_program(TEAM, tiny)
    said, streamed = program.generate(ROWS), list(program.generate(ROWS[:1], stream=True))
    program.train()
    assert program.generate(ROWS) == said
    pieces = program.generate(ROWS[:1], stream=True)
    first = next(pieces)
    assert program(ROWS).loss.item() != program(ROWS).loss.item()  # between two pieces dropout is as it was
    assert [first, *pieces] == streamed
    assert program.trace(ROWS)["c#1"].texts == tuple(said)
    assert program.training


def test_a_pass_that_fails_leaves_nothing_switched_on(tiny: Path) -> None:
    from masc.dsl.diagnostics import MascError

    program = make_program(TEAM, tiny)
    said, loss = program.generate(ROWS), program(ROWS).loss.item()
    with pytest.raises(MascError):
        program([*ROWS, {"q": "no answer"}])
    with pytest.raises(MascError):
        program.say([*ROWS, {}])
    pieces = program.generate(ROWS[:1], stream=True)
    next(pieces)
    pieces.close()
    with pytest.raises(KeyError), program.running(program.plan), program.patched({("a#1", "latents"): lambda own: own}):
        raise KeyError
    assert torch.is_grad_enabled()
    assert program.generate(ROWS) == said
    assert program(ROWS).loss.item() == loss
    assert program.here.rounds is None
    assert not program.here.max_length
