"""A number that passes the check can be run: the ends of every range, on the tiny model."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from masc.backends.torch.training.train import train
from masc.compiler.language.adapters import LORA
from masc.compiler.language.agents import DECODING
from masc.compiler.language.train import NUMBERS
from support import ROWS, chain, make_program

ENDS = [
    (name, end)
    for name in ("rate", "warmup", "clip", "weight_decay")
    for end in (NUMBERS[name].low, NUMBERS[name].high)
]


@pytest.mark.parametrize(("name", "end"), ENDS)
def test_training_at_the_ends(name: str, end: float, tiny: Path) -> None:
    program = make_program(chain(("a", 1, "norm"), ("b", 0, "norm")), tiny, awake=False)
    (metrics,) = train(program, ROWS, steps=1, batch=2, **{name: end})
    assert math.isfinite(metrics["loss"])
    assert all(parameter.isfinite().all() for parameter in program.trainable().values())


def ends(name: str) -> list[float]:
    limits = LORA[name].reads.bounds
    assert limits is not None
    return [limits.low, limits.high]


@pytest.mark.parametrize("alpha", ends("alpha"))
@pytest.mark.parametrize("dropout", ends("dropout"))
def test_adapters_at_the_ends(alpha: float, dropout: float, tiny: Path) -> None:
    adapt = f"lora(rank = 2, alpha = {alpha}, dropout = {dropout})"
    program = make_program(chain(("a", 1, "norm"), ("b", 0, "norm"), adapt=adapt), tiny, awake=False)
    (metrics,) = train(program, ROWS, steps=1, batch=2)
    assert math.isfinite(metrics["loss"])
    assert math.isfinite(metrics["grad_norm"])


@pytest.mark.parametrize("temperature", [DECODING["temperature"].low, DECODING["temperature"].high])
@pytest.mark.parametrize("top_p", [DECODING["top_p"].low, DECODING["top_p"].high])
def test_decoding_at_the_ends(temperature: float, top_p: float, tiny: Path) -> None:
    said = f"answer (temperature = {temperature}, top_p = {top_p}, max_tokens = 4)"
    text = chain(("a", 1, "norm"), ("b", 0, "norm")).replace("answer (max_tokens = 6)", said)
    assert said in text
    assert len(make_program(text, tiny).generate(ROWS[:2])) == 2
