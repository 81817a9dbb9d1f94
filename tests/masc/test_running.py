"""`masc run` and `masc eval` with another decoding, other params, other columns, other weights than those at hand."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import masc as library
from courier import GRAPH, ROWS, Command

SAMPLED = ("--temperature", "1.5", "--top-p", "0.95", "--max-tokens", "6")


@pytest.fixture
def trained(masc: Command, folder: Path) -> Path:
    """The courier after two steps; its files are not to change."""
    assert masc("train", "--set", "steps=2").code == 0
    return folder / "courier.masc"


def files(artifact: Path) -> dict[str, bytes]:
    return {str(path.relative_to(artifact)): path.read_bytes() for path in artifact.rglob("*") if path.is_file()}


def report(masc: Command, *options: object) -> dict[str, Any]:
    done = masc("eval", *options, "--out", "eval.json")
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(Path("eval.json").read_text())
    return found


def test_several_sampled_answers(masc: Command, trained: Path) -> None:
    # In bfloat16 numbers are rounded otherwise in another batch, and a draw may fall on another token.
    sampled = ("eval", "--repeat", 8, *SAMPLED, "--seed", 3, "--dtype", "float32")
    done = masc(*sampled, "--out", "eval.json", "--items", "items.jsonl")
    assert done.code == 0, done.err
    for told in ("accuracy, avg@8", "of 32 answers to 4 rows", "pass@2", "pass@8", "majority of 8"):
        assert told in done.out
    assert "at most 6 tokens, temperature 1.5, top-p 0.95, seed 3" in done.out
    items = [json.loads(line) for line in Path("items.jsonl").read_text().splitlines()]
    assert [(item["index"], item["sample"]) for item in items] == [(i, k) for i in range(4) for k in range(8)]
    assert len({item["said"] for item in items}) > 4
    again = masc(*sampled, "--items", "again.jsonl", "--batch", 3)
    assert again.code == 0, again.err
    assert Path("again.jsonl").read_text() == Path("items.jsonl").read_text()
    found = json.loads(Path("eval.json").read_text())
    assert list(found["pass_at"]) == ["1", "2", "4", "8"]
    assert found["decoding"]["answer"] == {
        "max_tokens": 6,
        "temperature": 1.5,
        "top_p": 0.95,
        "seed": 3,
        "stop": [],
    }
    refused = masc("eval", "--repeat", 8)
    assert refused.code == 1
    assert "E0670" in refused.err
    assert "--temperature" in refused.err


def test_where_the_numbers_come_from(masc: Command, trained: Path) -> None:
    found = report(masc, "--limit", 3, "--cut", "sender:receiver")
    manifest = json.loads((trained / "manifest.json").read_text())
    about = found["run"]
    assert found["scorer"] == "exact"
    assert found["output"] == "answer"
    assert about["weights"] == {"sha256": manifest["weights"]}
    assert about["data"]["sha256"] == hashlib.sha256(Path("test.jsonl").read_bytes()).hexdigest()
    assert about["data"]["path"] == str(Path("test.jsonl").absolute())
    assert about["data"]["rows"] == 3
    assert about["cut"] == ["sender:receiver"]
    assert about["versions"]["masc"]
    assert about["models"][0]["sha256"]
    assert (about["channel"], about["artifact"], about["batch"]) == ("graph", "courier.masc", 16)
    assert {"time", "file", "set", "dtype", "device", "plan"} <= set(about)


def test_other_params_where_the_weights_fit(masc: Command, trained: Path) -> None:
    before = files(trained)
    done = masc("eval", "--set", "latents=5", "--out", "eval.json")
    assert done.code == 0, done.err
    assert "it is not the graph that the weights" in done.err
    assert json.loads(Path("eval.json").read_text())["latent_steps"] == 5 * 4
    assert json.loads(Path("eval.json").read_text())["run"]["set"]["latents"] == "5"
    assert masc("run", trained, "--set", "latents=0", "--input", "code=33").code == 0
    assert files(trained) == before
    assert report(masc)["latent_steps"] == 2 * 4  # nothing is remembered


def test_other_params_where_they_do_not_fit(masc: Command, folder: Path) -> None:
    text = GRAPH.replace("param latents", "param rank: int = 4\nparam latents")
    (folder / "courier.mas").write_text(text.replace("lora(rank = 4)\n}", "lora(rank = rank)\n}", 1))
    assert masc("train", "--set", "steps=2").code == 0
    done = masc("eval", "--set", "rank=2")
    assert done.code == 1
    assert "E0671" in done.err
    assert "`sender` is lora(rank = 2" in done.err
    assert masc("eval", "--set", "rank=4").code == 0


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (("--set", "steps=3"), "E0673", "masc train"),
        (("--set", "seed=3"), "E0673", "--seed"),
        (("--set", "latens=3"), "E0206", "did you mean `latents`?"),
        (("--checkpoint", "last"), "E0674", "there are none"),
        (("--checkpoint", "7"), "E0674", "there are none"),
        (("--weights", "nothing.masc"), "E0", "nothing.masc"),
        (("--weights", "courier.mas"), "E0671", "no trained weights"),
        (("--column", "cod=x"), "E0672", "did you mean `code`?"),
    ],
)
def test_what_means_nothing_here(masc: Command, folder: Path, options: tuple[str, ...], code: str, told: str) -> None:
    assert masc("compile").code == 0
    done = masc("eval", *options)
    assert done.code == 1, done.err
    assert code in done.err
    assert told in done.err


def test_what_the_artifact_has_already_may_be_said_again(masc: Command, folder: Path) -> None:
    """The options of training are given once more, or a value that a param had before its default was changed."""
    same = ("--set", "steps=2", "--set", "latents=3")
    assert masc("train", *same).code == 0
    for words in (("eval",), ("eval", "courier.masc"), ("run", "courier.masc", "--input", "code=1")):
        done = masc(*words, *same)
        assert done.code == 0, done.err
        assert "another graph" not in done.err
    for other in ("steps=3", "seed=1"):
        refused = masc("eval", "courier.masc", *same[2:], "--set", other)
        assert (refused.code, "E0673" in refused.err) == (1, True), refused.err


def test_a_value_that_was_the_default_once(masc: Command, folder: Path) -> None:
    assert masc("train", "--set", "steps=2").code == 0
    source = Path("courier.mas").read_text()
    Path("courier.mas").write_text(source.replace("param latents: int = 2", "param latents: int = 4"))
    assert "E0614" in masc("eval", "courier.mas").err
    assert "E0614" in masc("eval", "courier.mas", "--set", "latents=3").err
    done = masc("eval", "courier.mas", "--set", "latents=2")
    assert (done.code, "another graph" in done.err) == (0, False), done.err


def test_a_program_that_was_loaded_as_it_is_kept_can_be_saved(masc: Command, folder: Path) -> None:
    import masc as api

    assert masc("train", "--set", "steps=2").code == 0
    api.load("courier.masc", set={"latents": 2}, device="cpu").save("again.masc")
    with pytest.raises(ValueError, match="for looking at"):
        api.load("courier.masc", set={"latents": 3}, device="cpu").save("other.masc")


@pytest.mark.parametrize("option", ["--temperature=-1", "--top-p=0", "--max-tokens=0", "--seed=-1"])
def test_decoding_out_of_range(masc: Command, folder: Path, option: str) -> None:
    assert masc("eval", option).code == 2
    assert masc("run", "--input", "code=1", option).code == 2


def test_an_answer_that_reaches_the_model_s_end_is_cut_off_and_told(masc: Command, folder: Path) -> None:
    """A file of rows is not lost for one that runs on; one answer on the screen is an error."""
    config = json.loads(Path("tiny/config.json").read_text())
    Path("tiny/config.json").write_text(json.dumps(config | {"max_position_embeddings": 60}))
    long = ("--max-tokens", "100000", "--temperature", "3")
    found = report(masc, "--repeat", 2, *long)
    assert found["cut_off"] > 0
    assert found["tokens_decoded"] < 8 * 60
    done = masc("eval", *long, "--items", "items.jsonl")
    items = [json.loads(line) for line in Path("items.jsonl").read_text().splitlines()]
    assert f"{sum(item['cut_off'] for item in items)} of 4 answers" in done.out
    done = masc("run", "--data", "test.jsonl", "--out", "out.jsonl", *long)
    assert done.code == 0, done.err
    assert "of them were cut off" in done.err
    seeds = [masc("run", "--input", "code=1", *long, "--seed", seed) for seed in range(4)]
    assert any("E0606" in one.err for one in seeds)


def test_a_changed_prompt_with_the_weights_of_before(masc: Command, trained: Path) -> None:
    before = files(trained)
    Path("courier.mas").write_text(GRAPH.replace("Code?", "The code?"))
    stale = masc("eval")
    assert stale.code == 1
    assert "E0614" in stale.err
    for way in ("--weights courier.masc", "give `courier.masc`", "--force"):
        assert way in " ".join(stale.err.split())
    assert masc("eval", "courier.masc").code == 0
    done = masc("eval", "courier.mas", "--weights", "courier.masc", "--out", "eval.json")
    assert done.code == 0, done.err
    assert "it is not the graph" in done.err
    assert json.loads(Path("eval.json").read_text())["run"]["artifact"] == "courier.masc"
    assert files(trained) == before


def test_all_columns_of_a_row_are_kept(masc: Command, folder: Path) -> None:
    rows = [{"id": f"x-{i}", "code": str(i), "answer": "gold", "more": [1, {"a": None}]} for i in range(3)]
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = masc("run", "--data", "in.jsonl", "--out", "out.jsonl")
    assert done.code == 0, done.err
    assert done.err.count("`answer_in_data`") == 1
    said = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [{k: row[k] for k in ("id", "code", "more")} for row in said] == [
        {k: row[k] for k in ("id", "code", "more")} for row in rows
    ]
    assert all(row["answer_in_data"] == "gold" != row["answer"] for row in said)


def test_columns_of_any_name(masc: Command, folder: Path) -> None:
    for name in ("train", "test"):
        rows = [json.loads(line) for line in Path(f"{name}.jsonl").read_text().splitlines()]
        other = [{"Secret Code": row["code"], "正解": row["word"], "id-no": i} for i, row in enumerate(rows)]
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in other))
    both = ("--column", "code=Secret Code", "--column", "word=正解")
    missing = masc("train", "--set", "steps=2", "--column", "code=Secret Cod", "--column", "word=正解")
    assert missing.code == 1
    assert "did you mean `Secret Code`?" in missing.err
    done = masc("train", "--set", "steps=2", *both)
    assert done.code == 0, done.err
    assert report(masc, *both)["run"]["data"]["columns"] == {"code": "Secret Code", "word": "正解"}
    done = masc("run", "--data", "test.jsonl", "--out", "out.jsonl", "--column", "code=Secret Code")
    assert done.code == 0, done.err
    said = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [set(row) for row in said] == [{"Secret Code", "正解", "id-no", "answer"}] * 4
    assert masc("run", "--input", "code=1", "--column", "code=x").code == 2
    assert masc("eval", "--column", "code=x", "--column", "code=y").code == 2
    assert "E0673" in masc("run", "--input", "code=1", "--set", "eval_data=x").err


def test_a_run_that_was_stopped_is_gone_on_with_only_where_nothing_differs(
    masc: Command, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from masc.session import answers

    rows = ("run", "--data", "test.jsonl", "--out", "out.jsonl")
    whole = (*rows, "--dtype", "float32")

    def stopped(path: Path, text: str) -> None:
        if path.name == "out.jsonl":
            raise KeyboardInterrupt
        atomic_write(path, text)

    atomic_write = answers.atomic_write
    with monkeypatch.context() as patch:
        patch.setattr(answers, "atomic_write", stopped)
        assert masc(*whole).code == 130
    partial = Path("out.jsonl.partial")
    kept = partial.read_bytes()
    assert kept.count(b"\n") == 5
    for options in (
        ("--temperature", "0.5"),
        ("--max-tokens", "2"),
        ("--seed", "4"),
        ("--set", "latents=3"),
        ("--cut", "sender:receiver"),
        ("--channel", "text"),
        ("--dtype", "bfloat16"),
        ("--column", "code=word"),
    ):
        refused = masc(*(rows if "--dtype" in options else whole), *options)
        assert refused.code == 1, (options, refused.err)
        assert "E0612" in refused.err
        assert partial.read_bytes() == kept
    assert masc(*whole).code == 0
    assert not partial.exists()


def test_the_weights_of_a_checkpoint(masc: Command, folder: Path) -> None:
    assert masc("train", "--set", "steps=6", "--set", "keep=3").code == 0
    final = report(masc)
    last = report(masc, "--checkpoint", "last")
    assert last["gold_perplexity"] == final["gold_perplexity"]
    assert last["run"]["weights"]["checkpoint"] == "step-000006"
    early = report(masc, "--checkpoint", "2")
    assert early["gold_perplexity"] != final["gold_perplexity"]
    assert report(masc, "--checkpoint", "2", "--channel", "text")["latent_steps"] == 0
    wrong = masc("eval", "--checkpoint", "3")
    assert wrong.code == 1
    assert "there are those of step 2, 4, 6" in wrong.err
    assert "say `last`, or a step" in masc("run", "--input", "code=1", "--checkpoint", "newest").err
    program = library.load("courier.masc", checkpoint=2)
    found = library.evaluate(program, ROWS[4:])
    assert found.gold_perplexity == pytest.approx(early["gold_perplexity"], rel=2e-2)


def test_training_that_was_stopped_is_said(masc: Command, folder: Path) -> None:
    assert masc("train", "--set", "steps=6").code == 0
    # As a run looks that was stopped after step 4.
    shutil.rmtree("courier.masc/adapters")
    shutil.rmtree("courier.masc/checkpoints/step-000006")
    manifest = json.loads(Path("courier.masc/manifest.json").read_text())
    listed = [entry for entry in manifest["files"].items() if not entry[0].startswith("adapters/")]
    body = manifest | {"trained": False, "weights": None, "files": dict(listed)}
    Path("courier.masc/manifest.json").write_text(json.dumps(body))
    done = masc("eval")
    assert done.code == 0, done.err
    assert "training stopped after step 4" in done.err
    assert "--resume" in done.err
    assert masc("eval", "--checkpoint", "last").code == 0


def test_what_cannot_be_trained_is_not_called_untrained(masc: Command, folder: Path) -> None:
    Path("courier.mas").write_text(GRAPH.replace("adapt lora(rank = 4)", "adapt none"))
    done = masc("run", "--input", "code=1")
    assert done.code == 0, done.err
    assert "not trained" not in done.err


def test_python_loads_the_same(masc: Command, trained: Path) -> None:
    program = library.load("courier.masc", set={"latents": 5})
    found = library.evaluate(program, ROWS, repeat=2, temperature=1.0, max_tokens=2, seed=1)
    assert found.latent_steps == 5 * 2 * len(ROWS)
    assert found.decoding["answer"]["max_tokens"] == 2
    with pytest.raises(ValueError, match="whole one"):
        program.save("other.masc")


def test_prompts_are_shown(masc: Command, folder: Path) -> None:
    plain = masc("run", "--input", "code=33").out
    shown = masc("run", "--input", "code=33", "--show", "prompts").out
    assert "--- sender#1 reads" in shown
    assert ", then 2 latent steps\n<|im_start|>user\n33<|im_end|>\n<|im_start|>assistant" in shown
    assert "--- receiver#1 reads" in shown
    assert "user\nCode?" in shown
    assert shown.endswith(f"--- answer\n{plain}")
    spoken = masc("run", "--input", "code=33", "--show", "prompts", "--channel", "text", "--max-tokens", 1).out
    assert "--- sender#1 says\n" in spoken
    assert "sender: " in spoken.partition("receiver#1 reads")[2]
    assert masc("run", "--data", "test.jsonl", "--out", "o.jsonl", "--show", "prompts").code == 2
    assert masc("run", "--input", "code=33", "--show", "weights").code == 2
