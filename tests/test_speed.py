"""The measurements of speed run, on tiny models, and what they count is what is there. No time is asserted."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from warm import heavy

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
OWN = ("dispatched", "plain", "random_models", "random_teams", "speed", "speed_bars")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The modules of the benchmarks, by name."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import dispatched
    import plain
    import random_models
    import random_teams
    import speed
    import speed_bars

    yield SimpleNamespace(
        dispatched=dispatched,
        plain=plain,
        models=random_models,
        teams=random_teams,
        speed=speed,
        bars=speed_bars,
    )
    for name in OWN:
        sys.modules.pop(name, None)


def test_every_bar_is_measured_once(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    found = tmp_path / "speed.json"
    monkeypatch.setattr(sys, "argv", ["speed.py", "--toy", "--json", str(found)])
    bench.speed.main()
    shown = capsys.readouterr().out
    rows = json.loads(found.read_text())
    assert list(rows) == list(bench.bars.BARS)
    assert all(f"| `{name}` |" in shown and math.isfinite(row["median"]) for name, row in rows.items())
    assert all(len(rows[name]["values"]) == 2 for name in ("decode-1", "train-4", "panel", "text-team"))
    assert rows["operations"]["parts"]["plain, waits"] == 0
    assert 0 < rows["wanted"]["median"] <= 1
    assert rows["wanted"]["parts"]["wanted"] == 64 * 66
    monkeypatch.setattr(bench.speed, "Bench", lambda *_: None)  # nothing could be measured with it
    bench.speed.main()
    assert capsys.readouterr().out == shown


def test_plain_decoding_is_greedy_decoding(bench: Any) -> None:
    model = bench.models.random_model(bench.models.TOY, torch.float32)
    decoder = bench.plain.PlainDecoder(model, 3, 20, 9)
    first = decoder.prefill()
    said = decoder.decode(first, 8)
    with torch.no_grad():
        whole = model(torch.cat([decoder.ids, first, said], 1)).logits
    assert torch.equal(whole[:, 19:-1].argmax(-1), torch.cat([first, said], 1))
    assert torch.equal(decoder.prefill(), first)
    assert torch.equal(decoder.decode(first, 8), said)


def test_plain_tuning_trains(bench: Any) -> None:
    tuning = bench.plain.PlainTuning(bench.models.random_model(bench.models.TOY, torch.bfloat16), 2, 20, 5)
    assert {parameter.dtype for parameter in tuning.parameters} == {torch.float32}
    assert all("lora_" in name for name, parameter in tuning.model.named_parameters() if parameter.requires_grad)
    losses = [tuning.step() for _ in range(8)]
    assert losses[-1] < losses[0]


def test_operations_and_waits_are_counted(bench: Any) -> None:
    def call() -> list[float]:
        table = torch.ones(3, 4)
        if (table.t() @ table).sum() > 0:
            return [float(table[0, 0]), *table[1].tolist()]
        return []

    found = bench.dispatched.count(call)
    assert found.waits == 3
    assert found.operations - found.kernels == 4  # a transposed table, two rows of it, a number of one
    assert found.kernels >= 4


def test_rows_through_a_layer_are_counted(bench: Any) -> None:
    shape = bench.models.TOY
    model = bench.models.random_model(shape, torch.float32)
    ids = torch.zeros(3, 7, dtype=torch.long)
    assert bench.dispatched.rows_through(lambda: model(ids), shape.inner, shape.width, shape.layers) == 21


def test_the_countdown_says_what_it_is_told_to(bench: Any, tmp_path: Path) -> None:
    model = bench.models.write_countdown(tmp_path / "countdown", 40)
    text = bench.teams.team(model, ['agent a on m { user "w1 {q}" answer (max_tokens = 99) }\n'], "  a")
    made = bench.teams.program(tmp_path, text, dtype="float32")
    said = made.generate([{"q": word} for word in bench.models.counting_from([1, 4, 40])])
    assert [len(one.split()) for one in said] == [1, 4, 40]


def test_prompts_are_as_long_as_they_should_be(bench: Any, tmp_path: Path) -> None:
    model = bench.models.write_model(tmp_path / "model", bench.models.TOY, torch.float32)
    made = bench.teams.program(tmp_path, bench.teams.chain(model, 3, 25, 4), dtype="float32")
    (row,) = bench.teams.rows(1)
    assert bench.teams.seen(made, row) == 3 * 25 + 2 * 4
    talking = bench.teams.program(tmp_path, bench.teams.talking(model, 3, 25, 6), dtype="float32")
    assert [len(turn.ids[0]) for turn in talking.trace([row]).turns.values()] == [25, 32, 39]


def test_growth_is_the_slope_of_the_logarithms(bench: Any) -> None:
    assert bench.bars.slope({n: 3 * n**1.5 for n in (2, 4, 8)}, None) == pytest.approx(1.5)
    assert bench.bars.slope({0: 7.0, 5: 12.0, 10: 17.0}, 0) == pytest.approx(1.0)


@pytest.mark.timeout(900)  # many small passes, which take long beside other work
def test_the_script_for_a_gpu_runs_on_the_cpu_and_goes_on(tmp_path: Path) -> None:
    found = tmp_path / "gpu.json"
    known = {"identity: text, bfloat16": {"wrong": [], "known": True}, "ceilings": {"failed": "once"}}
    found.write_text(json.dumps(known))
    done = heavy().call("--toy", "--json", found, script=BENCHMARKS / "gpu" / "measure.py")
    said = done.stdout.decode()
    assert done.returncode == 0, done.stderr.decode()
    parts = json.loads(found.read_text())
    assert not [name for name, part in parts.items() if part.get("failed") or part.get("wrong")], said
    assert parts["identity: text, bfloat16"]["known"]
    assert sum("floor / masc" in part for part in parts.values()) == 6
    assert "\n5 of 5 identities and loads hold" in said
