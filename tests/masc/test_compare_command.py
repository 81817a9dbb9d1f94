"""`masc compare` as a command: its options, its tables, and the audit of what it trained."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from comparisons import CHAIN, FILES, ROWS, TEAM
from courier import Command
from masc.dsl.diagnostics import MascError


def test_only_what_trains_needs_data_to_train_on(team: Path, masc: Command) -> None:
    team.write_text(TEAM.replace('data "train.jsonl" ', ""))
    assert masc("compare", team, "--rows", "single,latent", "--samples", 0).code == 0
    wrong = masc("compare", team, "--rows", "single,team", "--samples", 0)
    assert wrong.code == 1
    assert "data" in wrong.err


def test_what_a_single_agent_lacks_is_said(team: Path, masc: Command) -> None:
    done = masc("compare", team, "--set", "steps=1", "--samples", 0, "--plot", "cost")
    assert done.code == 0, done.err
    assert "only other agents read clue" in done.err
    assert len((team.parent / "team.compare" / "table.csv").read_text().splitlines()) == 1 + 11
    drawn = (team.parent / "team.compare" / "plot.svg").read_text()
    assert "FLOPs of a row that is answered" in drawn
    assert masc("compare", team, "--plot", "costs").code == 2


def test_code_is_run_behind_walls_or_not_at_all(team: Path, masc: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("masc.backends.scoring.choose_sandbox._tried", lambda name: f"`{name}` is not installed")
    rows = [{**row, "test": "assert True"} for row in ROWS[:2]]
    (team.parent / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for command in (("compare", team, "--rows", "single", "--samples", 0), ("eval", team, "--data", "test.jsonl")):
        refused = masc(*command, "--scorer", "code", "--allow-code-execution")
        assert refused.code == 1
        assert "E0660" in refused.err
        assert "--sandbox none" in refused.err
        wrong = masc(*command, "--scorer", "code", "--allow-code-execution", "--sandbox", "bwarp")
        assert "unknown sandbox `bwarp`" in wrong.err


def test_a_comma_that_is_no_sweep(team: Path, masc: Command) -> None:
    team.write_text(TEAM.replace("param steps", 'param greeting: text = "hi"\nparam steps', 1))
    for value, count in (("one\\,two", 1), ("one,two", 2), ("one", 1)):
        done = masc("compare", team, "--rows", "single", "--samples", 0, "--set", f"greeting={value}")
        assert done.code == 0, done.err
        assert len((team.parent / "team.compare" / "table.csv").read_text().splitlines()) == 1 + count


def test_decoding_on_the_command_line_and_from_python(team: Path, masc: Command) -> None:
    """It asks anew, trains nothing anew, is written down, and is the same from Python."""
    import masc as api

    def lines(*options: object) -> list[dict[str, Any]]:
        done = masc("compare", team, "--rows", "single,text,team", "--set", "steps=1", "--samples", 2, *options)
        assert done.code == 0, done.err
        return list(json.loads((team.parent / "team.compare/table.json").read_text())["lines"])

    plain = lines()
    said = lines("--max-tokens", 1, "--temperature", 0.7, "--top-p", 0.9)
    for before, now in zip(plain, said, strict=True):
        assert before["decoding"]["answer"] == "at most 3 tokens, greedy"
        assert now["decoding"]["answer"] == "at most 1 tokens, temperature 0.7, top-p 0.9, seed 0"
        assert now["tokens_decoded"] <= 3 or now["row"] == "text"
    assert [line["decoding"].get("guide") for line in said] == [line["decoding"].get("guide") for line in plain]
    assert lines() == plain, "found again"
    (run,) = (team.parent / "team.compare/runs").glob("team-*")
    assert len(list(run.glob("result-*.json"))) == 2
    train, test = ([json.loads(row) for row in (team.parent / name).read_text().splitlines()] for name in FILES)
    options: dict[str, Any] = {"rows": ["single"], "samples": 0, "max_tokens": 1, "temperature": 0.7, "top_p": 0.9}
    (line,) = api.compare(team, train, test, team.parent / "py", **options)
    assert dict(line.decoding)["answer"] == said[0]["decoding"]["answer"]
    assert line.accuracy == said[0]["accuracy"]
    with pytest.raises(ValueError, match="top_p"):
        api.compare(team, train, test, team.parent / "py", top_p=0)
    assert masc("compare", team, "--top-p", 0).code == 2


def test_a_row_that_no_seed_decides_counts_once(team: Path, masc: Command) -> None:
    team.write_text(CHAIN)
    done = masc("compare", team, "--rows", "single,text,team", "--samples", 0, "--seeds", "0,1")
    assert done.code == 0, done.err
    assert "as written, end to end (DiffMAS) (2 seeds)" in done.out
    assert done.out.count("seeds)") == 1
    # What the text agents are given is said: as the one that answers, with as many tokens as an `answer` line gives.
    assert "Decoding, text agents: guide: at most 128 tokens, temperature 0.5, top-p 1, seed 0; answer:" in done.out
    team.write_text(
        CHAIN.replace("think 1", "think 1 answer (max_tokens = 7)").replace(": kv", ": kv  judge -> answer")
    )
    done = masc("compare", team, "--rows", "single,text", "--samples", 0)
    assert done.code == 0, done.err
    assert "Decoding, text agents: guide: at most 7 tokens, greedy; answer: at most 3 tokens, temp" in done.out
    assert "Decoding, all others: answer: at most 3 tokens, temperature 0.5, top-p 1, seed 0, stop at 'z'" in done.out


def test_a_sweep_runs_again_only_what_depends_on_it(team: Path, masc: Command) -> None:
    done = masc(
        "compare", team, "--set", "steps_of_thought=0,1", "--rows", "single,latent", "--samples", 0, "-o", "swept"
    )
    assert done.code == 0, done.err
    with (team.parent / "swept" / "table.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [(line["row"], line["steps_of_thought"]) for line in lines] == [
        ("single", "0"),
        ("single", "1"),
        ("latent", "0"),
        ("latent", "1"),
    ]
    assert len(list((team.parent / "swept" / "runs").glob("single-*"))) == 1
    assert len(list((team.parent / "swept" / "runs").glob("latent-*"))) == 2
    assert [int(float(line["latent_steps"])) for line in lines] == [0, 0, 6, 9]
    # In the tables for people the row that does not depend on the value stands once.
    table = (team.parent / "swept" / "table.md").read_text().partition("\n\n")[0]
    shown = [line.split(" | ")[0] for line in table.splitlines()[2:]]
    untrained = "| as written, untrained, steps_of_thought"
    assert shown == ["| single agent", f"{untrained} = 0", f"{untrained} = 1"]
    assert (team.parent / "swept" / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_the_command(team: Path, masc: Command) -> None:
    rows = "single-tuned,latent,team"
    done = masc("compare", team, "--rows", rows, "--set", "steps=2", "--samples", 2, "--sampled", 2, "--seeds", "0,1")
    assert done.code == 0, done.err
    assert "single agent, fine-tuned (2 seeds)" in done.out
    assert "2 of 3 test rows are training rows" in done.err
    out = team.parent / "team.compare"
    table, _, below = (out / "table.md").read_text().partition("\n\n")
    markdown = table.splitlines()
    assert len(markdown) == 2 + 3
    assert "as written, end to end (2 seeds)" in markdown[-1]  # no chain: not what DiffMAS is
    assert "as written, untrained (2 seeds)" in markdown[-2]  # its link is drawn from the seed
    assert "Decoding, all rows: answer: at most 3 tokens, greedy" in below
    found = json.loads((out / "table.json").read_text())
    assert [line["row"] for line in found["lines"]] == ["single-tuned", "latent", "team"]
    assert found["run"]["test"]["sha256"] == hashlib.sha256((team.parent / "test.jsonl").read_bytes()).hexdigest()
    assert (found["run"]["scorer"], found["run"]["seeds"], found["run"]["test"]["rows"]) == ("exact", [0, 1], 3)
    artifact = next(out.glob("runs/team-*/team.masc"))
    audited = masc("audit", artifact, "--data", "test.jsonl", "--watched", 1, "-o", "audit.json")
    assert audited.code == 0, audited.err
    assert "guide -> writer (hidden):" in audited.out
    written = json.loads((team.parent / "audit.json").read_text())
    assert written["run"]["weights"]["sha256"] == json.loads((artifact / "manifest.json").read_text())["weights"]
    assert written["run"]["data"]["path"] == str((team.parent / "test.jsonl").absolute())
    edges = written["edges"]
    assert [(e["sender"], e["receiver"]) for e in edges] == [
        ("guide", "writer"),
        ("guide", "judge"),
        ("writer", "judge"),
    ]
    other = masc("audit", artifact, "--data", "test.jsonl", "--output", "anser")
    assert other.code == 1
    assert "did you mean `answer`?" in other.err
    drawn = masc("draw", team, "--audit", "audit.json", "-o", "team.dot")
    assert drawn.code == 0, drawn.err
    assert "penwidth" in (team.parent / "team.dot").read_text()
    wrong = masc("draw", team, "--audit", "train.jsonl", "-o", "team.dot")
    assert wrong.code == 1
    assert "E0602" in wrong.err


def test_an_audit_from_python_takes_the_weights_that_the_command_takes(team: Path, masc: Command) -> None:
    import masc as api

    team.write_text(CHAIN)
    assert masc("train", team, "--set", "steps=2", "--set", "save_every=1").code == 0
    rows = [json.loads(row) for row in (team.parent / "test.jsonl").read_text().splitlines()]
    team.write_text(CHAIN.replace("{q}?", "{q}!"))
    for given, words in (
        ({"weights": "team.masc"}, ("--weights", "team.masc")),
        ({"weights": Path("team.masc"), "checkpoint": 1}, ("--weights", "team.masc", "--checkpoint", "1")),
    ):
        done = masc("audit", team, *words, "--watched", 1, "-o", "audit.json", "--dtype", "float32")
        assert done.code == 0, done.err
        found = api.audit(team, rows, watched=1, device="cpu", **given)
        assert found.log_likelihood == json.loads((team.parent / "audit.json").read_text())["log_likelihood"]
    with pytest.raises(MascError, match="E0614"):
        api.audit(team, rows)
    loaded = api.load(team, weights="team.masc", device="cpu")
    kept = api.load("team.masc", device="cpu")
    theirs = kept.state_dict(trainable_only=True)
    assert all(theirs[name].equal(one) for name, one in loaded.state_dict(trainable_only=True).items())
    assert loaded.plan != kept.plan


def test_an_audit_decodes_as_it_is_told(team: Path, masc: Command) -> None:
    import masc as api

    team.write_text(CHAIN.replace(', stop = "z"', ""))
    assert masc("train", team).code == 0
    rows = [json.loads(row) for row in (team.parent / "test.jsonl").read_text().splitlines()]
    said: dict[int, set[str]] = {1: set(), 3: set()}

    def scorer(text: str, gold: str, row: object) -> bool:
        said[most].add(text)
        return True

    for most in said:
        api.audit(team, rows, scorer, watched=1, device="cpu", max_tokens=most, temperature=0.7, seed=3)
    assert max(map(len, said[1])) < max(map(len, said[3]))
    options = ("--temperature", 0.7, "--top-p", 0.9, "--max-tokens", 1, "--seed", 3, "--watched", 1, "-o", "audit.json")
    done = masc("audit", team, *options)
    assert done.code == 0, done.err
    decoding = json.loads((team.parent / "audit.json").read_text())["run"]["decoding"]["answer"]
    assert decoding == {"max_tokens": 1, "temperature": 0.7, "top_p": 0.9, "seed": 3, "stop": []}
    assert masc("audit", team, "--top-p", 0).code == 2


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (("--rows", "singel"), 1, "did you mean `single`?"),
        (("--seeds", "one"), 2, "`one` is not a whole number"),
        (("--samples", "1"), 2, "agrees with nothing"),
        (("--output", "anser"), 1, "there is no"),
        (("--test", "nothing.jsonl"), 1, "nothing.jsonl"),
        (("--scorer", "code"), 1, "--allow-code-execution"),
        (("--set", "stepz=1"), 1, "steps"),
        (("--set", "seed=1,2"), 1, "--seeds"),
        (("--set", "data=train.jsonl,test.jsonl"), 1, "--train"),
    ],
)
def test_wrong_options(team: Path, masc: Command, options: tuple[str, ...], code: int, text: str) -> None:
    done = masc("compare", team, *options)
    assert done.code == code
    assert text in done.err.replace("the graph has no output", "there is no")
