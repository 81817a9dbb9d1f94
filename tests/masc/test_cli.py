"""The command, from outside: a whole session on a tiny model, and what it does with wrong input."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from courier import GRAPH, Command
from masc.commands.valueless import filled


def test_a_whole_session(masc: Command, folder: Path) -> None:
    assert masc("check").code == 0
    assert masc("compile").code == 0
    artifact = folder / "courier.masc"
    assert not (artifact / "adapters").exists(), "an untrained artifact holds no weights"
    done = masc("train")
    assert done.code == 0, done.err
    metrics = [json.loads(line) for line in (artifact / "metrics.jsonl").read_text().splitlines()]
    assert [m["step"] for m in metrics] == [1, 2, 3, 4, 5, 6, 6], "the last line is the evaluation after step 6"
    assert set(metrics[0]["grad_norms"]) == {"sender", "receiver"}
    assert metrics[-1]["eval_items"] == 4
    result = masc("eval", "--out", "eval.json")
    assert result.code == 0, result.err
    assert json.loads((folder / "eval.json").read_text())["items"] == 4
    assert "accuracy" in result.out
    said = masc("run", "--input", "code=33")
    assert said.code == 0
    assert said.out.endswith("\n")
    assert masc("run", "--data", "test.jsonl", "--out", "out.jsonl").code == 0
    answers = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert len(answers) == 4
    assert all("answer" in answer for answer in answers)
    for suffix in ("svg", "mmd", "dot", "txt"):
        assert masc("draw", "-o", f"x.{suffix}").code == 0
        assert (folder / f"x.{suffix}").stat().st_size > 100


def test_folder_and_artifact_as_argument(masc: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert masc("compile", folder).code == 0
    assert masc("check", folder / "courier.masc").code == 0
    assert masc("draw", folder / "courier.masc").code == 0


def test_resume_takes_the_settings_of_the_run(masc: Command, folder: Path) -> None:
    """Six steps in one go equal four steps, more steps asked for, resumed."""
    assert masc("train", "--set", "steps=6").code == 0
    whole = load_file(folder / "courier.masc/checkpoints/step-000006/weights.safetensors")
    (folder / "courier.masc").rename(folder / "whole.masc")
    assert masc("train", "--set", "save_every=2").code == 0
    shutil.rmtree(folder / "courier.masc/checkpoints/step-000006")
    shutil.rmtree(folder / "courier.masc/adapters")
    assert masc("train").code == 1, "without --resume an earlier run is not touched"
    assert masc("train", "--resume").code == 0
    again = load_file(folder / "courier.masc/checkpoints/step-000006/weights.safetensors")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_trained_weights_are_not_lost(masc: Command, folder: Path) -> None:
    assert masc("train", "--set", "steps=2").code == 0
    weights = folder / "courier.masc/adapters/sender/adapter_model.safetensors"
    before = weights.read_bytes()
    assert masc("compile").code == 0
    assert weights.read_bytes() == before, "recompiling an unchanged plan keeps the weights"
    (folder / "courier.mas").write_text(
        GRAPH.replace("steps 6", "steps 7").replace("agent sender", "# say\nagent sender")
    )
    assert masc("compile").code == 0
    assert weights.read_bytes() == before, "train settings and comments do not change the plan"
    (folder / "courier.mas").write_text(GRAPH.replace("latents: int = 2", "latents: int = 3"))
    stale = masc("eval")
    assert stale.code == 1
    assert "compile" in stale.err
    refused = masc("compile")
    assert refused.code == 1
    assert "--force" in refused.err
    assert weights.read_bytes() == before
    assert masc("compile", "--force").code == 0
    assert not weights.exists()


def test_other_decoding_keeps_the_weights(masc: Command, folder: Path) -> None:
    assert masc("train", "--set", "steps=2").code == 0
    weights = folder / "courier.masc/adapters/sender/adapter_model.safetensors"
    before = weights.read_bytes()
    other = GRAPH.replace("max_tokens = 4", 'max_tokens = 1, temperature = 0.7, stop = "x"')
    (folder / "courier.mas").write_text(other)
    done = masc("eval", "--out", "eval.json")
    assert done.code == 0, done.err
    assert json.loads((folder / "eval.json").read_text())["decoding"]["answer"]["max_tokens"] == 1
    assert masc("compile").code == 0
    assert weights.read_bytes() == before


def test_set_at_compile_time_is_kept(masc: Command, folder: Path) -> None:
    assert masc("compile", "--set", "latents=5").code == 0
    assert masc("train", "--set", "steps=1").code == 0
    assert masc("eval").code == 0
    assert "5" in (folder / "courier.masc" / "plan.json").read_text()
    wrong = masc("compile", "--set", "latent=5")
    assert wrong.code == 1
    assert "did you mean `latents`?" in wrong.err


def test_run_resumes_and_keeps_the_order_of_the_input(masc: Command, folder: Path) -> None:
    assert masc("run", "--data", "test.jsonl", "--out", "whole.jsonl", "--batch", 3).code == 0
    whole = (folder / "whole.jsonl").read_text()
    lines = whole.splitlines(keepends=True)
    partial = folder / "out.jsonl.partial"
    assert not partial.exists()
    assert masc("run", "--data", "test.jsonl", "--out", "out.jsonl", "--batch", 1).code == 0
    assert [json.loads(x)["answer"] for x in lines] == [
        json.loads(x)["answer"] for x in (folder / "out.jsonl").read_text().splitlines()
    ]
    assert [json.loads(x)["code"] for x in lines] == ["44", "55", "66", "77"]


def test_an_artifact_elsewhere_keeps_its_paths(masc: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Model and data of the file stay relative to the folder that it was compiled in."""
    away = folder / "deep" / "down" / "team.masc"
    assert masc("compile", "-o", away).code == 0
    monkeypatch.chdir("/")
    for command in (("train", away), ("eval", away), ("draw", away), ("check", away)):
        result = masc(*command)
        assert result.code == 0, (command, result.err)
    assert (away / "adapters" / "sender" / "adapter_config.json").exists()


def test_emit(masc: Command, folder: Path) -> None:
    from masc.compiler.forms.plan_parse import parse_plan
    from masc.compiler.forms.plan_text import print_plan

    plan = masc("compile", "--emit", "plan")
    assert print_plan(parse_plan(plan.out)).strip() == plan.out.strip()
    assert "sender" in masc("compile", "--emit", "graph").out
    assert "agent" in masc("compile", "--emit", "ast").out.lower()
    assert not (folder / "courier.masc").exists()


@pytest.mark.parametrize(
    ("before", "after", "code", "told"),
    [
        ("sender -> receiver", "sendr -> receiver", "E02", "did you mean `sender`?"),
        ("mas 1\n", "", "E01", "mas 1"),
        ("think latents", "think latens", "E02", "did you mean `latents`?"),
        ("carry = latents", "cary = latents", "E04", "did you mean `carry`?"),
    ],
)
def test_misspellings_are_shown_with_a_caret(
    masc: Command, folder: Path, before: str, after: str, code: str, told: str
) -> None:
    assert before in GRAPH
    (folder / "courier.mas").write_text(GRAPH.replace(before, after))
    for command in ("check", "compile", "train", "eval", "draw"):
        result = masc(command)
        assert result.code == 1, command
        assert f"error[{code}" in result.err
        assert told in result.err
        assert "^" in result.err
        assert "Traceback" not in result.err
    found = json.loads(masc("check", "--format", "json").out)
    assert any(item["code"].startswith(code) for item in found)


def test_bad_data_is_named_with_its_line(masc: Command, folder: Path) -> None:
    good = '{"code": "1", "word": "a"}\n'
    cases = {
        good + "{broken\n": ("E0602", ":2:"),
        good + '{"code": "1"}\n': ("E0604", "`word`"),
        "\n": ("E0605", "no rows"),
        good + '{"code": [1], "word": "a"}\n': ("E0607", "list"),
        good + "[1]\n": ("E0602", "not a JSON object"),
    }
    for text, (code, told) in cases.items():
        (folder / "train.jsonl").write_text(text)
        result = masc("train")
        assert result.code == 1
        assert code in result.err
        assert told in result.err
    (folder / "train.jsonl").unlink()
    assert "E0601" in masc("train").err
    assert not (folder / "courier.masc" / "adapters").exists()


def test_wrong_usage_exits_with_2(masc: Command, folder: Path) -> None:
    for arguments in (("run",), ("train", "--set", "steps"), ("compile", "--emit", "tree"), ("nonsense",)):
        assert masc(*arguments).code == 2, arguments


def test_non_finite_training_exits_with_3(masc: Command, folder: Path) -> None:
    weights = load_file(folder / "tiny/model.safetensors")
    weights["lm_head.weight"][5] = float("nan")
    save_file(weights, folder / "tiny/model.safetensors", metadata={"format": "pt"})
    result = masc("train")
    assert result.code == 3
    assert "E0701" in result.err


def test_a_damaged_artifact_is_told(masc: Command, folder: Path) -> None:
    assert masc("train", "--set", "steps=1").code == 0
    weights = folder / "courier.masc/adapters/sender/adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    result = masc("eval")
    assert result.code == 1
    assert "E0617" in result.err
    (folder / "courier.masc/manifest.json").write_text("{")
    assert masc("eval").code == 1
    changed = folder / "tiny/config.json"
    shutil.rmtree(folder / "courier.masc")
    assert masc("train", "--set", "steps=1").code == 0
    changed.write_text(changed.read_text().replace('"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-05'))
    result = masc("eval")
    assert result.code == 1
    assert "model" in result.err


def test_cut_takes_the_channel_away(masc: Command, folder: Path) -> None:
    assert masc("eval", "--cut", "sender:receiver").code == 0
    wrong = masc("eval", "--cut", "sender:reciever")
    assert wrong.code == 1


def test_the_text_channel_from_the_same_artifact(masc: Command, folder: Path) -> None:
    assert masc("eval", "--out", "latent.json").code == 0
    assert masc("eval", "--channel", "text", "--out", "text.json").code == 0
    latent, text = (json.loads((folder / name).read_text()) for name in ("latent.json", "text.json"))
    assert latent["latent_steps"] > 0 == text["latent_steps"]
    assert text["tokens_decoded"] > latent["tokens_decoded"]  # the sender's words count
    answered = masc("run", "--channel", "text", "--data", "test.jsonl", "--out", "said.jsonl")
    assert answered.code == 0, answered.err
    lines = [json.loads(line) for line in (folder / "said.jsonl").read_text().splitlines()]
    assert {tuple(line) for line in lines} == {("code", "word", "answer")}
    assert masc("run", "--channel", "text", "--input", "code=one two").code == 0
    assert masc("eval", "--channel", "words").code == 2


def test_a_column_that_supervises_text_is_wanted_for_training_alone(masc: Command, folder: Path) -> None:
    text = (folder / "courier.mas").read_text()
    text = text.replace("  think latents\n", "  think latents\n  answer (max_tokens = 4)\n")
    text = text.replace("kv(carry = latents, open = 4)", "text").replace("  batch 2", "  sender <- note\n  batch 2")
    (folder / "courier.mas").write_text(text.replace('  eval_data "test.jsonl"\n', ""))
    lacking = masc("train", "--set", "steps=1")
    assert lacking.code == 1
    assert "E0604" in lacking.err
    rows = [json.loads(line) | {"note": "x"} for line in (folder / "train.jsonl").read_text().splitlines()]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    trained = masc("train", "--set", "steps=1")
    assert trained.code == 0, trained.err
    scored = masc("eval", "--data", "test.jsonl")
    assert scored.code == 0, scored.err


def test_fmt_keeps_comments(masc: Command, folder: Path) -> None:
    (folder / "courier.mas").write_text(GRAPH.replace("  think latents", "  think    latents   # few"))
    assert masc("fmt").code == 0
    assert "# few" in (folder / "courier.mas").read_text()
    assert masc("fmt").err.strip().endswith("unchanged")


def test_explain(masc: Command) -> None:
    assert "E0201" in masc("explain", "E0201").out
    assert masc("explain", "E9999").code == 1


def test_a_file_to_import_from_passes_check_alone(masc: Command, tmp_path: Path) -> None:
    roles = tmp_path / "roles.mas"
    roles.write_text('mas 1\nmodel m = "smollm2-135m"\nagent a on m {\n  user "x"\n}\n')
    assert masc("check", str(roles)).code == 0
    assert masc("check", str(roles), "--format", "json").out.strip() == "[]"
    for command in (("compile",), ("draw",), ("train",), ("run", "--input", "question=x")):
        done = masc(command[0], str(roles), *command[1:])
        assert (done.code, "E0301" in done.err) == (1, True), command


def test_a_number_that_may_be_left_out_is_filled_in() -> None:
    assert filled([]) == []
    assert filled(["train", "--profile"]) == ["train", "--profile", "3"]
    assert filled(["train", "--profile", "2", "x.mas"]) == ["train", "--profile", "2", "x.mas"]
    assert filled(["train", "--profile", "x.mas", "--", "--profile"])[:4] == ["train", "--profile", "3", "x.mas"]
