"""Log-probabilities of answers that are given as token ids."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from graphs import GRAPHS, graph_program
from masc.backends.torch.model.prompts import answer_ids
from support import ROWS, make_program


@pytest.mark.parametrize("name", ["trace", "rounds", "text", "fuse of what was fused"])
def test_it_is_the_loss_of_the_same_text(name: str, tiny: Path) -> None:
    program = graph_program(name, tiny)
    base = program.base(next(t for t in program.plan.answering if t.said == "answer").agent)
    ids = [answer_ids(base, row["answer"]) for row in ROWS]
    with torch.no_grad():
        out, found = program(ROWS), program.score([{"q": row["q"]} for row in ROWS], ids)
    torch.testing.assert_close(-found, out.outputs["answer"].losses)
    assert [int(n) for n in (found != 0).sum(1)] == list(map(len, ids))


@pytest.mark.parametrize("name", ["trace", "hidden between two models", "text beside keys and values"])
def test_it_is_what_decoding_gave(name: str, tiny: Path) -> None:
    program = graph_program(name, tiny)
    said = program.say(ROWS)
    given = {what: [one[what].tokens for one in said] for what in said[0]}
    with torch.no_grad():
        found = program.score(ROWS, given)
    for line, one in zip(found.tolist(), said, strict=True):
        assert line[: len(one["answer"].scores)] == pytest.approx(one["answer"].scores, abs=1e-4)


def test_an_answer_that_ended_is_scored_with_its_end(tiny: Path) -> None:
    """A bias of the head that makes the end likely: some answers end by themselves, others are cut."""
    program = make_program(GRAPHS["no latents"].replace("max_tokens = 6", "max_tokens = 3, temperature = 1"), tiny)
    model = program.base("c").model.get_output_embeddings()
    with torch.no_grad():
        model.weight[2] = model.weight.mean(0) + 3 * model.weight[100]
    said = [one["answer"] for one in program.say(ROWS * 6, range(24))]
    assert {one.end for one in said} == {None, 2}
    with torch.no_grad():
        found = program.score(ROWS * 6, [one.tokens for one in said])
    torch.testing.assert_close(found.sum(1), torch.tensor([one.logprob for one in said]), atol=1e-4, rtol=1e-4)


def test_channels_are_as_far_open_as_at_a_step(tiny: Path) -> None:
    """`score` has them closed; a pass of one's own says its step."""
    text = GRAPHS["trace"].replace(": kv", ": kv(carry = latents, open = 9)")
    program = make_program(text, tiny)
    ids = {"answer": [answer_ids(program.base("c"), row["answer"]) for row in ROWS]}
    with torch.no_grad():
        for step in (0, 20):
            told, given = program(ROWS, step=step), program(ROWS, step=step, answers=ids)
            torch.testing.assert_close(given.outputs["answer"].losses, told.outputs["answer"].losses)
        closed = program.score(ROWS, ids)
        torch.testing.assert_close(-closed, told.outputs["answer"].losses)
        assert not torch.allclose(-closed, program(ROWS, step=0).outputs["answer"].losses)


def test_its_gradient_reaches_every_agent(tiny: Path) -> None:
    program = make_program(GRAPHS["trace"], tiny)
    program.score(ROWS, [[5, 6], [7], [8, 9, 2], [2]]).sum().backward()
    reached = {program.owner(name) for name, p in program.trainable().items() if p.grad is not None and p.grad.any()}
    assert reached == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([[5]], "1 answers for 4 rows"),
        ([[5], [], [5], [5]], "answer 2 of `answer`"),
        ([[5], [5], [5], [10**6]], "answer 4 of `answer`"),
        ({"answer": [[5]] * 4, "x": [[5]] * 4}, "is called `x`"),
        ({}, "no token ids for `answer`"),
    ],
)
def test_what_is_no_answer_is_refused(given: object, says: str, tiny: Path) -> None:
    with pytest.raises(ValueError, match=says):
        graph_program("trace", tiny).score(ROWS, given)
