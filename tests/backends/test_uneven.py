"""The fast engine on models whose layers keep caches of several shapes, or states beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from engines import same
from families import make_family

from masc.backends.torch.engine.fast.pipeline import Pipeline, Source
from masc.backends.torch.engine.fast.rows import Job
from masc.backends.torch.model.base import Base
from masc.backends.torch.model.cache import Slots
from masc.backends.torch.model.layout import Layout
from masc.backends.torch.program import Program
from masc.backends.torch.proving.identities import awake, program_of
from masc.compiler.analysis.decoding import Decoding

KINDS = ["deepseek_v3", "gemma4_text", "lfm2", "mamba2", "nemotron_h", "qwen3_5_text"]
ROWS = [{"q": text} for text in ("Two and two?", "Name the colours of a rainbow.", "x", "How many eggs are that?", "y")]
CHAIN = """\
mas 1
model m = "a/model"
agent first on m { user "Plan it. {q}" think 3 adapt lora(rank = 2, alpha = 4) }
agent second on m { user "{q}" think 1 adapt lora(rank = 2, alpha = 4) answer (max_tokens = 9, temperature = 1) }
agent last on m { user "{second}" adapt none answer (max_tokens = 6) }
graph proof(q) -> answer { first -> second -> last : kv  second -> last : text }
"""
SIBLINGS = """\
mas 1
model m = "a/model"
agent left on m { user "Left. {q}" think 2 adapt lora(rank = 2, alpha = 4) }
agent right on m { user "{q}" think 1 adapt lora(rank = 2, alpha = 4) }
agent last on m { user "{left} {right} {q}" adapt lora(rank = 2, alpha = 4) answer (max_tokens = 6) }
graph proof(q) -> answer { [left, right] -> last : hidden }
"""
MIXED = """\
mas 1
model m = "a/model"
agent first on m { user "First. {q}" think 1 adapt none }
agent going on m { user "{q}" think 1 adapt none }
agent new on m { user "{first} {q}" think 1 adapt none }
agent last on m { user "{going} {new} {q}" adapt none answer (max_tokens = 6) }
graph proof(q) -> answer { first -> going : kv  first -> new : hidden  [going, new] -> last : hidden }
"""


@pytest.fixture(scope="module", params=KINDS)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Base:
    return Base(make_family(tmp_path_factory.mktemp("uneven") / "m", request.param), torch.float32)


def team(base: Base, text: str) -> Program:
    """One whose answers end early, each at another token."""
    program = awake(program_of(base, text))
    base.stop_ids = frozenset(range(0, base.rows, 5))
    assert program.flows
    return program


def test_it_says_what_the_exact_engine_says(base: Base) -> None:
    """Latent steps, what was said of an answer that ended early, and states that go on from there."""
    program = team(base, CHAIN)
    wanted = program.say(ROWS, engine="exact")
    lengths = {len(row["second#1"].ids) for row in wanted if "second#1" in row}
    assert len(lengths) > 1, "all answers are equally long: none leaves before another"
    same(program.say(ROWS), wanted)
    some = dict(program.say_each(ROWS, 2))
    same([some[i] for i in range(len(ROWS))], wanted)


def test_siblings_and_what_is_sampled(base: Base) -> None:
    program = team(base, SIBLINGS)
    drawn = Decoding(temperature=1.0, seed=3)
    for decoding in (Decoding(), drawn):
        same(program.say(ROWS, decoding=decoding), program.say(ROWS, decoding=decoding, engine="exact"))


def test_answers_to_one_row_begin_from_one_prompt(base: Base) -> None:
    """Which is read once: states are copied with the rest of a slot."""
    program, drawn = team(base, CHAIN), Decoding(temperature=1.0, seed=3)
    rows, samples, numbers = [ROWS[0]] * 3 + [ROWS[1]] * 3, [0, 1, 2] * 2, [0] * 3 + [1] * 3
    found = program.say(rows, numbers, decoding=drawn, samples=samples)
    same(found, program.say(rows, numbers, decoding=drawn, samples=samples, engine="exact"))
    assert len({row["answer"].text for row in found[:3]}) > 1


def test_a_slot_that_was_used_leaves_nothing_behind(base: Base) -> None:
    """Neither keys nor states of who had it before."""
    program = team(base, CHAIN)
    flow = Pipeline(program, Source([Job(i, row, i) for i, row in enumerate(ROWS)]), len(ROWS), 1)
    found = dict(flow.results())
    same([found[i] for i in range(len(ROWS))], [said for i, row in enumerate(ROWS) for said in program.say([row], [i])])


def test_who_goes_on_beside_who_begins(base: Base) -> None:
    """One of two siblings has a past, the other none: its slot begins as a new cache does."""
    program = team(base, MIXED)
    assert [len(stage.turns) for stage in Pipeline(program, Source([]), 1, 1).stages] == [1, 2, 1]
    some = dict(program.say_each(ROWS, 2))  # in slots that others had before
    same([some[i] for i in range(len(ROWS))], program.say(ROWS, engine="exact"))


def test_windows_beside_states(tmp_path: Path) -> None:
    """No type of today has both; a model may."""
    base = Base(make_family(tmp_path / "m", "qwen3_5_text"), torch.float32)
    without = team(base, CHAIN).say(ROWS)
    vars(base)["_windows"] = (torch.full((base.layers,), 6),)
    program = team(base, CHAIN)
    found = program.say(ROWS)
    same(found, program.say(ROWS, engine="exact"))
    pairs = zip(found, without, strict=True)
    assert any(abs(one["answer"].logprob - other["answer"].logprob) > 1e-2 for one, other in pairs)


def test_tensors_of_one_shape_lie_together() -> None:
    def pair(keys: tuple[int, int], values: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        made = [torch.randn(3, heads, 5, wide) for heads, wide in (keys, values)]
        return made[0], made[1]

    layers = (pair((2, 4), (2, 4)), pair((0, 0), (0, 0)), pair((2, 4), (2, 6)))
    layout = Layout.of(layers)
    assert (layout.shapes, layout.counts, layout.blind) == (((2, 4), (0, 0), (2, 6)), (3, 2, 1), False)
    packed = layout.pack(layers)
    assert [tuple(one.shape) for one in packed] == [(3, 3, 2, 5, 4), (2, 3, 0, 5, 0), (1, 3, 2, 5, 6)]
    for found, wanted in zip(layout.layers(packed), layers, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_even_caches_are_one_tensor(tiny: Path) -> None:
    slots = Slots(Base(tiny, torch.float32), 3, False)
    slots.reserve(10)
    (kv,) = slots.kv
    assert kv.shape[:2] == (2 * slots.base.layers, 3)
    assert slots.states == ()


def test_slots_are_of_the_dtype_that_the_model_has_now(tmp_path: Path) -> None:
    """Its convolutions' states, too; the running ones are in float32 whatever the model is in."""
    base = Base(make_family(tmp_path / "m", "qwen3_5_text"), torch.float32)
    program = team(base, CHAIN)
    for dtype in (torch.float32, torch.float64):
        program.to(dtype)
        slots = Slots(base, 2, False)
        conv, running = slots.states[:2]
        assert ({one.dtype for one in slots.kv}, conv.dtype, running.dtype) == ({dtype}, dtype, torch.float32)
        same(program.say(ROWS), program.say(ROWS, engine="exact"))


def test_weights_of_which_there_are_no_copies(tmp_path: Path) -> None:
    """Rows that go on from states are read in parts, whatever applies their adapters."""
    pytest.importorskip("bitsandbytes")
    program = team(Base(make_family(tmp_path / "m", "lfm2"), torch.float32, "nf4"), CHAIN)
    same(program.say(ROWS), program.say(ROWS, engine="exact"))
