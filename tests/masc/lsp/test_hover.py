"""What is shown under the pointer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from editor import MAIN, ROLES, Desk, cursor, desk
from folders import fill
from masc.lsp.hover import hover

CONFIG = {
    "model_type": "llama",
    "vocab_size": 260,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}


def shown(at: Desk) -> str:
    found = hover(at.index, at.compile, at.path, at.offset)
    assert found is not None
    return found.text


def local(text: str, folder: Path, **changes: object) -> str:
    """The text with the model on disk, as far as the compiler looks at it."""
    (folder / "m").mkdir(exist_ok=True)
    (folder / "m" / "config.json").write_text(json.dumps(CONFIG | changes))
    fill(folder / "m")
    return text.replace("no-one/not-on-disk", "./m")


def test_an_agent_with_what_it_sees(tmp_path: Path) -> None:
    text = shown(desk(tmp_path, cursor(MAIN, "critic -> solver")))
    assert "**agent `critic`** on `small`" in text
    assert "You doubt 🙂 {tutor}" in text
    assert "Thinks 3 latent steps (`align = ridge`)" in text
    assert "the words of `tutor#1`" in text
    assert "- `critic#1`: the words of `tutor#1`\n" in text
    assert "- `critic#2`: `solver#1.latents`, the words of `tutor#1`" in text
    assert "known once the model is on disk" in text


def test_trained_parameters_are_counted(tmp_path: Path) -> None:
    main, roles = local(MAIN, tmp_path), local(ROLES, tmp_path)
    text = shown(desk(tmp_path, cursor(main, "solver on"), roles=roles))
    # Per layer: q 32+32, k and v 32+16 each, o 32+32, gate and up 32+48 each, down 48+32; rank 16, 3 layers.
    assert f"Trains {3 * 16 * (64 + 48 + 48 + 64 + 80 + 80 + 80):,} parameters" in text


def test_what_no_loss_reaches_is_said(tmp_path: Path) -> None:
    main = local(MAIN, tmp_path).replace("train {\n  answer <- solution\n  batch 4\n}\n", "")
    text = shown(desk(tmp_path, cursor(main, "tutor on"), roles=local(ROLES, tmp_path)))
    assert "No loss reaches it." in text


def test_a_prompts_length_is_an_estimate_without_a_tokenizer(tmp_path: Path) -> None:
    text = shown(desk(tmp_path, cursor(MAIN, "tutor on")))
    assert "about 1 token (an estimate: four characters each), without `question`" in text


def test_a_prompts_length_is_counted_with_a_tokenizer(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    main = local(MAIN, tmp_path).replace('user "🙂🙂 {question}"', 'user "one two three {question}"')
    tokenizer = Tokenizer(models.WordLevel({"one": 0, "two": 1, "three": 2, "?": 3}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(tmp_path / "m" / "tokenizer.json"))
    assert "Prompt: 3 tokens" in shown(desk(tmp_path, cursor(main, "tutor on"), roles=local(ROLES, tmp_path)))


def test_a_template_keeps_its_fields_and_an_instance_has_its_text(tmp_path: Path) -> None:
    template = shown(desk(tmp_path, cursor(MAIN, 'expert("')))
    assert "**template `expert(field: text)`**" in template
    assert "You know {field}. {question}" in template
    instance = shown(desk(tmp_path, cursor(MAIN, "maths ->")))
    assert "You know mathematics. {question}" in instance


def test_an_agent_of_a_library_is_shown_as_its_program_has_it(tmp_path: Path) -> None:
    assert "the words of `tutor#1`" in shown(desk(tmp_path, roles=cursor(ROLES, "critic on")))
    alone = shown(desk(tmp_path, main="mas 1\n", roles=cursor(ROLES, "critic on")))
    assert "**agent `critic`**" in alone
    assert "Sees" not in alone


def test_an_agent_is_shown_while_the_program_has_errors(tmp_path: Path) -> None:
    main = MAIN.replace("tutor -> critic : text", "tutr -> critic : text")
    text = shown(desk(tmp_path, cursor(main, "solver on")))
    assert "{question}" in text
    assert "known once the program has no errors" in text


@pytest.mark.parametrize(
    ("before", "says"),
    [
        ("small = ", "not on disk"),
        ("depth)", "int = `3`"),
        ("question) ->", "Read by `tutor`, `solver`, `expert`, `critic`."),
        ("answer {", "given by `solver`"),
        ("answer <-", "Supervised by the data column `solution`"),
        ("solution", "**column `solution`** of the data: what `answer` is to say"),
        ("relay(", "6 activations of 4 agents"),
        ("kv(carry = own", "Keys and values"),
        ("carry = own", "`trace`, `own` or `latents`"),
        ("own,", "Which segments pass"),
        ("open =", "first steps of training"),
        ("repeat", "Rounds"),
        ("batch", "Samples in a forward pass"),
        ("agent tutor", "A role on a base model"),
        ("max_tokens", "The most tokens"),
        ("import", "of another file"),
        ("answer (max", "decodes text"),
    ],
)
def test_words_and_names(tmp_path: Path, before: str, says: str) -> None:
    assert says in shown(desk(tmp_path, cursor(MAIN, before)))


def test_a_field_a_type_and_a_model_on_disk(tmp_path: Path) -> None:
    assert "of the template `expert`" in shown(desk(tmp_path, roles=cursor(ROLES, "field}")))
    assert "text in quotes" in shown(desk(tmp_path, roles=cursor(ROLES, "text)")))
    at = desk(tmp_path, cursor(local(MAIN, tmp_path), "small = "))
    assert "llama, 3 layers, 32 wide, 4 heads over 2" in shown(at)


def test_a_links_size_is_shown(tmp_path: Path) -> None:
    main = local(MAIN, tmp_path).replace("tutor -> critic : text", "maths -> critic : hidden")
    roles = local(ROLES, tmp_path).replace(" {tutor}", "")
    text = shown(desk(tmp_path, cursor(main, "hidden"), roles=roles))
    assert "`maths -> critic` trains 1,024 parameters" in text


def test_nothing_is_shown_of_nothing(tmp_path: Path) -> None:
    at = desk(tmp_path, cursor(MAIN, "{\n  maths"))
    assert hover(at.index, at.compile, at.path, at.offset) is None


def test_costs_are_told(tmp_path: Path) -> None:
    """Of an agent, of an edge and of the graph, as far as the model is known."""
    main, roles = local(MAIN, tmp_path), local(ROLES, tmp_path)
    agent = shown(desk(tmp_path, cursor(main, "solver on"), roles=roles))
    assert "With inputs of 128 tokens, a row runs" in agent
    assert "kept for the backward pass" in agent
    graph = next(word for word in main.split("graph ")[1].split("(") if word)
    assert "to run 16 rows" in shown(desk(tmp_path, cursor(main, f"{graph}("), roles=roles))
    assert "With inputs" not in shown(desk(tmp_path, cursor(MAIN, "critic -> solver")))


@pytest.mark.parametrize(
    ("channel", "crossing"),
    [
        ("kv(carry = latents)", "keys and values of 3 positions (576 B) cross from `a` to `b`"),
        ("hidden(carry = latents)", "3 hidden states cross from `a` to `b`"),
        ("text", "up to 9 tokens cross from `a` to `b`"),
        ("fuse", "keys and values of up to"),
    ],
)
def test_what_crosses_is_counted(channel: str, crossing: str, tmp_path: Path) -> None:
    text = """mas 1
model m = "no-one/not-on-disk"
agent a on m { user "{q}" think 3 answer (max_tokens = 9) }
agent b on m { user "{q}!" answer }
graph g(q) -> answer { a -> b : CHANNEL  b -> answer }
"""
    at = cursor(local(text, tmp_path).replace("CHANNEL", channel), channel)
    assert crossing in shown(desk(tmp_path, at))
