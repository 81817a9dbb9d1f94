"""Models whose layers keep states: rows of a batch stay alone, and states go along chains as a whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from families import MAKES, make_family

from masc.backends.torch.model.base import Base
from masc.backends.torch.model.prompts import answer_ids, prompt_ids
from masc.backends.torch.model.recurrent import Reader
from masc.backends.torch.probing.audit import audit
from masc.backends.torch.proving import identities
from masc.backends.torch.proving.identities import ROWS, apart, awake, batch, gradients, program_of
from masc.backends.torch.proving.plain import logits_of
from masc.dsl.diagnostics import MascError
from support import byte_tokenizer

ROUNDS = """\
mas 1
model m = "a/model"
agent planner on m { user "Plan. {q} {critic}" think 2 adapt lora(rank = 2, alpha = 4) }
agent critic on m { user "{q} {planner}" think 1 adapt lora(rank = 2, alpha = 4) answer (max_tokens = 3) }
agent solver on m { user "{q} {critic}" adapt lora(rank = 2, alpha = 4) answer (max_tokens = 5) }
graph proof(q) -> answer {
  repeat 2 { planner -> critic : hidden(carry = own)  critic -> planner : text }
  critic -> solver : text
  critic -> solver : kv
}
"""
TOLD = """\
mas 1
model m = "a/model"
agent first on m { user "Plan it. {q}" ADAPT answer (max_tokens = 4) }
agent last on m { user "{q} {first}" ADAPT answer (max_tokens = 4) }
graph proof(q) -> answer { first -> last : text  first -> last : kv(gradient = GRADIENT) }
train { first <- answer }
"""
LORA = "adapt lora(rank = 2, alpha = 4)"


def told(adapt: str, gradient: str = "full") -> str:
    return TOLD.replace("ADAPT", adapt).replace("GRADIENT", gradient)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return Base(make_family(tmp_path_factory.mktemp("qwen") / "m", "qwen3_5_text"), torch.float32)


@pytest.fixture
def short(tmp_path: Path) -> Base:
    return Base(make_family(tmp_path / "m", "lfm2"), torch.float32)


def test_a_batch_is_its_rows_through_rounds(base: Base) -> None:
    """Texts that agents say, hidden states and latent steps in rounds, and the state of who has answered twice."""
    assert batch(awake(program_of(base, ROUNDS)), ROWS[:2]) < 1e-4


def test_what_was_said_goes_along_with_the_state(short: Base) -> None:
    """An agent that answers, then one that goes on from there: one plain pass over all that both read and said."""
    program = program_of(short, told("adapt none"))
    with torch.no_grad():
        found = program(ROWS).outputs["answer"].logits
    for i, row in enumerate(ROWS):
        label = answer_ids(short, row["answer"])
        first, last = (prompt_ids(short, agent, {**row, "first": row["answer"]}, i) for agent in program.plan.agents)
        ids = [*first, *label, *last]
        assert apart(found[i, : len(label)], logits_of(short, ids + label)[len(ids) - 1 : -1]) < 1e-4
    assert batch(program, ROWS[:2]) < 1e-4


def test_gradients_go_through_states_unless_they_are_stopped(short: Base) -> None:
    """What is computed again gives the same; behind `gradient = stop` a sender gets what its own loss gives."""
    program = awake(program_of(short, told(LORA)))
    own = gradients(program)
    program.zero_grad()
    with torch.enable_grad():
        program(ROWS, recompute=True).loss.backward()
    again = {name: p.grad for name, p in program.trainable().items() if p.grad is not None}
    assert own.keys() == again.keys()
    assert max(apart(again[name], own[name]) for name in own) < 1e-5
    stopped = gradients(awake(program_of(short, told(LORA, "stop"))))
    firsts = [name for name in own if ".first." in name]
    assert any(apart(stopped[name], own[name]) > 1e-4 for name in firsts)
    assert all(apart(stopped[name], own[name]) < 1e-5 for name in own if ".last." in name)


def test_a_batch_is_evaluated_as_its_rows(short: Base) -> None:
    """Where adapters are applied as the fast engine has them: not to rows that are read in parts."""
    program = identities.adapted(short, "kv")
    with torch.no_grad(), program.holding(quick=True):
        whole, alone = program(ROWS[:2]).logits[0], program(ROWS[:1]).logits[0]
    assert apart(whole[: len(alone)], alone) < 1e-4


def test_rows_that_are_not_read_apart_are_noticed(short: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    program = identities.adapted(short, "hidden", "kv")
    with torch.no_grad():
        alone = program(ROWS[:1]).logits[0]
        assert apart(program(ROWS[:2]).logits[0, : len(alone)], alone) < 1e-4
        for way in ("_padded", "_apart"):
            monkeypatch.setattr(Reader, way, lambda self, *given: self.read(*given[:-1]))
        assert apart(program(ROWS[:2]).logits[0, : len(alone)], alone) > 1e-3


def test_layers_that_would_begin_anew_are_read_in_steps(short: Base) -> None:
    ids, place = torch.arange(1, 9)[None], torch.arange(8)[None]
    with torch.no_grad():
        whole = short.run(ids, place, None, short.cache(None))
        cache, mask = short.cache(None), torch.ones(1, 1, 8, 8, dtype=torch.bool).tril()
        short.run(ids[:, :3], place[:, :3], None, cache)
        short.reader._goes_on = False
        rest = short.run(ids[:, 3:], place[:, 3:], mask[:, :, 3:], cache)
    assert apart(rest, whole[:, 3:]) < 1e-4


def test_trying_finds_out_what_layers_do(short: Base) -> None:
    """Layers that forget their state in a pass of several columns, and such that padding goes into."""

    def forgetful(inputs: Any, positions: Any, mask: Any, cache: Any) -> torch.Tensor:
        for layer in cache.layers if inputs.shape[1] > 1 else ():
            if hasattr(layer, "conv_states"):
                layer.conv_states[0] = None
                layer.has_previous_state[0] = layer.is_conv_states_initialized[0] = False
        return short._run(inputs, positions, mask, cache)

    def heedless(inputs: Any, positions: Any, mask: Any, cache: Any) -> torch.Tensor:
        return short._run(inputs, positions, mask["full_attention"], cache)

    device = short.device
    assert short.reader.goes_on(device)
    assert short.reader.pads(device)
    assert not Reader(forgetful, short.config).goes_on(device)
    assert not Reader(heedless, short.config).pads(device)


def test_states_are_never_written_over(base: Base) -> None:
    """Two readers may begin with one state, in whatever order they read."""
    ids, place = torch.tensor([[5, 6, 7]]), torch.tensor([[0, 1, 2]])
    cache = base.cache(None)
    with torch.no_grad():
        base.run(ids, place, None, cache)
        held = cache.states  # type: ignore[attr-defined]
        before = [state.clone() for state in held]
        base.run(ids[:, :1], place[:, 2:] + 1, None, cache)
    assert all(torch.equal(one, other) for one, other in zip(held, before, strict=True))
    assert any(not torch.equal(one, new) for one, new in zip(held, cache.states, strict=True))  # type: ignore[attr-defined]


def test_steps_are_computed_by_torch_alone() -> None:
    """What transformers may have replaced by a fused kernel without a gradient."""
    from transformers.models.qwen3_5 import modeling_qwen3_5 as module

    assert not hasattr(module.causal_conv1d_update, "__wrapped__")
    assert not hasattr(module.torch_recurrent_gated_delta_rule, "__wrapped__")
    assert hasattr(module.torch_chunk_gated_delta_rule, "__wrapped__")


def test_what_crosses_as_a_state_is_not_audited(short: Base) -> None:
    program = program_of(short, told("adapt none"))
    cut = replace(program.plan, turns=tuple(replace(turn, sees=()) for turn in program.plan.turns))
    with pytest.raises(MascError, match="cannot be audited"):
        audit(program, [("first", "last", ("kv",), cut)], ROWS)


@pytest.mark.parametrize("kind", ["qwen3_5", "qwen3_5_moe"])
def test_the_text_model_of_one_that_also_sees(tmp_path: Path, kind: str) -> None:
    """As it is released: with what it sees with, and a head that predicts several tokens."""
    from safetensors.torch import load_file, save_file
    from transformers import AutoConfig, AutoModelForImageTextToText

    tokenizer = byte_tokenizer()
    text = {"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, **MAKES[f"{kind}_text"]}
    sight = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32}
    config = AutoConfig.for_model(kind, text_config=text, vision_config=sight)
    whole = AutoModelForImageTextToText.from_config(config, dtype=torch.float32).eval()
    whole.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file(weights | {"mtp.fc.weight": torch.zeros(2, 2)}, tmp_path / "model.safetensors", {"format": "pt"})
    loaded, ids = Base(tmp_path, torch.float32), [5, 6, 7, 8, 9]
    with torch.no_grad():
        assert apart(logits_of(loaded, ids), whole(input_ids=torch.tensor([ids])).logits[0]) < 1e-4
