"""Training on rewards: what it computes, and that a run goes on exactly."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import masc
from graphs import GRAPHS
from masc.backends.torch.model.repeating import repeated
from masc.backends.torch.proving.wide import widened
from masc.backends.torch.training import grpo
from masc.backends.torch.training.grpo import Grpo, advantages
from masc.backends.torch.training.objective import Around
from masc.backends.torch.training.processes import Processes
from masc.backends.torch.training.supervised import Supervised
from masc.backends.torch.training.train import train
from masc.compiler.analysis.decoding import Decoding
from masc.compiler.analysis.policy import outspoken, policy
from masc.compiler.ir.plan import Reach, TrainSettings, agent_of
from masc.dsl.diagnostics import MascError
from support import ROWS, chain, make_program

TEXT = chain(("a", 2, "norm"), ("b", 1, "norm"), ("c", 0, "norm"))
SAMPLED = """
mas 1
model m = MODEL
agent t on m { user "t {q}" think 1 adapt lora(rank = 4) }
agent a on m { user "a {q}" think 1 adapt lora(rank = 4) answer (max_tokens = 3, temperature = 1) }
agent b on m { user "b {q}" think 1 adapt lora(rank = 4) answer (max_tokens = 3) }
agent c on m { user "c {a} {b}" think 1 adapt lora(rank = 4) answer (max_tokens = 4) }
graph g(q) -> answer { t -> a : kv(carry = own)  t -> b : kv  a -> c : text  b -> c : text  b -> c : kv }
"""
"""Of what agents tell each other one text is sampled, one is not, and the last agent reads both."""
SETTINGS: dict[str, Any] = {"steps": 4, "batch": 2, "rate": 1e-2, "clip": 0.0}


def letters(said: str, gold: str, row: Any) -> float:
    """A reward of which every group has a spread."""
    return sum(map(ord, said)) % 7 - 2.5


def drawn(program: Any, objective: Grpo, **start: torch.Tensor) -> Any:
    parameters = program.trainable()
    begun = {name: p.detach() + start["moved"] for name, p in parameters.items()} if start else {}
    settings = TrainSettings(batch=2, seed=3)
    around = Around(program, program, parameters, settings, Processes(), begun)
    return objective.begin(around, 5, ROWS[:2], [0, 1])


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        (TEXT, ["answer"]),
        (GRAPHS["rounds"], ["answer"]),
        (GRAPHS["text beside keys and values"], ["answer"]),
        (SAMPLED, ["answer", "a#1", "b#1"]),
    ],
)
def test_its_gradient_is_the_one_written_by_hand(text: str, spoken: list[str], tiny: Path) -> None:
    program = make_program(text, tiny)
    with program.running(outspoken(program.plan) if text is SAMPLED else program.plan), widened(program):
        ready = drawn(program, Grpo(letters, group=3, kl=0.0))
        held_against_a_plain_loop(program, ready, spoken)


def held_against_a_plain_loop(program: Any, ready: Any, spoken: list[str]) -> None:
    """The gradient is the sum over samples of the advantage times that of the mean of their log-probabilities: of the
    answer, and of each text that was sampled on the way to it."""
    work = ready.gradients(None)
    found = {name: p.grad.clone() for name, p in program.trainable().items() if p.grad is not None}
    program.zero_grad()
    for number, (row, said) in enumerate(zip(repeated(ready.rows, 3), ready.said, strict=True)):
        rewards = [letters(one["answer"].text, "", row) for one in ready.said[number // 3 * 3 :][:3]]
        mean = sum(rewards) / 3
        spread = (sum((reward - mean) ** 2 for reward in rewards) / 3) ** 0.5
        advantage = (rewards[number % 3] - mean) / (spread + 1e-4)
        with program.running(policy(program.plan)):
            for name in spoken:
                scores = program.score([row], {name: [one.tokens] for name, one in said.items()}, name)
                (-advantage * scores.sum() / len(said[name].tokens) / 6).backward()
    wanted = {name: p.grad for name, p in program.trainable().items() if p.grad is not None}
    assert found.keys() == wanted.keys()
    assert all(torch.allclose(found[name], wanted[name], rtol=1e-8, atol=1e-12) for name in wanted)
    reached = {program.owner(name) for name in wanted if bool(wanted[name].any())}
    reaches = {reach.agent for reach in program.plan.losses[0].reaches if isinstance(reach, Reach)}
    assert reached >= reaches | {agent_of(name) for name in spoken[1:]}
    assert work.told["without_signal"] < 1
    assert work.told["reward"] == pytest.approx(float(ready.rewards.mean()))


def test_what_a_group_has_in_common_is_computed_once(tiny: Path) -> None:
    """Answers to a row are sampled, and scored, as each would be alone; but its prompts are read once for all."""
    program = make_program(SAMPLED, tiny)
    rows, numbers, copies = [ROWS[0]] * 3 + [ROWS[1]] * 3, [0] * 3 + [1] * 3, [0, 1, 2] * 2
    how = Decoding(temperature=1.0, top_p=1.0)
    with widened(program):
        alone = [program.say([row], [i], None, how, [k])[0] for row, i, k in zip(rows, numbers, copies, strict=True)]
        fast, exact = (program.say(rows, numbers, None, how, copies, engine=one) for one in ("fast", "exact"))
        some = dict(program.say_each(rows, 2, numbers, how, copies))
        for found in (fast, exact, [some[i] for i in range(6)]):
            assert [{n: s.ids for n, s in one.items()} for one in found] == [
                {n: s.ids for n, s in one.items()} for one in alone
            ]
        answers = {name: [one[name].tokens for one in alone] for name in alone[0]}
        assert len({*answers["a#1"]}) > 2
        assert answers["b#1"][0] == answers["b#1"][2]
        wanted = program(rows, answers=answers)
        weights = torch.linspace(-1, 1, 6, dtype=torch.float64)[:, None]
        (wanted.outputs["answer"].losses * weights).sum().backward()
        gradients = {name: p.grad for name, p in program.trainable().items() if p.grad is not None}
        program.zero_grad()
        found = program(ROWS[:2], answers={**answers, "b#1": answers["b#1"][::3]}, group=3)
        (found.outputs["answer"].losses * weights).sum().backward()
        assert torch.allclose(found.outputs["answer"].losses, wanted.outputs["answer"].losses, rtol=1e-9)
        assert {program.owner(name) for name in gradients} == {"t", "b", "c"}
        again = dict(program.trainable())
        assert all(torch.allclose(again[n].grad, one, rtol=1e-8, atol=1e-12) for n, one in gradients.items())
    assert found.positions < wanted.positions
    with pytest.raises(ValueError, match="has 6 answers for 2 rows, 2 to each"):
        program.score(ROWS[:2], answers, group=2)


def test_groups_that_teach_nothing_are_not_read(tiny: Path) -> None:
    program = make_program(TEXT, tiny)
    work = drawn(program, Grpo(letters, group=4, kl=0.0)).gradients(None)
    silent = drawn(program, Grpo(lambda said, gold, row: 1, group=4, kl=0.0)).gradients(None)
    assert silent.positions < work.positions
    assert float(silent.summed) == 0


def test_the_distance_to_the_start_has_its_gradient(tiny: Path) -> None:
    """All answers are as good. The distance is left: its gradient by a log-probability is 1 - p0 / p."""
    program = make_program(TEXT, tiny)
    before = {name: p.detach().double() for name, p in program.trainable().items()}
    ready = drawn(program, Grpo(lambda said, gold, row: 1, group=2, kl=0.5), moved=torch.tensor(0.05))
    with widened(program):
        work = ready.gradients(None)
        assert all(torch.equal(p, before[name]) for name, p in program.trainable().items())
        found = {name: p.grad.clone() for name, p in program.trainable().items()}
        program.zero_grad()
        for row, said in zip(repeated(ready.rows, 2), ready.said, strict=True):
            tokens = [said["answer"].tokens]
            with torch.no_grad(), grpo.swapped(program.trainable(), ready.around.start):
                start = program.score([row], tokens)
            now = program.score([row], tokens)
            (0.5 * ((1 - (start - now.detach()).exp()) * now).sum() / len(tokens[0]) / 4).backward()
        assert all(
            torch.allclose(found[name], p.grad, rtol=1e-8, atol=1e-12) for name, p in program.trainable().items()
        )
        assert work.told["without_signal"] == 1.0
        assert work.told["kl"] > 0


def test_a_ratio_beyond_the_clip_has_no_gradient() -> None:
    now = torch.tensor([[0.5, 0.1], [-0.5, 0.1]], requires_grad=True)
    grpo.losses(now, torch.zeros(2, 2), None, torch.tensor([1.0, -1.0]), 0.2, 0.0).sum().backward()
    assert now.grad is not None
    assert (now.grad != 0).tolist() == [[False, True], [False, True]]


def test_advantages_of_a_group_without_a_signal_are_nothing() -> None:
    found = advantages(torch.tensor([[1.0, 1.0], [0.0, 1.0]], dtype=torch.float64))
    assert found[0].tolist() == [0, 0]
    assert found[1].tolist() == pytest.approx([-1, 1], abs=1e-3)


@pytest.mark.parametrize("kl", [0.0, 0.1])
def test_a_run_goes_on_to_the_same_bits(kl: float, tiny: Path, tmp_path: Path) -> None:
    objective = Grpo(letters, group=2, kl=kl, updates=2)
    whole, part = make_program(TEXT, tiny), make_program(TEXT, tiny)
    told = train(whole, ROWS, directory=tmp_path / "run", objective=objective, save_every=2, **SETTINGS)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-000004")
    again = train(part, ROWS, directory=tmp_path / "run", resume=True, objective=objective, save_every=2, **SETTINGS)
    assert [{**line, "seconds": 0} for line in again] == [{**line, "seconds": 0} for line in told[2:]]
    assert all(torch.equal(p, dict(whole.trainable())[name]) for name, p in part.trainable().items())
    assert ("kl" in told[0]) == (kl > 0)


def test_what_it_goes_on_with_must_be_the_same(tiny: Path, tmp_path: Path) -> None:
    few = {**SETTINGS, "steps": 1}
    train(make_program(TEXT, tiny), ROWS, directory=tmp_path, objective=Grpo(letters, group=2), **few)
    with pytest.raises(MascError, match=r"group = 2.* not supervised"):
        train(make_program(TEXT, tiny), ROWS, directory=tmp_path, resume=True, **SETTINGS)
    (tmp_path / "checkpoints" / "start.safetensors").unlink()
    with pytest.raises(MascError, match="began with"):
        train(make_program(TEXT, tiny), ROWS, directory=tmp_path, resume=True, objective=Grpo(letters, group=2), **few)


def test_it_learns_from_right_and_wrong_alone(tiny: Path) -> None:
    """Three steps make answers that were rewarded more probable."""

    def low(said: str, gold: str, row: Any) -> bool:
        return bool(said) and ord(said[0]) < 100

    program = make_program(chain(("a", 1, "norm"), ("c", 0, "norm")).replace("max_tokens = 6", "max_tokens = 1"), tiny)
    base = program.base("c")
    rewarded = torch.tensor([low(base.text([token]), "", {}) for token in range(base.rows)])

    def probable() -> float:
        with torch.no_grad():
            return float(program(ROWS[:2]).logits[:, 0].softmax(-1)[:, rewarded].sum(1).mean())

    before = probable()
    train(program, ROWS[:2], objective=Grpo(low, group=8, kl=0.0), **{**SETTINGS, "steps": 3, "rate": 2e-2})
    assert probable() > before + 0.1


@pytest.mark.parametrize(
    ("options", "says"),
    [({"group": 1}, "`group` is 1"), ({"clip": 0}, "`clip` is 0"), ({"kl": -1.0}, "`kl` is -1"), ({"updates": 0}, "0")],
)
def test_numbers_out_of_range(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Grpo("exact", **options)


@pytest.mark.parametrize("name", ["text, supervised", "gates"])
def test_a_graph_in_which_it_means_nothing(name: str, tiny: Path) -> None:
    with pytest.raises(ValueError, match="reward"):
        train(make_program(GRAPHS[name], tiny), ROWS, objective=Grpo("exact"))


def test_rows_need_answers_only_where_they_are_compared(tiny: Path) -> None:
    bare = [{name: text for name, text in row.items() if name != "answer"} for row in ROWS]
    seen: list[str] = []
    program = make_program(TEXT, tiny)
    train(program, bare, objective=Grpo(lambda said, gold, row: seen.append(gold) or len(said), group=2), **SETTINGS)
    assert set(seen) == {""}
    with pytest.raises(MascError, match=r"row 1 has no column `answer`, which grpo\(reward = exact.* compares with"):
        train(program, bare, objective=Grpo("exact"), **SETTINGS)


def test_a_program_is_trained_as_its_file_says(tiny: Path) -> None:
    entry = "train { objective grpo(reward = exact, group = 2, kl = 0) steps 1 batch 2 }"
    program = make_program(f"{TEXT}\n{entry}", tiny)
    assert "reward" in train(program, ROWS)[0]
    assert "reward" not in train(program, ROWS, objective=Supervised())[0]
    with pytest.raises(TypeError, match="a reward is `reward`"):
        masc.train(program, ROWS, objective="supervised")


def test_a_reward_is_a_number(tiny: Path) -> None:
    with pytest.raises(MascError, match="gave 'nan' for row"):
        train(make_program(TEXT, tiny), ROWS, objective=Grpo(lambda said, gold, row: float("nan")), **SETTINGS)
    with pytest.raises(MascError, match="runs what a model wrote"):
        Grpo("code")


def test_a_reward_that_is_not_earned_is_told(tiny: Path) -> None:
    """Once, after some steps; not where some answer differs from another, and not of a later stretch."""
    told: list[str] = []

    def run(reward: Any) -> None:
        told.clear()
        objective = Grpo(reward, group=2, kl=0.0)
        train(
            make_program(chain(("a", 0, "norm")), tiny),
            ROWS,
            steps=grpo.PATIENCE + 1,
            batch=1,
            rate=1e-12,
            objective=objective,
            tell=lambda diagnostics: told.extend(one.code for one in diagnostics),
        )

    run(lambda said, gold, row: 0.0)
    assert told == ["W0606"]
    counted: list[int] = []
    run(lambda said, gold, row: counted.append(1) or float(len(counted) == 2 * grpo.PATIENCE))
    assert told == []
