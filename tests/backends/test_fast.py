"""The fast engine says what the exact one says, row by row, whatever the graph."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from engines import same
from families import make_family

from graphs import GRAPHS, fan, graph_program, pair
from masc.backends.torch.engine.fast.pipeline import Answering, Pipeline, Source
from masc.backends.torch.engine.fast.rows import Job, Travelling
from masc.backends.torch.model.cache import Slots
from masc.compiler.analysis.decoding import Decoding
from support import ROWS, WINDOWED, chain, make_model, make_program

TEAM = chain(("a", 2, "norm"), ("b", 3, "ridge"), ("c", 0, "norm"))


@pytest.mark.parametrize("name", GRAPHS)
def test_it_says_what_the_exact_engine_says(name: str, tiny: Path) -> None:
    program = graph_program(name, tiny)
    same(program.say(ROWS), program.say(ROWS, engine="exact"))


@pytest.mark.parametrize("name", ["hidden, of the prompt too", "fuse", "stack", "layers", "rounds", "text"])
def test_beginnings_that_rows_share_change_nothing(name: str, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("masc.backends.torch.engine.fast.beginnings.WORTH", 1)
    program = make_program(GRAPHS[name], tiny)
    wanted = program.say(ROWS, engine="exact")
    same(program.say(ROWS), wanted)
    some = dict(program.say_each(ROWS, 1))
    same([some[i] for i in range(len(ROWS))], wanted)


@pytest.mark.parametrize(
    "graph", [TEAM, fan("carry = own"), fan("merge = stack, layers = 0..1")], ids=["chain", "fan", "stack"]
)
@pytest.mark.parametrize(("kind", "settings"), WINDOWED, ids=[kind for kind, _ in WINDOWED])
def test_sliding_windows_too(kind: str, settings: dict[str, Any], graph: str, tmp_path: Path) -> None:
    program = make_program(graph, make_model(tmp_path / kind, kind, **settings))
    same(program.say(ROWS), program.say(ROWS, engine="exact"))


@pytest.mark.parametrize("kind", ["qwen2", "gemma", "olmo2", "qwen2_moe"])
def test_other_models_too(kind: str, tmp_path: Path) -> None:
    """Siblings with an adapter each; of a mixture one sits on what reads all positions of a batch in one row."""
    program = make_program(fan("carry = own, merge = stack"), make_family(tmp_path / kind, kind))
    same(program.say(ROWS), program.say(ROWS, engine="exact"))


@pytest.mark.parametrize("channel", ["graph", "text"])
def test_with_a_cut_and_as_text_agents(channel: str, tiny: Path) -> None:
    for options in ({}, {"cut": (("a", "b"),)}):
        program = make_program(TEAM, tiny, channel=channel, **options)
        same(program.say(ROWS), program.say(ROWS, engine="exact"))


@pytest.mark.parametrize(
    "adapt", ["none", "lora(rank = 4, dora = true)", "lora(rank = 8, rslora = true, targets = [up_proj, q_proj])"]
)
@pytest.mark.parametrize("memory", [1 << 40, 0], ids=["copies", "no memory for copies"])
def test_every_kind_of_adapter(adapt: str, memory: int, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In copies of the weights, and where there is no memory for copies."""
    monkeypatch.setattr("masc.backends.torch.model.folded.free_memory", lambda device: memory)
    text = fan("carry = own").replace("adapt lora(rank = 4)", f"adapt {adapt}", 2)
    program = make_program(text, tiny)
    same(program.say(ROWS), program.say(ROWS, engine="exact"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_logits_are_those_of_the_exact_engine(dtype: torch.dtype, tiny: Path) -> None:
    """Teacher-forced without gradients: what the gold perplexity is made of."""
    for name in ("trace", "a shared adapter", "stack"):
        program = make_program(GRAPHS[name], tiny).to(dtype)
        with torch.no_grad():
            exact = program(ROWS)
            with program.holding(quick=True):
                fast = program(ROWS)
        for output, scored in exact.outputs.items():
            close = (1e-4 if dtype == torch.float32 else 1e-8) * float(scored.logits.abs().max())
            torch.testing.assert_close(fast.outputs[output].logits, scored.logits, atol=close, rtol=0)


SAMPLED = Decoding(temperature=1.3, top_p=0.9, max_tokens=12, seed=3)


def test_what_is_sampled_is_what_the_exact_engine_draws(tiny: Path) -> None:
    program = make_program(TEAM, tiny)
    whole = program.say(ROWS, decoding=SAMPLED)
    same(whole, program.say(ROWS, decoding=SAMPLED, engine="exact"))
    assert len({said["answer"].ids for said in whole}) == len(ROWS)
    for i, row in enumerate(ROWS):
        same([whole[i]], program.say([row], [i], decoding=SAMPLED))
    some = dict(program.say_each(ROWS[::-1], 2, range(len(ROWS))[::-1], SAMPLED))
    same([some[3 - i] for i in range(len(ROWS))], whole)


def test_agents_that_sample_beside_ones_that_do_not(tiny: Path) -> None:
    text = pair(
        "text", "{q} and {a}", on="m", answer="answer (max_tokens = 5, temperature = 1.5)", more="c -> b : text"
    )
    text = text.replace("graph g", 'agent c on m { user "{q}." answer (max_tokens = 9) }\ngraph g').replace(
        "model n = OTHER\n", ""
    )
    program = make_program(text, tiny)
    same(program.say(ROWS), program.say(ROWS, engine="exact"))


@pytest.mark.parametrize("stop", ["e", "\\u00e9", "lo"])
def test_stop_strings(stop: str, tiny: Path) -> None:
    text = GRAPHS["text beside keys and values"].replace("max_tokens = 5", f'max_tokens = 20, stop = "{stop}"')
    program = make_program(text, tiny)
    for base in program.bases.values():
        base.stop_ids = frozenset()
    same(program.say(ROWS), program.say(ROWS, engine="exact"))


def test_a_stream_is_the_answer(tiny: Path) -> None:
    for name in ("trace", "an answer in the middle", "text beside keys and values"):
        program = make_program(GRAPHS[name], tiny)
        for row in ROWS:
            whole = program.say([row])[0][program.plan.outputs[-1]].text
            for engine in ("fast", "exact"):
                assert "".join(program.generate([row], stream=True, engine=engine)) == whole


def test_bfloat16(tiny: Path) -> None:
    program = make_program(fan("carry = own"), tiny, dtype="bfloat16")
    said = program.say(ROWS)
    for i, row in enumerate(program.say(ROWS, engine="exact")):
        assert said[i]["answer"].scored == row["answer"].scored
        # The first token's log-probability does not depend on what was chosen before it.
        assert said[i]["answer"].logprob / said[i]["answer"].scored == pytest.approx(
            row["answer"].logprob / row["answer"].scored, abs=0.5
        )


# -- rows that leave and come in ---------------------------------------------------------------------------------------


def flow(program: Any, rows: list[Any], size: int, **options: Any) -> Pipeline:
    source = Source([Job(i, row, i) for i, row in enumerate(rows)])
    return Pipeline(program, source, len(rows), size, **options)


def uneven(tiny: Path, graph: str = TEAM) -> tuple[Any, list[dict[str, str]]]:
    """A program whose answers differ much in length: a third of all tokens end one... of 30 at most."""
    program = make_program(graph.replace("max_tokens = 6", "max_tokens = 60, temperature = 3.0"), tiny)
    for base in program.bases.values():
        base.stop_ids = frozenset(range(0, base.rows, 24))
    return program, [{"q": f"{i} " * (1 + i % 5), "answer": "x"} for i in range(48)]


def test_rows_leave_when_they_are_done_and_others_come_in(tiny: Path) -> None:
    program, rows = uneven(tiny)
    running = flow(program, rows, 8)
    said = dict(running.results())
    assert sorted(said) == list(range(len(rows)))
    lengths = [len(one["answer"].ids) for one in said.values()]
    assert max(lengths) > 4 * (sum(lengths) / len(lengths)) / 2
    pool = running.stages[-1].pool
    assert pool.wanted == sum(lengths) + sum(not one["answer"].cut for one in said.values())
    assert pool.wanted / pool.decoded > 0.85
    together = program.say(rows, list(range(len(rows))), engine="exact")
    same([said[i] for i in range(len(rows))], together)


def test_no_more_rows_are_on_their_way_than_were_asked_for(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, rows = uneven(tiny, GRAPHS["text beside keys and values"].replace("max_tokens = 5", "max_tokens = 6"))
    alive: weakref.WeakSet[Travelling] = weakref.WeakSet()
    begin = Travelling.__init__

    def counted(self: Travelling, *args: Any, **options: Any) -> None:
        begin(self, *args, **options)
        alive.add(self)

    monkeypatch.setattr(Travelling, "__init__", counted)
    monkeypatch.setattr(Travelling, "__hash__", object.__hash__)
    gc.collect()
    gc.freeze()  # what is there already need not be looked at after each row
    running = flow(program, rows, 4)
    answering = sum(isinstance(stage, Answering) for stage in running.stages)
    most = 0
    for _ in running.results():
        gc.collect()
        most = max(most, len(alive))
    assert answering == 2
    assert 4 <= most <= 4 * (answering + 1)


def test_what_nobody_will_read_is_dropped(tiny: Path) -> None:
    """After the last reader of a segment; and what nobody reads at all is never kept."""
    program = make_program(chain(*((name, 1, "norm") for name in "abcd"), edge="kv(carry = own)"), tiny)
    running = flow(program, ROWS, 4)
    kept: list[dict[str, bool]] = []
    for stage in running.stages[:-1]:
        whole = stage.through

        def looked(row: Travelling, whole: Any = whole) -> None:
            whole(row)
            kept.append({name: one.kv is not None for name, one in row.stretches.items()})

        stage.through = looked  # type: ignore[method-assign]
    rows = running.stages[-2].take(1)
    assert kept == [{"a#1": True}, {"a#1": False, "b#1": True}, {"a#1": False, "b#1": False, "c#1": True}]
    tensor = weakref.ref(rows[0].stretches["c#1"].kv[0])
    running = flow(program, ROWS, 4)
    list(running.results())
    del rows
    gc.collect()
    assert tensor() is None


def test_latents_alone_are_kept_where_nothing_else_is_seen(tiny: Path) -> None:
    program = make_program(chain(("a", 2, "norm"), ("b", 0, "norm"), edge="kv(carry = latents)"), tiny)
    running = flow(program, ROWS, 1)
    row = running.stages[0].take(1)[0]
    assert row.stretches["a#1"].kv[0].shape[2] == 2


def test_slots_go_when_the_call_is_over(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be most of a GPU's memory: nobody has to wait until Python looks for circles."""
    program = make_program(TEAM, tiny)
    made: list[weakref.ref[Slots]] = []
    init = Slots.__init__
    monkeypatch.setattr(Slots, "__init__", lambda self, *given: (made.append(weakref.ref(self)), init(self, *given))[1])
    gc.disable()
    try:
        program.say(ROWS)
        list(program.generate(ROWS[:1], stream=True))
        assert len(made) == 4
        assert not any(slots() for slots in made)
    finally:
        gc.enable()


def test_siblings_run_in_one_batch(tiny: Path) -> None:
    program = make_program(fan("carry = own"), tiny)
    widths: list[int] = []
    base = program.base("first")
    assert base.kept  # looked up once, with a pass of its own
    run = base.run
    base.run = lambda inputs, *rest: (widths.append(inputs.shape[0]), run(inputs, *rest))[1]
    program.say(ROWS[:2])
    assert widths[:4] == [6, 6, 4, 2], "prompts of three siblings for two rows; then their 3, 2 and 1 latent steps"


def test_a_damaged_row_is_named(tiny: Path) -> None:
    from masc.dsl.diagnostics import MascError

    program = make_program(TEAM, tiny)
    for rows, said in ((ROWS, "E0606"), ([*ROWS, {"q": "x" * 3000}], "row 5")):
        with program.holding(max_length=20 if said == "E0606" else 0), pytest.raises(MascError, match=said) as caught:
            program.generate(rows)
        with program.holding(max_length=20 if said == "E0606" else 0), pytest.raises(MascError) as other:
            program.generate(rows, engine="exact")
        assert str(caught.value) == str(other.value)


def test_an_answer_past_the_last_position(tmp_path: Path) -> None:
    from masc.dsl.diagnostics import MascError

    folder = make_model(tmp_path / "short", max_position_embeddings=40)
    program = make_program(
        chain(("a", 0, "norm")).replace('system "You are a."', "").replace("max_tokens = 6", "max_tokens = 90"), folder
    )
    program.base("a").stop_ids = frozenset()
    rows = [{"q": "x" * k} for k in (1, 3, 2)]
    with pytest.raises(MascError, match="past the model's 40 positions"):
        program.say(rows)
    found = program.say(rows, cuts=True)
    same(found, program.say(rows, cuts=True, engine="exact"))
    assert all(one["answer"].cut for one in found)
