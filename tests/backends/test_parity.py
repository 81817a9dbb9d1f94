"""Parity with hand-written code: the project's oracle where it is there, and identity (a) on smollm2-135m."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from masc.backends.torch.model.prompts import answer_ids, prompt_ids
from support import chain, make_program

ROOT = Path(__file__).resolve().parents[2]
ORACLE = ROOT.parent / "shared" / "reference" / "relay.py"
"""A relay that was written by hand, beside the checkout; it is not masc's to copy."""

RELAY = """
mas 1
model m = MODEL
agent planner on m { system "You plan before you compute."
  user "Question: {question}\\nWrite a short plan. Do not answer yet." think 10 adapt none }
agent critic on m { system "You check plans."
  user "Question: {question}\\nCheck the plan and point out what is wrong with it." think 10 adapt none }
agent refiner on m { system "You improve plans."
  user "Question: {question}\\nWrite the improved plan." think 10 adapt none }
agent solver on m { system "You solve problems."
  user "Question: {question}\\nEnd with the number alone." adapt none answer (max_tokens = 8) }
graph relay(question) -> answer { planner -> critic -> refiner -> solver : kv }
"""
ROW = {
    "question": "A box holds 12 eggs. Tom buys 3 boxes and breaks 5 eggs. How many eggs are whole?",
    "answer": "31",
}


def oracle() -> ModuleType:
    if not ORACLE.exists():
        pytest.skip(
            "masc is compared here with a program that others wrote by hand and that is no part of this repository: it "
            f"would be at ../{ORACLE.relative_to(ROOT.parent)}, and it is not."
        )
    spec = importlib.util.spec_from_file_location("relay_oracle", ORACLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compare_with_oracle(folder: Path, tolerance: float, steps: int) -> None:
    from transformers import AutoModelForCausalLM

    relay = oracle()
    program = make_program(RELAY.replace("think 10", f"think {steps}"), folder)
    base = program.base("planner")
    prompts = [relay.render(base.tokenizer, system, user.format(q=ROW["question"])) for _, system, user in relay.ROLES]
    for agent, prompt in zip(program.plan.agents, prompts, strict=True):
        assert prompt_ids(base, agent, ROW, 0) == prompt[0].tolist()
    answer = answer_ids(base, ROW["answer"])
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        want = relay.relay_logits(model, prompts, torch.tensor([answer]), steps=steps)
        got = program([ROW]).logits
        said = relay.relay_decode(model, prompts, steps=steps, tokens=8)[0].tolist()
    torch.testing.assert_close(got, want, atol=tolerance, rtol=0)
    mine = list(program.say([ROW])[0]["answer"].ids)
    assert mine == said[: len(mine)]


def test_ten_latent_steps_equal_the_oracle(tiny: Path) -> None:
    compare_with_oracle(tiny, 1e-4, 10)


@pytest.mark.model
def test_latent_steps_equal_the_oracle_on_smollm2(smollm2: Path) -> None:
    compare_with_oracle(smollm2, 2e-4, 4)


@pytest.mark.model
def test_a_and_b_on_smollm2(smollm2: Path) -> None:
    program = make_program(RELAY.replace("think 10", "think 0"), smollm2)
    base = program.base("planner")
    rows = [ROW, {"question": "What is two and two?", "answer": "4"}]
    with torch.no_grad():
        out = program(rows)
        for i, row in enumerate(rows):
            ids = [t for agent in program.plan.agents for t in prompt_ids(base, agent, row, i)]
            answer = answer_ids(base, row["answer"])
            plain = base.model(torch.tensor([ids + answer])).logits[0, len(ids) - 1 : -1]
            torch.testing.assert_close(out.logits[i, : len(answer)], plain, atol=2e-4, rtol=0)
            torch.testing.assert_close(out.logits[i, : len(answer)], program([row]).logits[0], atol=2e-4, rtol=0)


@pytest.mark.model
def test_batch_equals_singles_with_latents_on_smollm2(smollm2: Path) -> None:
    program = make_program(chain(("a", 4, "norm"), ("b", 0, "norm"), edge="kv(carry = latents)"), smollm2)
    rows = [{"q": "one", "answer": "red fox"}, {"q": "something longer than one", "answer": "a"}]
    with torch.no_grad():
        out = program(rows)
        for i, row in enumerate(rows):
            one = program([row]).logits[0]
            torch.testing.assert_close(out.logits[i, : len(one)], one, atol=2e-4, rtol=0)
