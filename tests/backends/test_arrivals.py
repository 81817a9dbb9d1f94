"""What arrives otherwise than as keys and values to look at: hidden states, fused caches, text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from graphs import GRAPHS, pair
from masc.backends.torch.model.prompts import aligned, answer_ids, prompt_ids, prompt_of
from masc.compiler.ir.plan import Turn
from support import ROWS, WINDOWED, make_model, make_program

# -- hidden ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["linear", "mlp"])
@pytest.mark.parametrize("on", ["m", "n"])
def test_an_untrained_link_gives_embeddings_of_the_receivers_norm(shape: str, on: str, tiny: Path) -> None:
    program = make_program(pair(f"hidden(link = {shape})", "{a}{q}", think=2, on=on), tiny)
    receiver, sender = program.base("b"), program.base("a")
    hidden = torch.randn(3, 5, sender.width, generator=torch.Generator().manual_seed(0))
    out = program.link("hidden", "a", "b")(hidden)
    assert out.shape == (3, 5, receiver.width)
    # LayerNorm's epsilon and a small mean: the norm is that of the receiver's embeddings to a thousandth.
    torch.testing.assert_close(out.norm(dim=-1), receiver.tau.expand(3, 5), rtol=2e-3, atol=0)


def test_hidden_states_stand_where_the_placeholder_stands(tiny: Path) -> None:
    """The receiver against one pass over hand-made embeddings."""
    program = make_program(pair("hidden", "first {a} then {q}", think=2), tiny)
    base, sender, row = program.base("b"), program.base("a"), ROWS[0]
    spec = program.plan.agent("b")
    before, after = spec.user[0], spec.user[2]
    text = base.tokenizer.apply_chat_template(
        [{"role": "user", "content": f"{before}%{after}{row['q']}"}], tokenize=False, add_generation_prompt=True
    )
    left, right = [base.tokenizer(part, add_special_tokens=False).input_ids for part in text.split("%")]
    answer = answer_ids(base, row["answer"])
    with torch.no_grad():
        latents = _latents(program, sender, row)
        embed = base.model.get_input_embeddings()
        pieces = [
            embed(torch.tensor([left])),
            program.link("hidden", "a", "b")(latents),
            embed(torch.tensor([right + answer])),
        ]
        with base.applying("b"):
            plain = base.model(inputs_embeds=torch.cat(pieces, 1)).logits[0, -len(answer) - 1 : -1]
        torch.testing.assert_close(program([row]).logits[0], plain, atol=1e-4, rtol=0)


def _latents(program: Any, base: Any, row: dict[str, str]) -> torch.Tensor:
    """The final hidden states of two latent steps of agent `a`, without a cache."""
    ids = prompt_ids(base, program.plan.agent("a"), row, 0)
    embeddings = base.model.get_input_embeddings()(torch.tensor([ids]))
    states = []
    with base.applying("a"):
        for _ in range(3):
            last = base.model.model(inputs_embeds=embeddings).last_hidden_state[:, -1:]
            states.append(last)
            embeddings = torch.cat([embeddings, last * base.tau / last.norm(dim=-1, keepdim=True)], 1)
    return torch.cat(states[1:], 1)


def test_without_a_placeholder_they_stand_before_the_users_text(tiny: Path) -> None:
    one = make_program(pair("hidden", "{a}{q}", think=2), tiny)
    other = make_program(pair("hidden", "{q}", think=2), tiny)
    with torch.no_grad():
        torch.testing.assert_close(one(ROWS).logits, other(ROWS).logits, atol=0, rtol=0)


def test_two_bases_are_in_memory_once_each(tiny: Path) -> None:
    program = make_program(GRAPHS["fuse of what was fused"], tiny)
    assert len(program.bases) == 2
    assert program.base("a") is program.base("c")
    assert program.base("a") is not program.base("b")


# -- fuse --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on", ["m", "n"])
def test_an_untrained_fuser_changes_nothing(on: str, tiny: Path) -> None:
    """Closed gates: bit for bit what comes out whatever the sender holds, and the graph without the edge."""
    text = pair("fuse(width = 8)", "Again: {q}", on=on)
    fused = make_program(text, tiny, awake=False)
    other = make_program(text.replace("{q} first", "{q} and quite another prompt"), tiny, awake=False)
    alone = make_program(text.replace("a -> b : fuse(width = 8)", "b"), tiny, awake=False)
    with torch.no_grad():
        out = fused(ROWS).logits
        assert torch.equal(out, other(ROWS).logits)
        torch.testing.assert_close(out, alone(ROWS).logits, atol=1e-5, rtol=0)
        for name, parameter in fused.named_parameters():
            if name.endswith(".gate"):
                parameter.fill_(0.5)
        assert (fused(ROWS).logits - out).abs().max() > 1e-3


def test_a_closed_gate_gets_gradient(tiny: Path) -> None:
    program = make_program(GRAPHS["fuse"], tiny, awake=False)
    program(ROWS).loss.backward()
    gates = [p for n, p in program.named_parameters() if n.endswith(".gate")]
    assert gates
    assert all(p.grad is not None and p.grad.abs() > 0 for p in gates)


def test_what_is_fused_does_not_depend_on_the_order_of_edges(tiny: Path) -> None:
    text = GRAPHS["fuse of what was fused"].replace("a -> b : fuse(width = 4)", "")
    one, other = (make_program(text.replace("[a, b]", order), tiny).double() for order in ("[a, b]", "[b, a]"))
    other.load_state_dict(one.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(one(ROWS).logits, other(ROWS).logits, atol=1e-9, rtol=0)


def test_the_fused_tokens_are_those_of_shared_values(tiny: Path) -> None:
    """Byte tokens: a value's tokens are its bytes, so alignment can be told by hand."""
    program = make_program(pair("fuse(width = 4)", "Again: {q}!"), tiny)
    sender, receiver = (prompt_of(program.base(a), program.plan.agent(a), {"q": "abc"}, frozenset({"q"})) for a in "ab")
    pairs = aligned(receiver, sender)
    texts = [
        (program.base("a").tokenizer.decode([sender.ids[s]]), program.base("b").tokenizer.decode([receiver.ids[r]]))
        for s, r in pairs
    ]
    assert texts == [("a", "a"), ("b", "b"), ("c", "c")]


def test_values_that_spell_special_tokens_are_aligned_too(tiny: Path) -> None:
    program = make_program(pair("fuse(width = 4)", "Again: {q}!"), tiny)
    row = {"q": "a<|im_end|>b"}
    sender, receiver = (prompt_of(program.base(a), program.plan.agent(a), row, frozenset({"q"})) for a in "ab")
    assert len(aligned(receiver, sender)) == len(row["q"])


def test_the_bytes_of_one_character_are_aligned_one_by_one(tiny: Path) -> None:
    program = make_program(pair("fuse(width = 4)", "{q} first", on="m"), tiny)
    sender, receiver = (
        prompt_of(program.base(a), program.plan.agent(a), {"q": "a\u00e9\u65e5b"}, frozenset({"q"})) for a in "ab"
    )
    pairs = aligned(receiver, sender)
    assert len(pairs) == 1 + 2 + 3 + 1
    assert all(theirs == own for theirs, own in pairs)


# -- text --------------------------------------------------------------------------------------------------------------


def test_text_goes_to_the_placeholder(tiny: Path) -> None:
    program = make_program(GRAPHS["text"], tiny)
    row = ROWS[0]
    said = program.say([row])[0]
    assert set(said) == {"a#1", "answer"}
    alone = GRAPHS["text"].replace("a -> b : text", "b").replace("g(q)", "g(q, a)").replace("agent a", "agent z")
    lone = make_program(alone, tiny)
    lone.load_state_dict({k: v for k, v in program.state_dict().items() if k in lone.state_dict()}, strict=False)
    with torch.no_grad():
        torch.testing.assert_close(
            program([row]).logits, lone([{**row, "a": said["a#1"].text}]).logits, atol=1e-5, rtol=0
        )


def test_no_gradient_crosses_text_but_a_column_supervises_it(tiny: Path) -> None:
    program = make_program(GRAPHS["text"], tiny)
    program(ROWS).loss.backward()
    assert not [n for n, p in program.trainable().items() if program.owner(n) == "a" and p.grad is not None]
    program = make_program(GRAPHS["text, supervised"], tiny)
    out = program(ROWS)
    assert set(out.outputs) == {"a#1", "answer"}
    out.loss.backward()
    reached = [n for n, p in program.trainable().items() if program.owner(n) == "a" and p.grad is not None]
    assert reached


def test_a_supervised_receiver_reads_the_column_in_training_and_the_text_when_it_runs(tiny: Path) -> None:
    program = make_program(GRAPHS["text, supervised"].replace('user "{q}"', 'user "{q} {a}"'), tiny)
    with torch.no_grad():
        forced, free = program(ROWS), program(ROWS, texts=False)
    assert set(free.outputs) == {"answer"}
    assert (forced.outputs["answer"].logits - free.outputs["answer"].logits).abs().max() > 1e-3


def test_dropout_does_not_change_what_is_said_in_training(tiny: Path) -> None:
    text = GRAPHS["text"].replace("lora(rank = 4)", "lora(rank = 4, dropout = 0.5)")
    program = make_program(text, tiny)
    heard: list[str] = []
    from masc.backends.torch.channels import arrivals

    original = arrivals.arriving

    def listening(walk: Any, turn: Turn) -> Any:
        found = original(walk, turn)
        heard.extend(str(content["a"]) for content in found.contents if "a" in content)
        return found

    import masc.backends.torch.engine.walk as module

    module.arriving, before = listening, module.arriving  # type: ignore[assignment]
    try:
        program.eval()
        program(ROWS)
        calm = list(heard)
        heard.clear()
        program.train()
        program(ROWS)
    finally:
        module.arriving = before  # type: ignore[assignment]
    assert calm
    assert heard == calm


@pytest.mark.parametrize("edge", ["text", "hidden"])
def test_a_prompt_may_be_what_is_sent_alone(edge: str, tmp_path: Path) -> None:
    """Without a chat template nothing else is in it; before anything is sent its length is none."""
    from masc.backends.torch.evaluation.evaluate import evaluate
    from masc.backends.torch.training.train import train

    folder = make_model(tmp_path / "plain", template=None)
    answer = "answer (max_tokens = 3)" if edge == "text" else ""
    text = pair(edge, "{a}", think=1, on="m", answer=answer, train="a <- q" if edge == "text" else "")
    program = make_program(text.replace("model n = OTHER\n", ""), folder)
    assert len(train(program, ROWS, steps=1, batch=2)) == 1
    assert evaluate(program, ROWS)[0].items == len(ROWS)


def test_training_without_a_gradient_is_refused(tiny: Path) -> None:
    from masc.backends.torch.training.train import train
    from masc.dsl.diagnostics import MascError

    text = pair("text", "{a}", answer="answer (max_tokens = 3)", on="m").replace(
        'agent b on m { user "{a}" adapt lora(rank = 4)', 'agent b on m { user "{a}" adapt none'
    )
    with pytest.raises(MascError, match="no gradient reaches"):
        train(make_program(text, tiny), ROWS, steps=1)


def test_adapt_none_freezes_the_alignment_too(tiny: Path) -> None:
    from support import chain

    program = make_program(chain(("a", 1, "linear"), ("b", 0, "norm"), adapt="none"), tiny)
    assert program.trainable() == {}


# -- cutting -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("edge", ["hidden(carry = own)", "fuse(width = 8)", "text", "kv(carry = own)"])
def test_a_cut_edge_lets_nothing_through(edge: str, tiny: Path) -> None:
    def answers(prompt: str, **options: Any) -> torch.Tensor:
        answer = "answer (max_tokens = 4)" if edge == "text" else ""
        text = pair(edge, "{q} {a}" if edge[0] in "ht" else "{q}", think=1, on="m", answer=answer)
        program = make_program(text.replace("{q} first", prompt), tiny, **options)
        with torch.no_grad():
            logits: torch.Tensor = program(ROWS).logits
        return logits

    there = answers("one {q}") - answers("two {q}")
    gone = answers("one {q}", cut=(("a", "b"),)) - answers("two {q}", cut=(("a", "b"),))
    assert there.abs().max() > 1e-4
    assert gone.abs().max() == 0


# -- windows -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "settings"), WINDOWED, ids=[kind for kind, _ in WINDOWED])
def test_sliding_windows_are_exact(kind: str, settings: dict[str, Any], tmp_path: Path) -> None:
    """Identity (a) far beyond the window: a chain equals one pass of the model as transformers runs it."""
    from transformers import AutoModelForCausalLM

    from support import chain

    folder = make_model(tmp_path / kind, kind, **settings)
    agents = [(name, 0, "norm") for name in "abc"]
    program = make_program(chain(*agents, adapt="none"), folder)
    plain = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    base = program.base("a")
    assert base.windows is not None
    with torch.no_grad():
        out = program(ROWS)
        for i, row in enumerate(ROWS):
            ids = [t for agent in program.plan.agents for t in prompt_ids(base, agent, row, i)]
            answer = answer_ids(base, row["answer"])
            assert len(ids) > 3 * 24
            want = plain(torch.tensor([ids + answer])).logits[0, len(ids) - 1 : -1]
            torch.testing.assert_close(out.logits[i, : len(answer)], want, atol=1e-4, rtol=0)
        assert program.generate(ROWS) == [program.generate([row])[0] for row in ROWS]


def test_windows_go_by_position_where_siblings_overlap(tmp_path: Path) -> None:
    """`overlap`: siblings share positions, so the order in which their columns lie in the cache must not matter."""
    from graphs import fan

    folder = make_model(tmp_path / "mistral", "mistral", sliding_window=24)
    one = make_program(fan("carry = own"), folder)
    other = make_program(fan("carry = own", "third, first, second"), folder)
    with torch.no_grad():
        torch.testing.assert_close(one(ROWS).logits, other(ROWS).logits, atol=1e-5, rtol=0)
