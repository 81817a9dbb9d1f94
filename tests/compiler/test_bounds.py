"""Numbers that cannot work are refused when a file is checked, and what is refused is documented."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import pytest

from masc.compiler.ir.plan import TrainSettings
from masc.compiler.language.adapters import LORA
from masc.compiler.language.agents import ANSWER, DECODING
from masc.compiler.language.bounds import Bounds
from masc.compiler.language.declare import Option
from masc.compiler.language.train import NUMBERS, TRAIN
from masc.compiler.pipeline import compile_source
from masc.dsl.source import Source
from teams import said

LANGUAGE = Path(__file__).parents[2] / "docs" / "language.md"
TEAM = """\
mas 1
model m = "no-one/not-on-disk"
agent thinker on m {
  user "{question}"
  think THINK
}
agent solver on m {
  user "{question}"
  adapt lora(LORA)
  answer (ANSWER)
}
graph g(question) -> answer {
  thinker -> solver : kv(KV)
}
train {
  TRAIN
}
"""
PLACES = {"THINK": "1", "LORA": "rank = 8", "ANSWER": "max_tokens = 5", "KV": "carry = own", "TRAIN": "steps 5"}


def team(**given: str) -> list[str]:
    text = TEAM
    for place, usual in PLACES.items():
        text = text.replace(place, given.get(place, usual))
    return said(compile_source(Source("x.mas", text)))


TOO_MUCH = [
    ("ANSWER", "temperature = 1e-50"),
    ("ANSWER", "temperature = 1e39"),
    ("ANSWER", "temperature = -0.5"),
    ("ANSWER", "top_p = 1e-50"),
    ("ANSWER", "max_tokens = 1000000000"),
    ("ANSWER", "seed = 9223372036854775808"),
    ("LORA", "rank = 1000000000"),
    ("LORA", "alpha = 1e39"),
    ("LORA", "alpha = 1e-50"),
    ("LORA", "dropout = 1"),
    ("LORA", "dropout = 0.9999999999999999"),
    ("THINK", "1000000000"),
    ("KV", "layers = 0..9223372036854775808"),
    ("KV", "open = 9223372036854775808"),
    ("TRAIN", "rate 1e-50"),
    ("TRAIN", "rate 1e39"),
    ("TRAIN", "clip 1e-50"),
    ("TRAIN", "clip 1e39"),
    ("TRAIN", "weight_decay 1e39"),
    ("TRAIN", "warmup 1.1"),
    ("TRAIN", "batch 1000000000"),
    ("TRAIN", "accumulate 1000000000"),
    ("TRAIN", "steps 9223372036854775807"),
    ("TRAIN", "seed 9223372036854775808"),
    ("TRAIN", "keep 0"),
]


@pytest.mark.parametrize(("place", "written"), TOO_MUCH)
def test_what_cannot_work_is_refused(place: str, written: str) -> None:
    assert team(**{place: written}) == ["E0404"]


@pytest.mark.parametrize(
    ("place", "written"),
    [("ANSWER", "temperature = 0"), ("TRAIN", "clip 0"), ("TRAIN", "weight_decay 0.0"), ("TRAIN", "warmup 0")],
)
def test_nothing_is_a_number_too(place: str, written: str) -> None:
    assert team(**{place: written}) == []


def test_every_number_has_bounds() -> None:
    numbers = {f.name for f in fields(TrainSettings) if isinstance(f.default, int | float)}
    assert numbers == set(NUMBERS)
    assert set(NUMBERS) < set(TRAIN)
    assert set(DECODING) == set(ANSWER) - {"stop"}
    assert {name for name, option in LORA.items() if option.reads.bounds} == {"rank", "alpha", "dropout"}


def test_the_defaults_are_within_bounds() -> None:
    for name, limits in NUMBERS.items():
        assert limits.complaint(name, getattr(TrainSettings(), name)) is None


def test_a_complaint_says_what_is_taken() -> None:
    temperature, batch = DECODING["temperature"], NUMBERS["batch"]
    assert temperature.complaint("t", 1e-9) == "`t` is 1e-09: it must be 0, or at least 1e-06"
    assert temperature.complaint("t", float("nan")) is not None
    assert temperature.complaint("t", 10**400) is not None
    assert batch.complaint("b", 5000) == "`b` is 5000: it must be at most 4096"
    assert batch.complaint("b", 1.0) == "`b` takes a whole number, not 1.0"
    assert batch.complaint("b", True) == "`b` takes a whole number, not True"


@pytest.mark.parametrize("table", [LORA, ANSWER, TRAIN], ids=["lora", "answer", "train"])
def test_the_documented_bounds_are_these(table: Mapping[str, Option]) -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", LANGUAGE.read_text().partition("## Limits")[2], re.MULTILINE))
    for name, option in table.items():
        if option.reads.bounds is not None:
            assert rows[name].strip() == documented(option.reads.bounds), name


def documented(limits: Bounds) -> str:
    """`0, or 1e-06 to 1e+06`; whole numbers with commas."""
    low, high = (f"{number:,}" if limits.whole else f"{number:g}" for number in (limits.low, limits.high))
    return ("0, or " if limits.zero else "") + (f"from {low}" if limits.high == 2**63 - 1 else f"{low} to {high}")
