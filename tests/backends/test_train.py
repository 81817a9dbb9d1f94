"""The trainer: what it minimises, and that killing it changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from masc.backends.torch.engine.opening import opening_draws
from masc.backends.torch.model.segments import Opening
from masc.backends.torch.program import Program
from masc.backends.torch.training.schedule import data_order, rate_at
from masc.backends.torch.training.train import train
from masc.compiler.ir.plan import TrainSettings
from masc.dsl.diagnostics import MascError
from support import ROWS, chain, make_program

TEXT = chain(
    ("a", 1, "norm"), ("b", 0, "norm"), adapt="lora(rank = 4, dropout = 0.1)", edge="kv(carry = latents, open = 6)"
)


def weights(program: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in program.trainable().items()}


def test_the_loss_falls(tiny: Path) -> None:
    program = make_program(chain(("a", 1, "norm"), ("b", 0, "norm")), tiny, awake=False)
    history = train(program, ROWS, steps=30, batch=4, rate=1e-2, warmup=0.0)
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]
    assert set(history[0]["grad_norms"]) == {"a", "b"}
    assert all(norm > 0 for norm in history[5]["grad_norms"].values())


def test_accumulation_is_the_same_step(tiny: Path) -> None:
    """The mean is over the answer tokens of the whole optimiser batch: 1 x 4 rows equal 4 x 1, though answers differ
    in length."""
    results = []
    for batch, accumulate in ((4, 1), (1, 4), (2, 2)):
        program = make_program(TEXT.replace("dropout = 0.1", "dropout = 0"), tiny).double()
        history = train(program, ROWS, steps=2, batch=batch, accumulate=accumulate, rate=1e-3, warmup=0.0)
        results.append((history[0]["loss"], history[0]["grad_norm"], history[1]["loss"]))
    for other in results[1:]:
        assert other == pytest.approx(results[0], rel=1e-7)


def test_a_step_is_split_by_length(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of about equal length are run together, longest first; who sees a channel that is still open does not depend
    on that."""
    found, seen = [], []
    forward = Program.forward

    def noted(self: Program, rows: list[dict[str, str]], *arguments: Any, **options: Any) -> Any:
        seen.append([len(row["q"]) for row in rows])
        return forward(self, rows, *arguments, **options)

    monkeypatch.setattr(Program, "forward", noted)
    for batch, accumulate in ((4, 1), (2, 2)):
        text = chain(("a", 2, "norm"), ("b", 0, "norm"), edge="kv(carry = latents, open = 4)")
        program = make_program(text, tiny, dtype="float64")
        history = train(program, ROWS, steps=3, batch=batch, accumulate=accumulate, rate=1e-2, warmup=0.0)
        found.append([(metrics["loss"], metrics["grad_norm"]) for metrics in history])
    assert found[1] == [pytest.approx(one, rel=1e-6) for one in found[0]]
    lengths = sorted((len(row["q"]) for row in ROWS), reverse=True)
    assert seen[3:] == [lengths[:2], lengths[2:]] * 3
    assert seen[:3] != [lengths] * 3


def test_a_step_is_adamw_on_the_mean_token_loss(tiny: Path) -> None:
    """Two of them: the first step of AdamW is the same whatever the gradient is scaled by."""
    trained = make_program(chain(("a", 2, "linear"), ("b", 0, "norm")), tiny)
    by_hand = make_program(chain(("a", 2, "linear"), ("b", 0, "norm")), tiny)
    settings = {"batch": 2, "rate": 1e-3, "warmup": 0.0, "clip": 0.3, "weight_decay": 0.1}
    history = train(trained, ROWS, steps=2, **settings)
    order = data_order(0, 4)
    parameters = by_hand.trainable()
    optimizer = torch.optim.AdamW(parameters.values(), lr=1e-3, weight_decay=0.1)
    for metrics in history:
        rows = [ROWS[next(order)] for _ in range(2)]
        out = by_hand(rows)
        losses = [by_hand([row]) for row in rows]
        mean = sum(float(o.loss) * o.tokens for o in losses) / sum(o.tokens for o in losses)
        assert float(out.loss) == pytest.approx(mean, rel=1e-4)
        out.loss.backward()
        for agent, norm in metrics["grad_norms"].items():  # clipped one by one
            own = [parameter for name, parameter in parameters.items() if by_hand.owner(name) == agent]
            assert float(torch.nn.utils.clip_grad_norm_(own, 0.3)) == pytest.approx(norm, rel=1e-3)
            assert norm > 0.3
        optimizer.param_groups[0]["lr"] = metrics["rate"]
        optimizer.step()
        optimizer.zero_grad()
    for name, parameter in trained.trainable().items():
        torch.testing.assert_close(parameter, parameters[name], atol=1e-6, rtol=1e-5)


def test_adapters_stay_float32_over_a_bfloat16_base(tiny: Path) -> None:
    program = make_program(chain(("a", 1, "linear"), ("b", 0, "norm")), tiny, dtype="bfloat16", awake=False)
    train(program, ROWS, steps=2, batch=2)
    assert {p.dtype for p in program.trainable().values()} == {torch.float32}
    assert {p.dtype for p in program.base("a").model.parameters() if not p.requires_grad} == {torch.bfloat16}


def test_checkpoint_agent_trains_to_the_same_weights(tiny: Path) -> None:
    ends = []
    for how in ("none", "agent"):
        program = make_program(TEXT, tiny)
        train(program, ROWS, steps=4, batch=2, rate=1e-3, checkpoint=how)
        ends.append(weights(program))
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_the_schedule() -> None:
    settings = TrainSettings(steps=100, rate=1.0, warmup=0.1)
    assert rate_at(settings, 0) == pytest.approx(0.1)
    assert rate_at(settings, 9) == 1.0
    assert rate_at(settings, 55) == pytest.approx(0.5)
    assert rate_at(settings, 99) < 0.001


def test_an_epoch_shows_every_row_once() -> None:
    order = data_order(3, 7)
    epochs = [[next(order) for _ in range(7)] for _ in range(3)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_opening_closes_evenly() -> None:
    for step in (0, 3, 7):
        shares = Opening(step, opening_draws(0, step, 16)).rows(10)
        assert abs(int(shares.sum()) - 16 * (1 - step / 10)) <= 1


def test_non_finite_loss_stops_and_keeps_the_checkpoint(tiny: Path, tmp_path: Path) -> None:
    program = make_program(TEXT, tiny)

    def poison(metrics: dict[str, Any]) -> None:
        if metrics["step"] == 3:
            next(iter(program.trainable().values())).data.fill_(float("nan"))

    with pytest.raises(MascError) as error:
        train(program, ROWS, steps=8, batch=2, save_every=2, directory=tmp_path, listen=poison)
    (told,) = error.value.diagnostics
    assert told.code == "E0701"
    assert all(word in str(told.hint) for word in ("diverged", "--resume", "base model"))
    with pytest.raises(MascError) as error:  # a run that begins with what diverged
        train(program, ROWS, steps=1, batch=2)
    assert all(word in str(error.value.diagnostics[0].hint) for word in ("diverged", "base model"))
    kept = load_file(tmp_path / "checkpoints" / "step-000002" / "weights.safetensors")
    assert all(bool(t.isfinite().all()) for t in kept.values())


def test_an_earlier_run_is_not_overwritten_unasked(tiny: Path, tmp_path: Path) -> None:
    train(make_program(TEXT, tiny), ROWS, steps=2, batch=2, directory=tmp_path)
    with pytest.raises(MascError, match="earlier run"):
        train(make_program(TEXT, tiny), ROWS, steps=2, batch=2, directory=tmp_path)
    train(make_program(TEXT, tiny), ROWS, steps=2, batch=2, directory=tmp_path, force=True)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_only_the_newest_checkpoints_are_kept(tiny: Path, tmp_path: Path) -> None:
    train(make_program(TEXT, tiny), ROWS, steps=5, batch=2, save_every=1, keep=2, directory=tmp_path)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-000004", "step-000005"]


def test_resuming_on_other_data_is_refused(tiny: Path, tmp_path: Path) -> None:
    train(make_program(TEXT, tiny), ROWS, steps=2, batch=2, directory=tmp_path)
    with pytest.raises(MascError, match="other data"):
        train(make_program(TEXT, tiny), ROWS[:3], steps=4, batch=2, directory=tmp_path, resume=True)


def test_a_bad_row_is_named(tiny: Path) -> None:
    with pytest.raises(MascError, match="row 2 has no column `answer`"):
        train(make_program(TEXT, tiny), [ROWS[0], {"q": "x"}], steps=1)
