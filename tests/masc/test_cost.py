"""`masc cost`, from outside: its tables, its JSON, and what it does with wrong input."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from families import make_family

from courier import Command
from masc.terminal import costs

ROOT = Path(__file__).parents[2]
OTHERS = ("roles", "code_", "commonsense_", "science_")
"""Files that hold no graph, or one that is as large as that of another."""
EXAMPLES = sorted(path for path in (ROOT / "examples").rglob("*.mas") if not path.name.startswith(OTHERS))


def told(masc: Command, *arguments: object) -> dict[str, Any]:
    done = masc("cost", "--json", *arguments)
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


def test_the_tables_fit_80_columns_and_are_plain(masc: Command, folder: Path) -> None:
    done = masc("cost")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in done.out
    for name in ("sender#1", "receiver#1", "in words", "weights of the base models", "H100 (80 GiB)", "all"):
        assert name in done.out
    assert "measured on 6 rows of train.jsonl" in done.out


def test_a_device_may_be_named_or_sized(masc: Command, folder: Path) -> None:
    h100 = told(masc, "--device", "h100")["devices"]
    assert [one["device"] for one in h100] == ["H100"]
    assert h100[0]["token_seconds_at_least"] > 0
    (sized,) = told(masc, "--device", "24GB")["devices"]
    assert sized["memory_bytes"] == 24e9
    assert sized["token_seconds_at_least"] is None
    assert sized["trains"] is True
    assert sized["most_rows_training"] > 1


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (("--device", "H10"), "did you mean `H100`?"),
        (("--device", "24"), "a size such as 24GB"),
        (("--device", "1GB"), "less than a GPU's own libraries"),
        (("--dtype", "int8"), "known are float32"),
        (("--batch", "0"), "equal to 1"),
        (("--prompt", "3", "--data", "train.jsonl"), "not together with"),
        (("--prompt", "3", "--column", "code=x"), "no data whose columns"),
    ],
)
def test_wrong_usage_is_told(wrong: tuple[str, ...], hint: str, masc: Command, folder: Path) -> None:
    done = masc("cost", *wrong)
    assert done.code == 2
    assert hint in " ".join(done.err.replace("│", " ").split())


def test_a_wrong_file_is_told_as_by_check(masc: Command, folder: Path) -> None:
    (folder / "wrong.mas").write_text((folder / "courier.mas").read_text().replace("sender ->", "sendr ->"))
    checked, costed = masc("check", "wrong.mas"), masc("cost", "wrong.mas")
    assert (costed.code, costed.err) == (1, checked.err)
    assert "did you mean `sender`?" in costed.err


def test_a_model_that_is_not_there_is_told(masc: Command, folder: Path) -> None:
    text = (folder / "courier.mas").read_text().replace('"./tiny"', '"no-one/has-this"')
    (folder / "far.mas").write_text(text)
    done = masc("cost", "far.mas")
    assert done.code == 1
    assert "E0558" in done.err
    assert "hf download no-one/has-this" in done.err


def test_sizes_that_are_not_told(masc: Command, folder: Path) -> None:
    """Of a type whose defaults are not known here."""
    shutil.rmtree(folder / "tiny")
    make_family(folder / "tiny", "gemma2")
    assert masc("cost").code == 0
    config = json.loads((folder / "tiny/config.json").read_text())
    del config["vocab_size"]
    (folder / "tiny/config.json").write_text(json.dumps(config))
    done = masc("cost")
    assert done.code == 1
    assert "its config.json does not tell them" in done.err


def test_a_type_that_is_not_counted_is_told(masc: Command, folder: Path) -> None:
    config = folder / "tiny/config.json"
    config.write_text(config.read_text().replace('"model_type": "llama"', '"model_type": "dots1"'))
    done = masc("cost")
    assert done.code == 1
    assert "is not counted: it is of the type `dots1` (experts, packed in one tensor; windows)" in done.err


def test_data_that_is_not_there_is_told(masc: Command, folder: Path) -> None:
    assert "E0601" in masc("cost", "--data", "nowhere.jsonl").err


def test_lengths_come_from_where_it_is_said(masc: Command, folder: Path) -> None:
    short, long = (told(masc, "--prompt", n)["running"]["row"]["turns"][0]["prompt"] for n in (10, 110))
    assert long == short + 100
    rows = [{"code": "1" * 40, "word": "1"}, {"code": "1" * 60, "word": "123"}]
    (folder / "two.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    two = told(masc, "--data", "two.jsonl")
    assert "measured on 2 rows of two.jsonl" in two["lengths"]
    assert (
        two["running"]["row"]["turns"][0]["prompt"]
        == told(masc, "--prompt", 50)["running"]["row"]["turns"][0]["prompt"]
    )
    assert two["training"]["row"]["turns"][-1]["answer"] == 3  # of 2 and 4 tokens, with what ends them
    (folder / "bare.jsonl").write_text('{"code": "1"}\n')
    bare = told(masc, "--data", "bare.jsonl")
    assert bare["lengths"].endswith("it has no `word`: labels as long as `max_tokens`")
    assert bare["training"]["row"]["turns"][-1]["answer"] == 4


def test_without_a_tokenizer_lengths_are_estimated(masc: Command, folder: Path) -> None:
    whole = told(masc, "--prompt", 100)["running"]["row"]["positions"]
    (folder / "tiny" / "tokenizer.json").unlink()
    (folder / "tiny" / "tokenizer.model").write_text("of another library")
    found = told(masc, "--prompt", 100)
    assert "estimated at 4 characters a token" in found["lengths"]
    assert 0 < found["running"]["row"]["positions"] < whole


def test_set_and_batch_are_heeded(masc: Command, folder: Path) -> None:
    plain, more = told(masc), told(masc, "--set", "batch=64")
    assert (more["training"]["batch"], more["running"]["batch"]) == (64, plain["running"]["batch"])
    assert more["training"]["memory_bytes"]["peak"] > plain["training"]["memory_bytes"]["peak"]
    both = told(masc, "--batch", "64")
    assert both["training"] == more["training"]
    assert both["running"]["batch"] == 64
    assert told(masc, "--batch", "64", "--dtype", "float32")["running"]["memory_bytes"]["weights"] == (
        2 * both["running"]["memory_bytes"]["weights"]
    )


def test_recomputing_keeps_less_and_computes_more(masc: Command, folder: Path) -> None:
    plain, again = told(masc)["training"], told(masc, "--set", "checkpoint=agent")["training"]
    assert again["memory_bytes"]["kept"] < plain["memory_bytes"]["kept"]
    assert again["step_flops"] > plain["step_flops"]


def test_what_a_reward_adds_is_said(masc: Command, folder: Path) -> None:
    """All of a group's answers are trained on, behind one run of the prompts."""
    plain, rewarded = told(masc), told(masc, "--set", "objective=grpo(reward = exact, group = 4)")
    assert any("decodes 4 answers to each row" in note for note in rewarded["notes"])
    assert not any("reward" in note for note in plain["notes"])
    (one, four) = (found["training"]["row"]["turns"][-1] for found in (plain, rewarded))
    assert four["answer"] == 4 * one["answer"]
    assert four["prompt"] == one["prompt"]
    assert rewarded["training"]["step_flops"] < 4 * plain["training"]["step_flops"]


def test_compile_says_it_in_a_line(masc: Command, folder: Path) -> None:
    done = masc("compile")
    assert done.code == 0
    assert "with inputs of 128 tokens, a row runs" in done.err
    assert told(masc, "courier.masc")["name"] == told(masc, "courier.mas")["name"]


def test_times_and_sizes_are_never_told_as_powers_of_ten() -> None:
    times = [costs.seconds(number) for number in (2.48e-7, 9.24e-6, 0.9999e-3, 999.7e-6, 1234.0, None)]
    assert times == ["248 ns", "9.24 us", "1000 us", "1000 us", "1234 s", "-"]
    assert [costs.amount(number, "B") for number in (0, 999.7e3, 1.234e9)] == ["-", "1000 kB", "1.23 GB"]


def test_nothing_heavy_is_imported(folder: Path) -> None:
    script = "import sys; sys.argv = ['masc', 'cost', '--json']\nfrom masc.cli import main\nmain()\n"
    script += "sys.exit(bool({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.model
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_has_a_cost(path: Path, masc: Command, smollm2: Path) -> None:
    if "gemma" in path.read_text():
        from masc.backends.torch.model.fetch import fetch

        fetch("gemma3-270m")
    found = told(masc, path)
    assert found["running"]["row"]["flops"] > 0
    assert found["training"]["memory_bytes"]["peak"] > found["running"]["memory_bytes"]["weights"]
    assert found["text"]["row"]["tokens_said"] >= found["running"]["row"]["tokens_said"]
