"""A model that no longer computes numbers is said to be one, wherever something is decoded or scored."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from masc.backends.torch.evaluation.evaluate import answer_losses, evaluate
from masc.backends.torch.evaluation.report import report_rows
from masc.backends.torch.evaluation.stability import agreement
from masc.backends.torch.probing.audit import audit
from masc.backends.torch.training.train import train
from masc.dsl.diagnostics import MascError
from masc.studies.auditing import to_json
from support import ROWS, chain, make_program

TEAM = chain(("a", 1, "norm"), ("b", 0, "norm"))


def refused(call: Any) -> str:
    with pytest.raises(MascError) as raised:
        call()
    (found,) = raised.value.diagnostics
    assert found.code == "E0701"
    return found.message + (found.hint or "")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["model.norm.weight", "lm_head.weight"])
def test_wherever_something_is_decoded_or_scored(number: float, where: str, tiny: Path) -> None:
    program = make_program(TEAM, tiny)
    weight = dict(program.base("a").model.named_parameters())[where].data
    if weight.dim() == 2:
        weight[0] = number  # a whole row: of one weight that is inf a logit may be -inf, which a masked token has too
    else:
        weight[3] = number
    agent = "`a`" if "norm" in where else "`b`"  # the first one that computes something with it
    said = refused(lambda: program.generate(ROWS))
    assert f"agent {agent}" in said
    assert " for row " in said
    for call in (
        lambda: program.generate(ROWS, temperature=0.7),
        lambda: list(program.generate(ROWS[:1], stream=True)),
        lambda: program.trace(ROWS),
        lambda: evaluate(program, ROWS),
        lambda: answer_losses(program, ROWS, 2, ["answer"]),
        lambda: agreement(program, ROWS, "exact", samples=2),
    ):
        assert "base model" in refused(call)


def with_logits(program: Any, number: float, where: Any = 200) -> Any:
    """The same program; all that its models compute has a logit of `number` at `where`."""
    for agent in program.plan.agents:
        base = program.base(agent.name)
        plain = base.logits

        def changed(hidden: Any, plain: Any = plain) -> Any:
            logits = plain(hidden).clone()
            logits[..., where] = number
            return logits

        base.logits = changed
    return program


def test_a_token_that_cannot_be_said_is_no_fault(tiny: Path) -> None:
    """Of a vocabulary part may be masked (-inf): everything is computed as without those tokens."""
    masked = with_logits(make_program(TEAM, tiny), float("-inf"))
    assert masked.generate(ROWS) == with_logits(make_program(TEAM, tiny), -1e4).generate(ROWS)
    assert len(masked.generate(ROWS, temperature=0.7)) == len(ROWS)
    report, _ = evaluate(masked, ROWS)
    assert 1 < report.gold_perplexity < 1e6
    assert agreement(masked, ROWS, "exact", samples=2)


def test_a_gold_answer_that_cannot_be_said_is_infinitely_unlikely(tiny: Path) -> None:
    """That is no fault of the model: it is counted, and told as what it is."""
    program = make_program(TEAM, tiny)
    token = program.base("b").tokenizer(ROWS[0]["answer"], add_special_tokens=False).input_ids[0]
    masked = with_logits(program, float("-inf"), token)
    report, _ = evaluate(masked, ROWS)
    assert report.gold_perplexity == math.inf
    assert report.json()["gold_perplexity"] is None
    assert ("gold perplexity", "infinite") in report_rows(report)
    losses = [loss for loss, _ in answer_losses(masked, ROWS, 2, ["answer"])]
    assert losses[0] == math.inf
    edges = [("a", "b", ("kv",), masked.plan)]
    audited = audit(masked, edges, ROWS, watched=1)
    assert audited.log_likelihood == -math.inf
    assert audited.edges[0].carries == 0.0
    assert json.loads(to_json(audited, {}))["log_likelihood"] is None
    assert "loss inf" in refused(lambda: train(masked, ROWS, steps=1, batch=len(ROWS)))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_one_logit_that_is_no_number_is_enough(number: float, tiny: Path) -> None:
    for where in (3, 200):
        program = with_logits(make_program(TEAM, tiny), number, where)
        for call in (lambda p=program: p.generate(ROWS), lambda p=program: answer_losses(p, ROWS, 2, ["answer"])):
            assert "not numbers" in refused(call)


def test_a_vocabulary_that_is_masked_whole_is_a_fault(tiny: Path) -> None:
    program = with_logits(make_program(TEAM, tiny), float("-inf"), slice(None))
    assert "not numbers" in refused(lambda: program.generate(ROWS))
    assert "not numbers" in refused(lambda: evaluate(program, ROWS))


def test_the_row_is_named(tiny: Path) -> None:
    program = make_program(chain(("a", 0, "norm"), ("b", 0, "norm")), tiny)
    rows = [*ROWS[:2], {"q": "~", "answer": "y"}]
    token = program.base("a").tokenizer("~", add_special_tokens=False).input_ids[0]
    program.base("a").model.get_input_embeddings().weight.data[token] = float("nan")
    assert "row 3" in refused(lambda: program.generate(rows))
    assert "row 3" in refused(lambda: evaluate(program, rows, batch=1))


def test_an_adapter_that_has_diverged(tiny: Path) -> None:
    program = make_program(TEAM, tiny)
    next(p for name, p in program.trainable().items() if ".lora_B.b." in name).data[0, 0] = float("inf")
    assert "agent `b`" in refused(lambda: program.generate(ROWS))


def test_training_suspects_the_model_at_its_first_step(tiny: Path, tmp_path: Path) -> None:
    program = make_program(TEAM, tiny)
    program.base("a").model.model.norm.weight.data[3] = float("nan")
    said = refused(lambda: train(program, ROWS, steps=2, batch=1, directory=tmp_path))
    assert "base model" in said
    assert "--resume" not in said


def test_training_that_diverges_before_a_checkpoint_is_not_gone_on_with(tiny: Path, tmp_path: Path) -> None:
    program = make_program(TEAM, tiny)

    def spoil(_: Any) -> None:
        for parameter in program.trainable().values():
            parameter.data.fill_(float("nan"))

    said = refused(lambda: train(program, ROWS, steps=3, batch=1, save_every=2, directory=tmp_path, listen=spoil))
    assert "step 2" in said
    assert "--resume" not in said
