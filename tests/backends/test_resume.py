"""Going on from a checkpoint: only where it is whole and belongs to this very run, and with what has changed told."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from masc.backends.torch.training import checkpoints, origin
from masc.backends.torch.training.train import train
from masc.dsl.diagnostics import Diagnostic, MascError
from support import ROWS, chain, make_model, make_program

AGENTS = (("a", 1, "norm"), ("b", 0, "norm"))
TEXT = chain(*AGENTS, adapt="lora(rank = 2, dropout = 0.1)", edge="kv(carry = latents, open = 3)")
SETTINGS: dict[str, Any] = {"steps": 4, "batch": 2, "save_every": 1, "keep": 3, "rate": 1e-3}
LAST, BEFORE = "checkpoints/step-000004", "checkpoints/step-000003"


@pytest.fixture(scope="module")
def done(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of four steps."""
    folder = tmp_path_factory.mktemp("done")
    train(make_program(TEXT, tiny), ROWS, ROWS[:2], directory=folder, eval_every=2, **SETTINGS)
    return folder


@pytest.fixture
def run(done: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(done, tmp_path / "run"))


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def resume(
    tiny: Path, folder: Path, text: str = TEXT, rows: Any = ROWS, **settings: Any
) -> tuple[list[dict[str, Any]], list[Diagnostic]]:
    told: list[Diagnostic] = []
    program = make_program(text, tiny, **settings.pop("options", {}))
    asked = {**SETTINGS, "eval_every": 2, **settings}
    return train(program, rows, ROWS[:2], directory=folder, resume=True, tell=told.extend, **asked), told


def sign(checkpoint: Path) -> None:
    """Write the checksums of the files as they are now: what a careful forger does."""
    lines = [
        f"{hashlib.sha256((checkpoint / name).read_bytes()).hexdigest()}  {name}\n"
        for name in ("weights.safetensors", "optimizer.safetensors", "state.json")
    ]
    (checkpoint / "SHA256SUMS").write_text("".join(lines))


# -- what it belongs to -----------------------------------------------------------------------------------------------


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
    from dataclasses import replace

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


# -- whether it is whole ----------------------------------------------------------------------------------------------


def flip(name: str, at: int = -9) -> Callable[[Path], None]:
    def damage(checkpoint: Path) -> None:
        data = bytearray((checkpoint / name).read_bytes())
        data[at] ^= 1
        (checkpoint / name).write_bytes(bytes(data))

    return damage


def cut(name: str, zeros: bool) -> Callable[[Path], None]:
    def damage(checkpoint: Path) -> None:
        data = (checkpoint / name).read_bytes()
        (checkpoint / name).write_bytes(data[:-50] + (bytes(50) if zeros else b""))

    return damage


def gone(name: str) -> Callable[[Path], None]:
    return lambda checkpoint: (checkpoint / name).unlink()


def becomes_a_file(checkpoint: Path) -> None:
    shutil.rmtree(checkpoint)
    checkpoint.write_text("")


DAMAGE = {
    "a bit of the weights": flip("weights.safetensors"),
    "a bit of the moments": flip("optimizer.safetensors"),
    "a bit of the state": flip("state.json"),
    "a bit of the step": flip("state.json", 22),
    "a bit of the sums": flip("SHA256SUMS", 5),
    "zeros": cut("weights.safetensors", True),
    "cut off": cut("optimizer.safetensors", False),
    "no weights": gone("weights.safetensors"),
    "no moments": gone("optimizer.safetensors"),
    "no state": gone("state.json"),
    "no sums": gone("SHA256SUMS"),
    "empty sums": lambda checkpoint: (checkpoint / "SHA256SUMS").write_text(""),
    "sums of nobody": lambda checkpoint: (checkpoint / "SHA256SUMS").write_bytes(b"\xff\n\n"),
    "a file": becomes_a_file,
    "empty": lambda checkpoint: [file.unlink() for file in checkpoint.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_left_out(damage: str, tiny: Path, done: Path, run: Path) -> None:
    """The one before it is taken, and the end is the same to the bit."""
    DAMAGE[damage](run / LAST)  # type: ignore[no-untyped-call]
    history, told = resume(tiny, run)
    assert [metrics["step"] for metrics in history] == [4]
    assert [d.code for d in told] == ["W0602"]
    assert str(run / LAST) in told[0].message
    assert str(run / BEFORE) in told[0].message
    ends = [load_file(folder / LAST / "weights.safetensors") for folder in (done, run)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    lines = [[json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()] for folder in (done, run)]
    assert [(m["step"], m.get("loss"), m.get("eval_loss")) for m in lines[0]] == [
        (m["step"], m.get("loss"), m.get("eval_loss")) for m in lines[1]
    ]


def test_where_all_are_damaged_nothing_is_overwritten(tiny: Path, run: Path) -> None:
    for path in checkpoints.every(run / "checkpoints"):
        flip("weights.safetensors")(path)
    before = snapshot(run)
    with pytest.raises(MascError, match=r"E0608.*step-000004.*and so are the 2 before it"):
        resume(tiny, run)
    assert snapshot(run) == before


def edited(**changes: Any) -> Callable[[Path], None]:
    """Somebody has edited the state and signed it. `a__b` is an entry b of the object a; None takes it away."""

    def edit(checkpoint: Path) -> None:
        state = json.loads((checkpoint / "state.json").read_text())
        for path, item in changes.items():
            *inner, name = path.split("__")
            place = state
            for key in inner:
                place = place[key]
            place[name] = item
            if item is None:
                del place[name]
        (checkpoint / "state.json").write_text(json.dumps(state))

    return edit


def tensors(file: str, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Callable[[Path], None]:
    def edit(checkpoint: Path) -> None:
        save_file(change(load_file(checkpoint / file)), checkpoint / file)

    return edit


def first(
    change: Callable[[torch.Tensor], torch.Tensor],
) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    def edit(found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        name = min(found)
        return {**found, name: change(found[name]).contiguous()}

    return edit


FORGED: dict[str, tuple[Callable[[Path], None], str]] = {
    "an earlier version": (edited(format=None), "earlier version of masc"),
    "a later version": (edited(format=9), "has format 9, and this version reads format 3"),
    "a batch out of range": (edited(settings__batch=0), "`batch` is 0"),
    "steps of a wrong type": (edited(settings__steps="4"), "`steps` takes a whole number"),
    "a setting that nobody knows": (edited(settings__colour=1), "colour"),
    "no settings": (edited(settings=None), "`settings` is not an object"),
    "settings as a list": (edited(settings=[]), "`settings` is not an object"),
    "no origin": (edited(belongs=None), "`belongs` does not hold"),
    "a number for a plan": (edited(belongs__plan=5), "`plan` is 5"),
    "no base models": (edited(belongs__models={}, belongs__bases={}), "another base model"),
    "versions as a text": (edited(around__versions="x"), "`versions` is 'x'"),
    "a scalar": (tensors("weights.safetensors", first(lambda x: x.flatten()[0])), r"float32 \[\]"),
    "another shape": (tensors("weights.safetensors", first(lambda x: x[:1])), r"float32 \[1, "),
    "another dtype": (tensors("weights.safetensors", first(lambda x: x.double())), "float64"),
    "no moments at all": (tensors("optimizer.safetensors", lambda _: {}), "no moments of the optimiser"),
    "a moment less": (
        tensors("optimizer.safetensors", lambda found: {k: found[k] for k in sorted(found)[1:]}),
        "but the moments",
    ),
    "a moment of nobody": (
        tensors("optimizer.safetensors", lambda found: {**found, "x:step": torch.ones(())}),
        "x:step",
    ),
    "moments of a thousand steps": (
        tensors("optimizer.safetensors", lambda found: {k: v + 1000 * k.endswith(":step") for k, v in found.items()}),
        "were not made in 4 steps",
    ),
    "a tensor less": (
        tensors("weights.safetensors", lambda found: {k: found[k] for k in sorted(found)[1:]}),
        "which is trained now",
    ),
    "a tensor more": (tensors("weights.safetensors", lambda found: {**found, "x": torch.ones(1)}), "not trained now"),
}


@pytest.mark.parametrize("forgery", FORGED)
def test_what_is_signed_and_wrong_is_refused(forgery: str, tiny: Path, run: Path) -> None:
    forge, told = FORGED[forgery]
    forge(run / LAST)
    sign(run / LAST)
    before = snapshot(run)
    with pytest.raises(MascError, match=told) as error:
        resume(tiny, run, steps=6)
    assert error.value.diagnostics[0].code in ("E0608", "E0615")
    assert snapshot(run) == before


FOREIGN: dict[str, Callable[[Path], None]] = {
    "a step of another name": edited(step=2),
    "a step without end": edited(step=10**9),
    "a step that is a text": edited(step="4"),
    "not a number": tensors("weights.safetensors", first(lambda x: x * float("nan"))),
    "moments without end": tensors("optimizer.safetensors", first(lambda x: x + float("inf"))),
    "JSON without end": lambda checkpoint: (checkpoint / "state.json").write_text("[" * 200_000),  # type: ignore[dict-item,return-value]
    "a list": lambda checkpoint: (checkpoint / "state.json").write_text("[]"),  # type: ignore[dict-item,return-value]
    "not UTF-8": lambda checkpoint: (checkpoint / "state.json").write_bytes(b"\xff"),  # type: ignore[dict-item,return-value]
    "no safetensors": lambda checkpoint: (checkpoint / "weights.safetensors").write_bytes(b"\0" * 90),  # type: ignore[dict-item,return-value]
}


@pytest.mark.parametrize("forgery", FOREIGN)
def test_what_is_signed_and_senseless_is_left_out(forgery: str, tiny: Path, run: Path) -> None:
    FOREIGN[forgery](run / LAST)
    sign(run / LAST)
    history, told = resume(tiny, run)
    assert [metrics["step"] for metrics in history] == [4]
    assert [d.code for d in told] == ["W0602"]


@pytest.mark.parametrize("name", ["step-²", "step-", "step-12", "step-0000012", "step-x", "step-００００１２", "notes"])
def test_folders_that_are_no_checkpoints(name: str, tiny: Path, run: Path) -> None:
    (run / "checkpoints" / name).mkdir()
    history, _ = resume(tiny, run, steps=5)
    assert [metrics["step"] for metrics in history] == [5]


def test_a_checkpoint_under_another_name_is_not_taken(tiny: Path, run: Path) -> None:
    shutil.copytree(run / LAST, run / "checkpoints/step-000012")
    history, told = resume(tiny, run, steps=5)
    assert [metrics["step"] for metrics in history] == [5]
    assert "holds step 4" in told[0].message
    assert not (run / "checkpoints/step-000012").exists()


# -- metrics ----------------------------------------------------------------------------------------------------------


def steps(folder: Path) -> list[tuple[int, bool]]:
    """Every line: its step, and whether it is an evaluation's."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], "eval_loss" in line) for line in lines]


WHOLE = [(1, False), (2, False), (2, True), (3, False), (4, False), (4, True)]


@pytest.mark.parametrize("at", [2, 4], ids=["in the middle", "at the end"])
def test_a_killed_evaluation_is_made_up_for(at: int, tiny: Path, run: Path, done: Path) -> None:
    for step in range(at + 1, 5):
        shutil.rmtree(run / f"checkpoints/step-{step:06d}")
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[: WHOLE.index((at, True))]))
    resume(tiny, run)
    assert steps(run) == steps(done) == WHOLE
    found = [json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1]) for folder in (run, done)]
    assert found[0] == found[1]
    resume(tiny, run)
    assert steps(run) == WHOLE, "once"


@pytest.mark.parametrize(
    ("damage", "lost"),
    [
        (lambda data: data[:-20], 0),  # the evaluation's line is cut off, and made up for
        (lambda data: data.replace(b'"step": 2', b'"step": \xff', 1), 1),
        (lambda _: b"\xff\xfe\n\0\n", 4),
        (lambda data: data + b"[" * 100_000 + b"\n5\nnull\n", 0),
        (lambda data: data + b'{"step": "x"}\n{"step": true}\n{}\n', 0),
        (lambda _: b"", 4),
        (lambda data: data.replace(b'"loss": ', b'"loss": NaN, "was": '), 0),
    ],
    ids=["cut off", "no UTF-8 in a line", "none at all", "nested", "no steps", "empty", "NaN"],
)
def test_damaged_metrics(damage: Callable[[bytes], bytes], lost: int, tiny: Path, run: Path) -> None:
    path = run / "metrics.jsonl"
    path.write_bytes(damage(path.read_bytes()))
    history, told = resume(tiny, run, steps=5)
    assert [metrics["step"] for metrics in history] == [5]
    assert [d.code for d in told if d.code != "W0601"] == ["W0604"] * bool(lost)
    found = steps(run)
    assert found[-2:] == [(5, False), (5, True)]
    assert found == sorted(set(found))


def test_an_evaluation_of_ones_own_may_find_anything(tiny: Path, tmp_path: Path) -> None:
    def evaluate(_: Any) -> dict[str, Any]:
        return {"step": 99, "loss": torch.tensor(1.5), "eval_x": float("nan")}

    program = make_program(TEXT, tiny)
    train(program, ROWS, directory=tmp_path, evaluate=evaluate, **SETTINGS)
    train(program, ROWS, directory=tmp_path, evaluate=evaluate, resume=True, **SETTINGS)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 4]
    assert lines[-1]["loss"] == 1.5


# -- the disk ---------------------------------------------------------------------------------------------------------


def test_what_was_left_half_written_is_taken_away(tiny: Path, run: Path) -> None:
    (run / "checkpoints/.tmp-1").mkdir()
    (run / "checkpoints/.tmp-1/weights.safetensors").write_bytes(bytes(99))
    (run / "checkpoints/.tmp-old-1-step-000001").mkdir()
    (run / ".metrics.jsonl.0a1b2c3d.tmp").write_text("x")
    (run / ".mine.tmp").write_text("x")
    resume(tiny, run)
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == [f"step-00000{i}" for i in (2, 3, 4)]
    assert sorted(p.name for p in run.iterdir()) == [".lock", ".mine.tmp", "checkpoints", "metrics.jsonl"]


def test_weights_that_are_no_numbers_are_not_saved(tiny: Path, tmp_path: Path) -> None:
    """A step may end in them though its loss was one; the checkpoint before it must stay, also with `keep = 1`."""
    program = make_program(TEXT, tiny)

    def poison(metrics: dict[str, Any]) -> None:
        if metrics["step"] == 3:
            next(iter(program.trainable().values())).data.fill_(float("nan"))

    with pytest.raises(MascError, match=r"E0701.*after step 3"):
        train(program, ROWS, directory=tmp_path, listen=poison, **{**SETTINGS, "keep": 1})
    assert [path.name for path in checkpoints.every(tmp_path / "checkpoints")] == ["step-000002"]


@pytest.mark.parametrize("what", ["weights.safetensors", "state.json", "SHA256SUMS", "metrics.jsonl"])
def test_a_full_disk_costs_nothing(
    what: str, tiny: Path, tmp_path: Path, done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every write of one file fails from the third on. What is half-written goes, and the end is bit-equal."""
    import errno

    real = Path.open
    writes: list[Path] = []

    def opened(path: Path, mode: str = "r", *more: Any, **options: Any) -> Any:
        if path.name == what and mode in ("wb", "a"):
            writes.append(path)
            if len(writes) > 2:
                real(path, mode, *more, **options).write("x" if mode == "a" else b"x")
                raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, mode, *more, **options)

    settings = {**SETTINGS, "eval_every": 2}
    with monkeypatch.context() as full:
        full.setattr(Path, "open", opened)
        with pytest.raises(MascError, match=r"E0703.*the disk is full"):
            train(make_program(TEXT, tiny), ROWS, ROWS[:2], directory=tmp_path, **settings)
    assert all(path.name.startswith("step-") for path in (tmp_path / "checkpoints").iterdir())
    resume(tiny, tmp_path)
    assert steps(tmp_path) == WHOLE
    ends = [load_file(folder / LAST / "weights.safetensors") for folder in (done, tmp_path)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_checkpoints_honour_the_umask(run: Path) -> None:
    for path in (run / LAST).iterdir():
        assert path.stat().st_mode & 0o044, path


def test_a_file_where_the_checkpoints_should_be(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(MascError, match=r"E0612.*is not a folder"):
        train(make_program(TEXT, tiny), ROWS, directory=tmp_path, force=True, **SETTINGS)


@pytest.mark.parametrize("belongs", ["x", None, {}, {"models": []}], ids=str)
def test_weights_of_a_checkpoint_that_belongs_to_nothing_are_not_taken(belongs: Any, tiny: Path, run: Path) -> None:
    from masc.session.weights import load_checkpoint

    edited(belongs=belongs)(run / LAST)
    sign(run / LAST)
    with pytest.raises(MascError, match=r"E0608.*which base models"):
        load_checkpoint(run / LAST, make_program(TEXT, tiny))
