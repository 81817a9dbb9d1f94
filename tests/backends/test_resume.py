"""Going on from a checkpoint: only where it belongs to this very run, and with what has changed told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from finished import LAST, SETTINGS, TEXT, edited, resume, sign, snapshot
from masc.backends.torch.training import origin
from masc.backends.torch.training.train import train
from masc.dsl.diagnostics import MascError
from support import ROWS, make_model, make_program


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            TEXT.replace("think 1 (align = norm)", "think 9 (align = ridge)"),
            r"- turn a#1: think 1 align=norm; \+ turn a#1: think 9",
        ),
        (TEXT.replace("You are a.", "You are not a."), 'system "You are not a."'),
        (TEXT.replace("rank = 2", "rank = 1"), "rank=1"),
        (TEXT.replace("rank = 2", "rank = 2, alpha = 3"), "alpha=3"),
        (TEXT.replace("dropout = 0.1", "dropout = 0.2"), "dropout=0.2"),
        (TEXT.replace("open = 3", "open = 2"), "until=2"),
        (TEXT + "train { answer <- q }", "column=q"),
    ],
    ids=["latents", "prompt", "rank", "alpha", "dropout", "open", "column"],
)
def test_another_plan_is_refused(text: str, told: str, tiny: Path, run: Path) -> None:
    before = snapshot(run)
    with pytest.raises(MascError, match=told) as error:
        resume(tiny, run, text, steps=6)
    assert {d.code for d in error.value.diagnostics} <= {"E0608"}
    assert snapshot(run) == before


def test_how_answers_are_decoded_is_no_part_of_it(tiny: Path, run: Path) -> None:
    resume(tiny, run, TEXT.replace("max_tokens = 6", "max_tokens = 9"))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"rows": ROWS[:3]}, "other data: 4 rows, not 3"),
        ({"rows": [*ROWS[1:], ROWS[0]]}, "other data"),
        ({"rows": [{**ROWS[0], "q": "hello  world "}, *ROWS[1:]]}, "other data"),
        ({"seed": 1}, "seed = 0, not 1"),
        ({"batch": 1}, "batch = 2, not 1"),
        ({"accumulate": 2}, "accumulate = 1, not 2"),
        ({"options": {"dtype": "bfloat16"}}, "dtype float32, not bfloat16"),
        ({"steps": 3}, "seen 4 steps already, and steps = 3"),
    ],
    ids=str,
)
def test_another_run_is_refused(settings: dict[str, Any], told: str, tiny: Path, run: Path) -> None:
    before = snapshot(run)
    with pytest.raises(MascError, match=told):
        resume(tiny, run, **{"steps": 6, **settings})
    assert snapshot(run) == before


def test_all_that_differs_is_told_at_once(tiny: Path, run: Path) -> None:
    with pytest.raises(MascError) as error:
        resume(tiny, run, TEXT.replace("think 1", "think 2"), rows=ROWS[:2], seed=3, batch=1)
    assert len(error.value.diagnostics) == 4


def test_another_number_of_processes_is_refused_both_ways(tiny: Path) -> None:

    from masc.compiler.ir.plan import TrainSettings

    one = origin.origin_of(make_program(TEXT, tiny), ROWS, TrainSettings(), 1)
    two = replace(one, processes=2)
    assert "by 2 processes, not 1" in origin.refusals("x", two, one)[0].message
    assert "by 1 process, not 2" in origin.refusals("x", one, two)[0].message
    assert origin.refusals("x", one, one) == []


def test_another_base_model_is_refused(tiny: Path, run: Path, tmp_path: Path) -> None:
    exchanged = tmp_path / "models" / "tiny"
    make_model(exchanged, seed=4)
    before = snapshot(run)
    with pytest.raises(MascError, match=r"E0615.*another base model"):
        resume(exchanged, run)
    assert snapshot(run) == before


def test_a_base_model_that_differs_in_the_middle(tiny: Path, run: Path) -> None:
    """Of large files the hash knows the ends alone; the weights are looked at as they were loaded."""
    program = make_program(TEXT, tiny)
    weight = program.base("a").model.get_decoder().layers[1].mlp.up_proj.base_layer.weight
    weight.data[3], weight.data[4] = weight.data[4].clone(), weight.data[3].clone()
    with pytest.raises(MascError, match="E0615"):
        train(program, ROWS, ROWS[:2], directory=run, resume=True, **SETTINGS)


def test_columns_that_are_not_read_do_not_matter(tiny: Path, run: Path) -> None:
    resume(tiny, run, rows=[{"id": i, **row} for i, row in enumerate(ROWS)])


def test_what_may_differ_is_told_with_its_effect(tiny: Path, run: Path) -> None:
    history, told = resume(tiny, run, steps=8, clip=0.5, save_every=2, checkpoint="agent", eval_every=1)
    messages = {d.message.partition(" was trained with ")[2].partition(" ")[0]: d.message for d in told}
    assert set(messages) == {"steps", "clip", "save_every", "checkpoint", "eval_every"}
    assert {d.code for d in told} == {"W0601"}
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[4])["rate"]
    assert f"step 4 ran at a rate of {last:.2g}, step 5 runs at {history[0]['rate']:.2g}" in messages["steps"]
    assert resume(tiny, run, steps=8, clip=0.5, save_every=2, checkpoint="agent", eval_every=1) == ([], [])


def test_other_versions_are_told(tiny: Path, run: Path) -> None:
    state = json.loads((run / LAST / "state.json").read_text())
    state["around"]["versions"]["torch"] = "1.0"
    state["around"]["threads"] = 96
    (run / LAST / "state.json").write_text(json.dumps(state))
    sign(run / LAST)
    _, told = resume(tiny, run)
    assert [d.code for d in told] == ["W0603", "W0603"]
    assert "torch 1.0" in told[0].message
    assert "96 CPU threads" in told[1].message


def test_python_is_warned(tiny: Path, run: Path) -> None:
    with pytest.warns(UserWarning, match="W0601.*rate"):
        train(make_program(TEXT, tiny), ROWS, ROWS[:2], directory=run, resume=True, **{**SETTINGS, "rate": 2e-3})


@pytest.mark.parametrize("belongs", ["x", None, {}, {"models": []}], ids=str)
def test_weights_of_a_checkpoint_that_belongs_to_nothing_are_not_taken(belongs: Any, tiny: Path, run: Path) -> None:
    from masc.session.weights import load_checkpoint, read_checkpoint

    edited(belongs=belongs)(run / LAST)
    sign(run / LAST)
    with pytest.raises(MascError, match=r"E0608.*which base models"):
        load_checkpoint(read_checkpoint(run / LAST), make_program(TEXT, tiny))
