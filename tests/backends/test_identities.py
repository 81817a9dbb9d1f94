"""The exact identities (a), (b), (c), (e), and what each channel option means, on a tiny model."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from graphs import GRAPHS, fan
from masc.backends.torch.engine.outputs import Said
from masc.backends.torch.model.prompts import answer_ids, prompt_ids
from masc.compiler.language.alignments import ALIGNMENTS
from support import ROWS, chain, make_model, make_program

SOME = (0, 2)
"""Rows that are run alone: the shortest prompt, before which the most padding stands, and the longest answer."""


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3", "gemma", "olmo2"])
def test_a_no_latents_equals_one_pass_over_the_concatenated_prompts(kind: str, tmp_path: Path) -> None:
    folder = make_model(tmp_path / kind, kind)
    agents = [(name, 0, "norm") for name in "abcd"]
    program = make_program(chain(*agents, adapt="none"), folder)
    base = program.base("a")
    with torch.no_grad():
        out = program(ROWS)
        for i, row in enumerate(ROWS):
            ids = [t for agent in program.plan.agents for t in prompt_ids(base, agent, row, i)]
            answer = answer_ids(base, row["answer"])
            plain = base.model(torch.tensor([ids + answer])).logits[0, len(ids) - 1 : -1]
            torch.testing.assert_close(out.logits[i, : len(answer)], plain, atol=1e-4, rtol=0)


def dtype_of(name: str) -> str:
    """Several activations in a row of random models enlarge a rounding error up to ten thousand times (so does a change
    of the weights by 1e-7); by how much depends on the processor. float64 tells what is wrong from what is rounded."""
    return "float64" if "rounds" in name else "float32"


@cache
def wide(name: str, folder: Path) -> Any:
    """One of the graphs in float64, made once for all tests."""
    return make_program(GRAPHS[name], folder, dtype="float64").double()


@pytest.mark.parametrize("name", GRAPHS)
def test_b_a_batch_equals_batches_of_one(name: str, tiny: Path) -> None:
    check_batch(wide(name, tiny), 1e-8)


@pytest.mark.parametrize("name", ["trace", "own", "latents", "layers", "overlap", "stack"])
def test_b_a_batch_equals_batches_of_one_but_for_rounding(name: str, tiny: Path) -> None:
    check_batch(make_program(GRAPHS[name], tiny), 1e-4)


def check_batch(program: Any, tolerance: float) -> None:
    with torch.no_grad():
        whole = program(ROWS)
        for i in SOME:
            one = program([ROWS[i]])
            for output, scored in one.outputs.items():
                length = scored.labels.shape[1]
                assert torch.equal(whole.outputs[output].labels[i, :length], scored.labels[0])
                torch.testing.assert_close(
                    whole.outputs[output].logits[i, :length], scored.logits[0], atol=tolerance, rtol=0
                )


@pytest.mark.parametrize("name", GRAPHS)
def test_b_decoding_and_teacher_forcing_agree(name: str, tiny: Path) -> None:
    """A row says in a batch what it says alone; and read as a label, that has the log-probability that decoding gave
    it."""
    program = wide(name, tiny)
    outputs = program.plan.outputs
    whole = program.say(ROWS)
    assert all(said[output].scored >= len(said[output].ids) > 0 for said in whole for output in outputs)
    for i in SOME:
        (alone,) = program.say([ROWS[i]])
        for output in outputs:
            walked = alone[output]
            assert walked.ids == whole[i][output].ids
            assert walked.logprob == pytest.approx(whole[i][output].logprob, abs=1e-8)
        if len(outputs) == 1:  # else the label of the first would differ from what it decodes
            assert walked.logprob == pytest.approx(_log_probability(program, ROWS[i], walked), abs=1e-8)


def _log_probability(program: Any, row: dict[str, str], said: Said) -> float:
    """Teacher-force the tokens that were said (random bytes need not survive a round trip through text)."""
    import masc.backends.torch.engine.walk as module

    original = module.answer_ids
    module.answer_ids = lambda base, text: [*said.ids, base.end_of_turn]
    try:
        with torch.no_grad():
            out = program([row], texts=False)
    finally:
        module.answer_ids = original
    scores = torch.log_softmax(out.logits[0], -1).gather(1, out.labels[0].clamp_min(0)[:, None])[:, 0]
    return float(scores[: said.scored].sum())


@pytest.mark.parametrize("carry", ["trace", "own", "latents"])
def test_c_overlap_does_not_depend_on_the_order_of_siblings(carry: str, tiny: Path) -> None:
    one = make_program(fan(f"carry = {carry}"), tiny)
    other = make_program(fan(f"carry = {carry}", "third, first, second"), tiny)
    with torch.no_grad():
        torch.testing.assert_close(one(ROWS).logits, other(ROWS).logits, atol=1e-5, rtol=0)


def test_stack_does_depend_on_the_order(tiny: Path) -> None:
    one = make_program(fan("carry = own, merge = stack"), tiny)
    other = make_program(fan("carry = own, merge = stack", "third, first, second"), tiny)
    with torch.no_grad():
        assert (one(ROWS).logits - other(ROWS).logits).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["llama", "gemma", "qwen3", "olmo2"])
@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "default", "rope_theta": 10000.0},
        {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0},
        {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0, "original_max_position_embeddings": 512},
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 512,
            "rope_theta": 10000.0,
        },
    ],
    ids=lambda rope: rope["rope_type"],
)
def test_rotating_keys_equals_running_at_the_new_place(kind: str, rope: dict[str, float], tmp_path: Path) -> None:
    """Exact where the sibling saw nothing: its keys, moved, are those of a run that started later."""
    from masc.backends.torch.model.base import Base

    base = Base(make_model(tmp_path / kind, kind, rope_parameters=rope), torch.float32)
    ids = torch.randint(5, 90, (2, 7), generator=torch.Generator().manual_seed(0))
    offset = torch.tensor([11, 300])
    here, there = base.cache(None), base.cache(None)
    with torch.no_grad():
        base.run(ids, torch.arange(7).expand(2, 7), None, here)
        base.run(ids, torch.arange(7) + offset[:, None], None, there)
    for layer, (near, far) in enumerate(zip(here.layers, there.layers, strict=True)):
        torch.testing.assert_close(base.rotate(near.keys, offset, layer), far.keys, atol=1e-4, rtol=1e-4)
        each = offset[:, None].expand(2, 7)
        torch.testing.assert_close(base.rotate(near.keys, each, layer), far.keys, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(near.values, far.values, atol=1e-4, rtol=1e-4)


def test_stack_puts_siblings_end_to_end(tiny: Path) -> None:
    """Two siblings without latents, stacked: the second lies where it would had it been run at that place."""
    program = make_program(
        """
mas 1
model m = MODEL
agent one on m { user "{q}" adapt none }
agent two on m { user "{q}?" adapt none }
agent last on m { user "x" adapt none answer }
graph g(q) -> answer { [one, two] -> last : kv(carry = own, merge = stack) }
""",
        tiny,
    )
    row = ROWS[0]
    base = program.base("one")
    parts = [prompt_ids(base, agent, row, 0) for agent in program.plan.agents]
    answer = answer_ids(base, row["answer"])
    first, second = len(parts[0]), len(parts[1])
    ids = torch.tensor([parts[0] + parts[1] + parts[2] + answer])
    mask = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    mask[first : first + second, :first] = False  # siblings do not see each other
    with torch.no_grad():
        hidden = base.run(ids, torch.arange(ids.shape[1])[None], mask[None, None], base.cache(None))
        plain = base.logits(hidden)[0, -len(answer) - 1 : -1]
        torch.testing.assert_close(program([row]).logits[0], plain, atol=1e-4, rtol=0)


def test_carry_latents_and_layers_mask_exactly_what_they_say(tiny: Path) -> None:
    """The channel against one pass over everything with a hand-made mask for each layer."""
    text = chain(("a", 0, "norm"), ("b", 0, "norm"), adapt="none", edge="kv(layers = 1..1)")
    program = make_program(text, tiny)
    row, base = ROWS[2], program.base("a")
    parts = [prompt_ids(base, agent, row, 0) for agent in program.plan.agents]
    answer = answer_ids(base, row["answer"])
    ids = torch.tensor([[*parts[0], *parts[1], *answer]])
    causal = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    apart = causal.clone()
    apart[len(parts[0]) :, : len(parts[0])] = False
    mask = torch.stack([apart, causal, apart])[None]
    with torch.no_grad():
        hidden = base.run(ids, torch.arange(ids.shape[1])[None], mask, base.cache(None))
        plain = base.logits(hidden)[0, -len(answer) - 1 : -1]
        torch.testing.assert_close(program([row]).logits[0], plain, atol=1e-4, rtol=0)


def test_latents_are_fed_back_as_the_definition_says(tiny: Path) -> None:
    """Every way to align against its formula, step by step, one sample, no cache."""
    for how in ALIGNMENTS:
        program = make_program(chain(("a", 3, how), adapt="none"), tiny)
        base, row = program.base("a"), ROWS[0]
        model = base.model
        table = model.get_input_embeddings().weight.detach().double()
        out = model.get_output_embeddings().weight.detach().double()
        tau = table.norm(dim=1).mean()
        matrix = torch.eye(table.shape[1], dtype=torch.float64)
        if how in ("ridge", "linear"):
            matrix = torch.linalg.inv(out.T @ out + 1e-5 * torch.eye(out.shape[1])) @ out.T @ table
        if how == "procrustes":
            left, _, right = torch.linalg.svd(out.T @ table)
            matrix = left @ right
        ids = prompt_ids(base, program.plan.agents[0], row, 0)
        embeddings = table[ids][None].float()
        with torch.no_grad():
            for _ in range(3):
                h = model.model(inputs_embeds=embeddings).last_hidden_state[:, -1:].double() @ matrix
                e = (h @ out.T).softmax(-1) @ table if how == "soft" else h * tau / h.norm()
                embeddings = torch.cat([embeddings, e.float()], 1)
            answer = answer_ids(base, row["answer"])
            embeddings = torch.cat([embeddings, table[answer][None].float()], 1)
            plain = model(inputs_embeds=embeddings).logits[0, -len(answer) - 1 : -1]
            torch.testing.assert_close(program([row]).logits[0], plain, atol=2e-4, rtol=0)


def test_tau_is_of_what_the_embedding_module_returns(tmp_path: Path) -> None:
    """Gemma scales by sqrt(d) inside the module."""
    from masc.backends.torch.model.base import Base

    base = Base(make_model(tmp_path / "gemma", "gemma"), torch.float32)
    weight = base.model.get_input_embeddings().weight.detach()
    assert base.tau.item() == pytest.approx(weight.norm(dim=1).mean().item() * 32**0.5, rel=1e-5)


@pytest.mark.parametrize("kind", ["llama", "gemma"])
def test_a_soft_latent_of_a_sure_model_is_the_token(tmp_path: Path, kind: str) -> None:
    """All of the probability on one token: its embedding, as the module returns it."""
    from masc.backends.torch.model.align import embedding, embedding_table
    from masc.backends.torch.model.base import Base

    base = Base(make_model(tmp_path / kind, kind), torch.float32)
    module = base.model.get_input_embeddings()
    logits = torch.zeros(1, 1, module.weight.shape[0])
    logits[..., 7] = 1e3
    base.logits = lambda hidden: logits  # type: ignore[method-assign]
    token = embedding_table(module, 8)[7]
    torch.testing.assert_close(embedding(base, "soft")(torch.zeros(1, 1, 32))[0, 0], token, atol=1e-5, rtol=1e-5)


def test_zero_latents_still_pass_the_prompt(tiny: Path) -> None:
    program = make_program(chain(("a", 0, "norm"), ("b", 0, "norm")), tiny)
    alone = make_program(chain(("b", 0, "norm")).replace("{q}", "{q}!"), tiny)
    with torch.no_grad():
        assert (program(ROWS).logits - alone(ROWS).logits).abs().max() > 1e-2


def test_positions_past_the_maximum_are_an_error(tmp_path: Path) -> None:
    from masc.dsl.diagnostics import MascError

    folder = make_model(tmp_path / "short", max_position_embeddings=160)
    program = make_program(chain(("a", 2, "norm"), ("b", 0, "norm")), folder)
    program(ROWS[:1])
    with pytest.raises(MascError, match=r"row 2 needs \d+ positions by the end of agent `b`; there are 160"):
        program([ROWS[0], {"q": "long " * 12, "answer": "x"}])


@pytest.mark.parametrize(("kind", "layers"), [("llama", 2), ("llama", 24), ("gpt_oss", 12)])
def test_keys_of_a_deep_model_in_bfloat16_can_be_moved(kind: str, layers: int, tmp_path: Path) -> None:
    """What rounding does to the layers before must not look as if a layer's keys were rotated in some unknown way."""
    from families import make_family

    from masc.backends.torch.model.base import Base
    from masc.backends.torch.model.rotation import NEAR

    types = {"layer_types": ["full_attention"] * layers} if kind == "gpt_oss" else {}
    base = Base(make_family(tmp_path / "deep", kind, num_hidden_layers=layers, **types), torch.bfloat16)
    assert len(base.rotations) == layers
    assert all(rotation is not None and error < NEAR / 3 for rotation, error in base.rotations)
    assert not any(block._forward_pre_hooks for block in base.model.get_decoder().layers)


def test_other_threads_read_what_they_are_given(tmp_path: Path) -> None:
    """While one finds out how keys are rotated, others may use the model."""
    from concurrent.futures import ThreadPoolExecutor

    from masc.backends.torch.model.base import Base
    from masc.backends.torch.model.rotation import reading_the_same

    base = Base(make_model(tmp_path / "m"), torch.float32)
    first, second = torch.tensor([[1, 2, 3]]), torch.tensor([[4, 5, 6]])

    def states(ids: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return base.run(ids, torch.arange(3)[None], None, base.cache(None))

    alone = states(second)
    with reading_the_same(base.model.get_decoder().layers), ThreadPoolExecutor(1) as other:
        known = states(first)
        assert torch.equal(states(second), known)
        assert torch.equal(other.submit(states, second).result(), alone)
    assert torch.equal(states(second), alone)
