"""What a run of training takes over from before, and what it leaves behind: nothing that decides a number."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from masc.backends.torch.engine.opening import opening_draws
from masc.backends.torch.training import train as trainer
from masc.backends.torch.training.train import train
from masc.dsl.diagnostics import MascError
from support import ROWS, chain, make_program

TEXT = chain(("a", 1, "linear"), ("b", 0, "norm"), adapt="lora(rank = 2, dropout = 0.1)")
ROUNDS = """
mas 1
model m = MODEL
agent a on m { user "a {q}" think 1 adapt lora(rank = 2) answer }
agent b on m { user "b {q}" think 1 adapt lora(rank = 2) }
graph g(q) -> answer { repeat 2 { a -> b : kv  b -> a : kv } }
"""
SETTINGS: dict[str, Any] = {"steps": 2, "batch": 2, "rate": 1e-3}


def weights(program: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in program.trainable().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def plain(tiny: Path) -> dict[str, torch.Tensor]:
    program = make_program(TEXT, tiny)
    train(program, ROWS, **SETTINGS)
    return weights(program)


def gradients(program: Any) -> None:
    (100 * program(ROWS).loss).backward()


def rounds_noted(program: Any) -> None:
    with program.holding(rounds={}):
        program(ROWS).loss.backward()


def optimiser_of_ones_own(program: Any) -> None:
    own = torch.optim.AdamW(program.trainable().values())
    program(ROWS).loss.backward()
    before = weights(program)
    own.step()
    for name, parameter in program.trainable().items():
        parameter.data.copy_(before[name])


@pytest.mark.parametrize(
    "before",
    [gradients, rounds_noted, optimiser_of_ones_own, lambda program: program.train(), lambda _: torch.manual_seed(7)],
    ids=["gradients", "rounds", "optimiser", "mode", "random numbers"],
)
def test_what_was_before_changes_nothing(before: Any, tiny: Path, plain: dict[str, torch.Tensor]) -> None:
    program = make_program(TEXT, tiny)
    before(program)
    train(program, ROWS, **SETTINGS)
    assert same(weights(program), plain)


def test_what_is_switched_around_it_changes_nothing(tiny: Path, plain: dict[str, torch.Tensor]) -> None:
    program = make_program(TEXT, tiny)
    with torch.no_grad():
        train(program, ROWS, **SETTINGS)
    assert same(weights(program), plain)
    program = make_program(TEXT, tiny)
    with torch.inference_mode():
        train(program, ROWS, **SETTINGS)
    assert same(weights(program), plain)


@pytest.mark.parametrize(
    "around", [torch.autocast("cpu", torch.bfloat16), torch.device("meta")], ids=["autocast", "meta"]
)
def test_autocast_and_default_device_change_nothing(around: Any, tiny: Path, plain: dict[str, torch.Tensor]) -> None:
    program = make_program(TEXT, tiny)
    with around:
        train(program, ROWS, **SETTINGS)
    assert same(weights(program), plain)


@pytest.mark.parametrize("two", [False, True], ids=["one model", "two models"])
def test_a_default_device_reaches_no_tensor(two: bool, tiny: Path) -> None:
    """`meta` stands for a GPU: a tensor that is made there by default has no numbers to go on with."""
    text = TEXT
    if two:
        text = TEXT.replace(" : kv", " : fuse").replace("agent b on m", "agent b on o")
        text = text.replace("model m = MODEL", "model m = MODEL\nmodel o = OTHER")
    ends = []
    for around in (nullcontext(), torch.device("meta")):
        with around:
            program = make_program(text, tiny, awake=False)
            said, loss = program.generate(ROWS), program(ROWS).loss
            loss.backward()
        gradients = {name: p.grad for name, p in program.trainable().items() if p.grad is not None}
        ends.append((said, float(loss.detach()), gradients))
    assert ends[0][:2] == ends[1][:2]
    assert same(ends[0][2], ends[1][2])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_torchs_default_dtype_changes_nothing_that_is_built(dtype: torch.dtype, tiny: Path) -> None:
    def built(edge: str, model: str) -> dict[str, torch.Tensor]:
        text = TEXT.replace(" : kv", f" : {edge}").replace("agent b on m", f"agent b on {model}")
        text = text.replace("model m = MODEL", "model m = MODEL\nmodel o = OTHER").replace(
            "model o = OTHER" if model == "m" else "\0", ""
        )
        return weights(make_program(text, tiny, awake=False))

    for edge, model in (("kv", "m"), ("fuse", "o"), ("hidden", "o")):
        usual = built(edge, model)
        torch.set_default_dtype(dtype)
        try:
            other = built(edge, model)
            assert torch.get_default_dtype() == dtype
        finally:
            torch.set_default_dtype(torch.float32)
        assert {name: t.dtype for name, t in other.items()} == {name: t.dtype for name, t in usual.items()}
        assert same(other, usual)


def test_torchs_default_dtype_changes_nothing(tiny: Path) -> None:
    """Nor which samples see an opening channel."""
    text = chain(("a", 1, "norm"), ("b", 0, "norm"), edge="kv(carry = latents, open = 4)")
    ends = []
    for dtype in (torch.float32, torch.float64):
        program = make_program(text, tiny)
        torch.set_default_dtype(dtype)
        try:
            train(program, ROWS, **{**SETTINGS, "batch": 3})
            ends.append({**weights(program), "drawn": opening_draws(0, 1, 3)})
        finally:
            torch.set_default_dtype(torch.float32)
    assert same(*ends)


def test_what_accelerate_is_told_elsewhere_changes_nothing(
    tiny: Path, plain: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`accelerate launch` sets these; the first divided the loss, the second put the program into autocast for good."""
    monkeypatch.setitem(os.environ, "ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    monkeypatch.setitem(os.environ, "ACCELERATE_MIXED_PRECISION", "bf16")
    program = make_program(TEXT, tiny)
    forward = program.forward
    train(program, ROWS, **SETTINGS)
    assert same(weights(program), plain)
    assert program.forward == forward


def left(program: Any) -> dict[str, Any]:
    return {
        "modes": [module.training for module in program.modules()],
        "frozen": [parameter.requires_grad for parameter in program.parameters()],
        "own": {name: item for name, item in vars(program).items() if not name.startswith("_")},
        "here": program.here,
        # How it was trained is what training is meant to leave behind.
        "history": replace(program.history, trained_by=None),
        "hooks": [len(module._forward_hooks) + len(module._backward_hooks) for module in program.modules()],
        "hidden": sorted(vars(program)),
        "random": torch.get_rng_state().tolist(),
        "applied": [layer._active_adapter for layer in program.base("a")._lora],
    }


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("text", [TEXT, ROUNDS], ids=["chain", "rounds"])
@pytest.mark.parametrize("how", ["whole", "error", "interrupt", "not a number"])
def test_nothing_is_left_behind(how: str, text: str, mode: bool, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = make_program(text, tiny)
    program.train(mode)
    before = left(program)
    with program.holding(max_length=700):
        held = program.here
        train_until(how, program, monkeypatch)
        assert program.here == held
    assert left(program) == before
    assert all(parameter.grad is None for parameter in program.parameters())


def train_until(how: str, program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if how in ("error", "interrupt"):
        real = program.base("b").run
        calls: list[int] = []

        def failing(*arguments: Any) -> Any:
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt if how == "interrupt" else RuntimeError("of somebody else")
            return real(*arguments)

        monkeypatch.setattr(program.base("b"), "run", failing)
        with pytest.raises(KeyboardInterrupt if how == "interrupt" else RuntimeError):
            train(program, ROWS, **SETTINGS)
        monkeypatch.undo()
    elif how == "not a number":
        program.trainable()[next(iter(program.trainable()))].data.fill_(float("nan"))
        with pytest.raises(MascError, match="E0701"):
            train(program, ROWS, **SETTINGS)
    else:
        train(program, ROWS, **SETTINGS)


def test_what_is_switched_off_stays_as_it_is(tiny: Path, tmp_path: Path) -> None:
    """Also from a checkpoint: it belongs to what stood beside it."""
    program = make_program(TEXT, tiny)
    for name, parameter in program.trainable().items():
        parameter.requires_grad_(program.owner(name) != "a")
    before = {name: p.detach().clone() for name, p in program.named_parameters()}
    train(program, ROWS, directory=tmp_path, **SETTINGS)
    changed = {name for name, p in program.named_parameters() if not torch.equal(p, before[name])}
    assert changed
    assert {program.owner(name) for name in changed} == {"b"}
    other = make_program(TEXT, tiny)
    for name, parameter in other.trainable().items():
        parameter.requires_grad_(program.owner(name) != "a")
        parameter.data.add_(0 if parameter.requires_grad else 0.5)
    with pytest.raises(MascError, match="other weights that stay as they are"):
        train(other, ROWS, directory=tmp_path, resume=True, **{**SETTINGS, "steps": 4})
    with pytest.raises(MascError, match="switched off"):
        train(make_program(TEXT, tiny), ROWS, directory=tmp_path, resume=True, **{**SETTINGS, "steps": 4})


def test_a_base_model_is_not_trained(tiny: Path) -> None:
    program = make_program(TEXT, tiny)
    program.base("a").model.lm_head.weight.requires_grad_(True)
    with pytest.raises(ValueError, match="stays frozen"):
        train(program, ROWS, **SETTINGS)


def test_no_memory_is_told_as_that(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the words of torch's own allocator for the CPU, which is asked for more than there is."""
    program = make_program(TEXT, tiny)

    def greedy(*_: object) -> torch.Tensor:
        return torch.empty(1 << 60, dtype=torch.uint8)

    monkeypatch.setattr(program.base("b"), "run", greedy)
    with pytest.raises(MascError, match="E0702"):
        train(program, ROWS, **SETTINGS)
    assert not trainer.out_of_memory(RuntimeError("shapes do not fit"))


# -- settings and rows ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "told"),
    [
        ({"dtype": "int4"}, TypeError, "masc.compile"),
        ({"data": "train.jsonl"}, TypeError, "second argument"),
        ({"eval_data": "nowhere.jsonl"}, TypeError, "eval_rows"),
        ({"step": 5}, TypeError, "unknown train setting 'step': did you mean `steps`"),
        ({"lr": 1e-3}, TypeError, "did you mean `rate`"),
        ({"warmup": 5}, ValueError, "`warmup` is 5: it must be at most 1"),
        ({"warmup": float("nan")}, ValueError, "`warmup` is nan"),
        ({"rate": 0}, ValueError, "`rate` is 0"),
        ({"rate": "1e-3"}, ValueError, "`rate` takes a number"),
        ({"clip": -1}, ValueError, "`clip` is -1"),
        ({"steps": 2.0}, ValueError, "`steps` takes a whole number"),
        ({"steps": True}, ValueError, "`steps` takes a whole number"),
        ({"seed": -1}, ValueError, "`seed` is -1"),
        ({"keep": 0}, ValueError, "`keep` is 0"),
        ({"checkpoint": ["agent"]}, ValueError, "`checkpoint` is"),
        ({"checkpoint": None}, ValueError, "`checkpoint` is None"),
        ({"resume": True}, ValueError, "directory"),
        ({"trackers": "tensorboard"}, TypeError, "list of names"),
        ({"force": True}, ValueError, "directory"),
        ({"save_every": 1}, ValueError, "directory"),
        ({"keep": 1}, ValueError, "directory"),
        ({"eval_every": 1}, ValueError, "eval_rows"),
    ],
    ids=str,
)
def test_settings_that_nobody_could_obey(
    settings: dict[str, Any], error: type[Exception], told: str, tiny: Path
) -> None:
    with pytest.raises(error, match=told):
        train(make_program(TEXT, tiny), ROWS, **{**SETTINGS, **settings})


def test_rows_of_other_kinds_train_alike(tiny: Path, plain: dict[str, torch.Tensor]) -> None:
    datasets, pandas = pytest.importorskip("datasets"), pytest.importorskip("pandas")
    for rows in (iter(ROWS), tuple(ROWS), pandas.DataFrame(ROWS), datasets.Dataset.from_list(ROWS)):
        program = make_program(TEXT, tiny)
        history = train(program, rows, (row for row in ROWS), eval_every=1, **SETTINGS)
        assert same(weights(program), plain)
        assert all("eval_loss" in metrics for metrics in history)


@pytest.mark.parametrize(
    "rows", [{"q": ["x"], "answer": ["y"]}, "train.jsonl", Path("train.jsonl"), [("q", "x")], [ROWS[0], None], None, 5]
)
def test_what_is_no_rows_is_told(rows: Any, tiny: Path) -> None:
    with pytest.raises(TypeError, match="rows"):
        train(make_program(TEXT, tiny), rows, **SETTINGS)


def test_a_row_that_is_too_long_is_told_before_the_first_step(tiny: Path, tmp_path: Path) -> None:
    program = make_program(TEXT, tiny)
    with pytest.raises(MascError, match="E0606"):
        train(program, [*ROWS, {"q": "x" * 900, "answer": "y"}], directory=tmp_path, **{**SETTINGS, "max_length": 700})
    assert list(tmp_path.iterdir()) == []
    assert program.here.max_length == 0
