"""A team as a model of lm-evaluation-harness, and the harness's tasks from the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import masc
from courier import GRAPH, Command
from masc.dsl.diagnostics import MascError

GENERATED = """task: codes
dataset_path: json
dataset_kwargs: {data_files: test.jsonl}
test_split: train
output_type: generate_until
doc_to_text: "{{code}}"
doc_to_target: "{{word}}"
generation_kwargs: {until: ["\\n\\n"], max_gen_toks: 3, do_sample: false}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""
CHOSEN = """task: picked
dataset_path: ./rows
test_split: test
output_type: multiple_choice
doc_to_text: "{{code}}"
doc_to_choice: ["aa", "bb"]
doc_to_target: "{{['aa', 'bb'].index(word)}}"
"""


@pytest.fixture
def team(folder: Path) -> Any:
    """The model class on a team of its own."""
    pytest.importorskip("lm_eval")
    from masc.harness.model import MascLM

    return MascLM(program=masc.compile("courier.mas", device="cpu"), batch_size=2)


def requests(*arguments: tuple[Any, ...]) -> list[Any]:
    return [SimpleNamespace(args=each) for each in arguments]


def code_of(call: Any, *arguments: Any) -> str:
    with pytest.raises(MascError) as caught:
        call(*arguments)
    return caught.value.diagnostics[0].code


def test_the_harness_finds_the_model_by_its_entry_point() -> None:
    declared = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["entry-points"]
    assert list(declared["lm_eval.models"]) == ["masc"]
    pytest.importorskip("lm_eval")
    from lm_eval.api.registry import get_model

    found = EntryPoint("masc", declared["lm_eval.models"]["masc"], "lm_eval.models").load()
    assert get_model("masc") is found


def test_answers_are_those_of_the_team(team: Any) -> None:
    asked = [("11", {"until": ["\n\n"], "max_gen_toks": 3}), ("222", {"max_gen_toks": 3}), ("3", {"max_gen_toks": 2})]
    said = team.generate_until(requests(*asked))
    for (context, wanted), text in zip(asked, said, strict=True):
        (alone,) = team.program.generate([{"code": context}], max_tokens=wanted["max_gen_toks"], temperature=0)
        assert text == alone
    (cut,) = team.generate_until(requests(("222", {"max_gen_toks": 3, "until": said[1][1]})))
    assert cut == said[1].partition(said[1][1])[0] != said[1]
    drawn = {"do_sample": True, "temperature": 2.0, "max_gen_toks": 3, "seed": 5}
    (sampled,) = team.generate_until(requests(("11", drawn)))
    assert sampled == team.program.generate([{"code": "11"}], max_tokens=3, temperature=2.0, seed=5)[0]


def test_likelihoods_are_sums_over_the_tokens_of_the_answer(team: Any) -> None:
    asked = [("11", " aa"), ("222", "b"), ("3", "a longer one")]
    found = team.loglikelihood(requests(*asked))
    for (context, text), (likely, greedy) in zip(asked, found, strict=True):
        with torch.no_grad():
            out = team.program([{"code": context, "word": text.strip()}])
        labels = out.labels[0, :-1]  # without the end of turn
        told = out.logits[0, :-1].log_softmax(-1).gather(-1, labels[:, None]).sum()
        assert likely == pytest.approx(float(told), abs=1e-4)
        assert greedy == bool((out.logits[0, :-1].argmax(-1) == labels).all())
    alone = [team.loglikelihood(requests(each))[0][0] for each in asked]
    assert alone == pytest.approx([likely for likely, _ in found], abs=1e-4)


def test_what_greedy_decoding_says_is_told_to_be_that(team: Any) -> None:
    base = team.program.base("receiver")
    told = []
    for code in map(str, range(20)):
        said = team.program.say([{"code": code}])[0]["answer"]
        text = base.text(list(said.ids[:1]))
        if text.strip() == text and base.characters.literal(text, base.end_of_turn) == list(said.ids[:1]):
            told.append(team.loglikelihood(requests((code, text)))[0][1])
    assert told
    assert all(told)
    assert not team.loglikelihood(requests(("11", "certainly not what it says")))[0][1]


def test_what_a_team_cannot_do_is_refused(team: Any, folder: Path) -> None:
    from masc.harness.model import MascLM

    assert code_of(team.loglikelihood_rolling, requests(("a text",))) == "E0633"
    assert code_of(team.generate_until, requests(("1", {"repetition_penalty": 1.3}))) == "E0633"
    assert code_of(team.generate_until, requests(("1", {"do_sample": True, "top_k": 5}))) == "E0633"
    assert code_of(team.generate_until, requests(("1", {"max_gen_toks": 0}))) == "E0633"
    assert code_of(team.apply_chat_template, [{"role": "user", "content": "a"}] * 2) == "E0633"
    assert team.apply_chat_template([{"role": "user", "content": "a"}]) == "a"
    assert code_of(MascLM) == "E0632"
    for name, value in (("artefact", "x"), ("channel", "loud")):
        with pytest.raises(MascError) as caught:
            MascLM(**{name: value})
        assert caught.value.diagnostics[0].code == "E0632"
    (folder / "two.mas").write_text(
        GRAPH.replace("graph courier(code)", "graph courier(code, topic)").replace('"Code?"', '"{topic}"')
    )
    two = masc.compile("two.mas", device="cpu")
    with pytest.raises(MascError, match="reads `code` and `topic`"):
        MascLM(program=two)


def test_a_task_from_the_command(masc: Command, folder: Path) -> None:
    pytest.importorskip("lm_eval")
    (folder / "codes.yaml").write_text(GENERATED)
    (folder / "picked.yaml").write_text(CHOSEN)
    (folder / "rows").mkdir()
    (folder / "test.jsonl").rename(folder / "rows" / "test.jsonl")
    (folder / "test.jsonl").write_bytes((folder / "rows" / "test.jsonl").read_bytes())
    assert masc("compile").code == 0
    done = masc("eval", "--task", "codes.yaml", "--limit", 3, "--out", "told.json", "--items", "each.jsonl")
    assert done.code == 0, done.err
    assert "3 questions" in done.out
    assert "exact_match" in done.out
    told = json.loads((folder / "told.json").read_text())
    assert told["results"]["codes"]["alias"] == "codes"
    assert told["run"]["data"] == {"task": "codes.yaml"}
    assert len((folder / "each.jsonl").read_text().splitlines()) == 3
    done = masc("eval", "--task", "picked.yaml", "--fewshot", 0)
    assert done.code == 0, done.err
    assert "4 questions" in done.out
    assert "acc" in done.out


def test_what_is_wrong_with_a_task_is_told(masc: Command, folder: Path) -> None:
    pytest.importorskip("lm_eval")
    assert masc("compile").code == 0
    refused = masc("eval", "--task", "gsm8")
    assert "error[E0611]: unknown task `gsm8`" in refused.err
    assert "did you mean `gsm8k`?" in refused.err
    assert "E0634" in masc("eval", "--task", "nosuch.yaml").err
    (folder / "codes.yaml").write_text(GENERATED.replace("test.jsonl", "gone.jsonl"))
    assert "error[E0634]: the task `codes.yaml` cannot be run" in masc("eval", "--task", "codes.yaml").err
    (folder / "codes.yaml").write_text(GENERATED.replace("generate_until", "loglikelihood_rolling"))
    assert "E0633" in masc("eval", "--task", "codes.yaml").err
    refused = masc("eval", "--task", "codes.yaml", "--scorer", "number")
    assert refused.code == 2
    assert "--scorer" in refused.err


def test_without_the_harness(masc: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    refused = masc("eval", "--task", "lm_eval:gsm8k")
    assert "error[E0631]" in refused.err
    assert "pip install lm-eval" in refused.err
    refused = masc("eval", "--task", "hellaswag")
    assert "error[E0611]" in refused.err
    assert "with the extra `lm-eval`" in refused.err


def test_the_command_of_the_harness(masc: Command, folder: Path) -> None:
    pytest.importorskip("lm_eval")
    assert masc("compile").code == 0
    (folder / "codes.yaml").write_text(GENERATED)
    asked = ["--model", "masc", "--model_args", "artifact=courier.masc,channel=text", "--tasks", "codes.yaml"]
    done = subprocess.run(
        [sys.executable, "-m", "masc.harness", "run", *asked, "--limit", "2", "--batch_size", "2", "--device", "cpu"],
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "exact_match" in done.stdout
