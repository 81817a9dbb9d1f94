"""One graph with everything in it: twelve agents, two base models, every kind of edge, repeats in repeats, a template,
an import, supervised text. It trains, survives a kill, is saved, loaded and run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import masc
from support import make_model, make_other

ROLES = """
mas 1
model m = "./tiny"
param latents: int = 2
agent planner on m { user "plan {q}" think latents (align = ridge) adapt lora(rank = 4) }
agent expert(field: text, steps: int) on m { user "{field}? {q}" think steps (align = linear) adapt lora(rank = 2) }
"""
TEAM = """
mas 1
import "roles.mas" (planner, expert)
model m = "./tiny"
model n = "./other"

agent scout    on n { user "scout {q}" think 2 }
agent reader   on n { user "read {q}" adapt lora(rank = 4, targets = attention) }
agent critic   on m { user "wrong? {q}" think 1 answer (max_tokens = 3) }
agent solver   on m { user "solve {q} {critic}" think 2 answer (max_tokens = 3) }
agent checker  on n { user "{solver} {q}" think 1 }
agent frozen   on m { user "{q}" think 1 adapt none }
agent writer   on m { system "Be brief." user "{q}, {checker}" adapt lora(rank = 4, dropout = 0.1) }
agent editor   on m { user "edit {q}" think 1 }
agent judge    on n { user "{q}: {editor} {solver}" answer (max_tokens = 6) }

graph everything(q) -> answer {
  maths   = expert("maths", 1)
  physics = expert("physics", 2)
  planner -> [maths, physics]  : kv
  [maths, physics] -> solver   : kv(carry = own, merge = stack)
  scout -> solver              : hidden(link = mlp)
  repeat 2 {
    repeat 2 { solver -> critic : kv(carry = latents, open = 4)   critic -> solver : text }
    solver -> checker : hidden(carry = own)
    checker -> solver : fuse(layers = 1..1, width = 8)
  }
  frozen -> writer   : kv(layers = 0..0, gradient = stop)
  checker -> writer  : hidden
  reader -> writer   : fuse(width = 8)
  writer -> editor   : kv
  solver -> editor   : kv(carry = latents)
  editor -> judge    : hidden
  solver -> judge    : text
  reader -> judge    : fuse(width = 4)
  judge -> answer
}

train {
  answer <- answer
  critic <- note
  batch 2
  steps 6
  rate 1e-2
  warmup 0.1
  save_every 2
  seed 3
}
"""
ROWS = [
    {"q": "red", "answer": "ab", "note": "no"},
    {"q": "a blue one", "answer": "cd", "note": "yes"},
    {"q": "green!", "answer": "ef", "note": "no"},
    {"q": "or white", "answer": "gh", "note": "yes"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("everything")
    make_model(folder / "tiny", num_hidden_layers=2)
    make_other(folder / "other", num_hidden_layers=3)
    (folder / "roles.mas").write_text(ROLES)
    (folder / "team.mas").write_text(TEAM)
    return folder


def test_twelve_agents_train_survive_and_run(folder: Path) -> None:
    program = masc.compile(folder / "team.mas")
    assert len(program.plan.agents) == 12
    history = masc.train(program, ROWS, directory=folder / "run")
    losses = [step["loss"] for step in history]
    assert len(losses) == 6
    assert sum(losses[-2:]) < 0.6 * sum(losses[:2])
    # Every agent that is trained, every edge with parameters and every round gets gradient (the first step aside, in
    # which gates are closed), and those that nothing reaches get none.
    last = history[-1]
    for name, norm in last["grad_norms"].items():
        assert (norm > 0) == (name != "frozen"), name
    rounds = last["grad_norms_by_round"]
    assert {name for name in rounds if name.startswith("critic")} == {f"critic#{i}" for i in (1, 2, 3, 4)}
    assert all(norm > 0 for norm in rounds.values()), rounds

    program.save(folder / "team.masc")
    loaded = masc.load(folder / "team.masc")
    with torch.no_grad():
        assert torch.equal(program(ROWS).logits, loaded(ROWS).logits)
    assert program.generate(ROWS) == loaded.generate(ROWS)
    assert loaded.generate(ROWS) == [loaded.generate([row])[0] for row in ROWS]

    # Stopped after the step of a checkpoint, and gone on with: the same to the bit.
    class StopError(Exception):
        pass

    def stop(metrics: dict[str, object]) -> None:
        if metrics["step"] == 5:
            raise StopError

    again = masc.compile(folder / "team.mas")
    with pytest.raises(StopError):
        masc.train(again, ROWS, directory=folder / "again", listen=stop)
    again = masc.compile(folder / "team.mas")
    resumed = masc.train(again, ROWS, directory=folder / "again", resume=True)
    assert [step["step"] for step in resumed] == [5, 6]
    found = again.state_dict(trainable_only=True)
    for name, tensor in program.state_dict(trainable_only=True).items():
        assert torch.equal(tensor, found[name]), name
    steps = [json.loads(line)["step"] for line in (folder / "again" / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 7))


def test_gradients_by_round_add_up(folder: Path) -> None:
    """What the rounds contribute is, summed, the gradient of the adapter that they share; also when activations are
    recomputed."""
    program = masc.compile(folder / "team.mas")
    for recompute in (False, True):
        program.zero_grad()
        rounds: dict[str, dict[str, torch.Tensor]] = {}
        with program.holding(rounds=rounds):
            program(ROWS, recompute=recompute).loss.backward()
        named = program.trainable()
        for agent, count in (("solver", 7), ("critic", 4), ("checker", 2), ("judge", 1)):
            own = {a: parts for a, parts in rounds.items() if a.startswith(f"{agent}#")}
            assert len(own) <= count
            assert len(own) == sum(turn.agent == agent for turn in program.plan.turns)
            for name in {name for parts in own.values() for name in parts}:
                full = f"bases.model_{program.plan.agent(agent).model}.model.{name}"
                total = sum(parts[name] for parts in own.values() if name in parts)
                torch.testing.assert_close(total, named[full].grad, atol=1e-6, rtol=1e-4)


def test_an_artifact_moved_alone_still_runs(folder: Path, tmp_path: Path) -> None:
    """Imports go along; local models are found where they were."""
    import shutil

    masc.compile(folder / "team.mas").save(tmp_path / "a" / "team.masc")
    (tmp_path / "b").mkdir()
    shutil.move(tmp_path / "a" / "team.masc", tmp_path / "b" / "team.masc")
    program = masc.load(tmp_path / "b" / "team.masc")
    assert len(program.generate(ROWS)) == len(ROWS)


def test_the_text_channel_of_everything(folder: Path) -> None:
    program = masc.compile(folder / "team.mas", channel="text")
    for base in program.bases.values():  # half of all bytes end a text: else each would have 128 tokens
        base.__dict__["stop_ids"] = frozenset(range(0, 300, 2))
    said = program.say(ROWS[:2])
    assert all(set(one) >= {"answer", "planner#1", "solver#1"} for one in said)
    report = masc.evaluate(program, ROWS[:1])
    assert report.latent_steps == 0
    assert report.tokens_decoded > 0
    with pytest.raises(ValueError, match="made text"):
        program.save(folder / "text.masc")
