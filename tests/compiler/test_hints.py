"""What people write who come from elsewhere: one message, at the place, with a hint that says how it is written."""

from __future__ import annotations

import pytest

from masc.compiler.language.adapters import LORA
from masc.compiler.language.agents import ANSWER
from masc.compiler.language.other_names import meant
from masc.compiler.language.train import TRAIN
from masc.compiler.pipeline import compile_source
from masc.dsl.source import Source

TEAM = """\
mas 1
model small = "no-one/not-on-disk"
agent a on small {
  user "{question}"
  think 4
}
agent b on small {
  user "{question}"
  adapt lora(rank = 8)
  answer (max_tokens = 8)
}
graph g(question) -> answer {
  a -> b : kv(carry = latents, open = 10)
}
train {
  data "x.jsonl"
  steps 20
}
"""

# what is written, by whom it is meant, and a part of the hint
CASES = [
    ("agent a on small {", "agent a on smollm2-135m {", 'model small = "smollm2-135m"`, then `on small`'),
    ("agent a on small {", 'agent a on "smollm2-135m" {', "then `on small`"),
    ("agent a on small {", "agent a on Qwen/Qwen2.5-0.5B {", "then `on small`"),
    ("agent a on small {", "agent a {", "say on which model"),
    ('model small = "no-one/not-on-disk"', "model small = no-one/x", "in quotes"),
    ('model small = "no-one/not-on-disk"', 'model small: "no-one/x"', "a model is `model small ="),
    ("steps 20", "steps = 20", "`steps 20`"),
    ("steps 20", "steps: 20", "`steps 20`"),
    ("steps 20", "steps 20,", "`steps 20`"),
    ("steps 20", 'steps "20"', "write 20"),
    ("steps 20", "steps 2e2", "write 200"),
    ("steps 20", "lr 1e-3", "`rate`"),
    ("steps 20", "epochs 3", "an epoch has"),
    ("steps 20", "batch_size 8", "`batch`"),
    ("steps 20", "max_steps 20", "`steps`"),
    ("steps 20", "warmup_steps 10", "share of the steps"),
    ("steps 20", "warmup 10", "share of the steps"),
    ("steps 20", "save_steps 10", "`save_every`"),
    ("steps 20", "lora_alpha 10", "adapt lora(rank = 8, alpha = 16)"),
    ("steps 20", "dtype fp16", "`bfloat16`"),
    ("steps 20", "checkpoint true", "`agent`"),
    ("steps 20", "weight_decay 1,5", "a point"),
    ("steps 20", "solution -> answer", "`answer <- solution`"),
    ("(carry = latents, open = 10)", " carry = own", "in parentheses: `kv(carry = own"),
    ("(carry = latents, open = 10)", "{carry = own}", "in parentheses"),
    ("(carry = latents, open = 10)", "(carry: own)", "`name = value`"),
    ("(carry = latents, open = 10)", "(carry = latents; open = 10)", "commas"),
    ("(carry = latents, open = 10)", "(carry = latent, open = 10)", "`latents`"),
    ("(carry = latents, open = 10)", "(merge = concat)", "`stack`"),
    ("(carry = latents, open = 10)", "(gradient = none)", "`stop`"),
    ("(carry = latents, open = 10)", "(layers = 0-9)", "`0..9`"),
    ("(carry = latents, open = 10)", "(layers = [0, 9])", "`0..9`"),
    (": kv(", ": KV(", "`kv`"),
    (": kv(carry = latents, open = 10)", ": latents", "kv(carry = latents)"),
    (": kv(carry = latents, open = 10)", ": kv, text", "a line for each"),
    (": kv(carry = latents, open = 10)", ': "kv"', "without quotes"),
    ("a -> b", "a --> b", "`->`"),
    ("a -> b", "a => b", "`->`"),
    ("a -> b", "b <- a", "receiver"),
    ("a -> b", "a -> END", "outputs answer"),
    ("a -> b", "loop 3 { a -> b : kv }\n  a -> b", "`repeat 2 {"),
    ("a -> b", "repeat(3) { a -> b : text }\n  a -> b", "`repeat 2 {"),
    ("rank = 8", "r = 8", "`rank`"),
    ("rank = 8", "lora_alpha = 8", "`alpha`"),
    ("rank = 8", "target_modules = [q_proj]", "`targets`"),
    ("rank = 8", "targets = q_proj", "`[q_proj]`"),
    ("rank = 8", "targets = all-linear", "`targets = all`"),
    ("lora(rank = 8)", "lora rank = 8", "lora(rank = 8)"),
    ("lora(rank = 8)", "frozen", "`none`"),
    ("adapt lora(rank = 8)", "lora(rank = 8)", "adapt lora(rank = 8)"),
    ("adapt lora(rank = 8)", "temperature 0", "answer (max_tokens"),
    ("adapt lora(rank = 8)", 'prompt "x"', '`system "..."`'),
    ("max_tokens = 8", "max_new_tokens = 8", "`max_tokens`"),
    ("max_tokens = 8", "do_sample = true", "greedy"),
    ("max_tokens = 8", "top_k = 5", "`top_p` alone"),
    ("(max_tokens = 8)", "max_tokens = 8", "answer (max_tokens = 128)"),
    ("think 4", "think: 4", "`think 10`"),
    ("graph g(question) -> answer {", "graph g(question): answer {", "`graph name(question) -> answer"),
    ("graph g(question) -> answer {", "def g(question) -> answer {", "`graph name(question) -> answer"),
    ("mas 1\n", "mas: 1\n", "`mas`"),
    ("mas 1\n", 'mas 1\ninclude "r.mas"\n', 'import "roles.mas" ('),
    ("mas 1\n", "mas 1\nlet n = 3\n", "`param latents: int = 10`"),
]


@pytest.mark.parametrize(("old", "new", "hint"), CASES, ids=lambda text: text.strip())
def test_one_message_with_a_hint(old: str, new: str, hint: str) -> None:
    assert old in TEAM
    found = [d for d in compile_source(Source("x.mas", TEAM.replace(old, new, 1))).diagnostics if d.severity != "info"]
    assert len(found) == 1, [(d.code, d.message) for d in found]
    assert hint in (found[0].hint or ""), found[0]


def test_nothing_is_said_of_an_edge_whose_options_could_not_be_read() -> None:
    """With `carry` read, `open` would add something; with `merge` read, the two edges might agree."""
    team = TEAM.replace("agent b", 'agent c on small {\n  user "{question}"\n}\nagent b')
    edges = "a -> b : kv(carry = latent, open = 10)\n  c -> b : kv(merge = stak)\n  a -> c : kv(merge = stack)"
    text = team.replace("a -> b : kv(carry = latents, open = 10)", edges)
    codes = [d.code for d in compile_source(Source("x.mas", text)).diagnostics if d.severity != "info"]
    assert codes == ["E0405", "E0405"]


@pytest.mark.parametrize("known", [TRAIN, LORA, ANSWER], ids=["train", "lora", "answer"])
def test_what_is_known_is_called_by_its_name(known: dict[str, object]) -> None:
    for name in known:
        assert meant(name, list(known)) == f"did you mean `{name}`?"


def test_a_models_name_in_yaml() -> None:
    text = "mas: 1\nagents:\n  a: {on: smollm2-135m, user: x}\n"
    (found,) = (d for d in compile_source(Source("x.yaml", text)).diagnostics if d.code == "E0111")
    assert 'models: {small: "smollm2-135m"}' in (found.hint or "")


YAML = """\
mas: 1
models: {small: no-one/not-on-disk}
agents:
  a: {on: small, user: "{question}", think: 4}
  b: {on: small, user: "{question}", answer: {max_tokens: 8}}
graph: {name: g, inputs: [question], outputs: [answer], body: ["a -> b"]}
train: {data: x.jsonl, steps: 20}
"""
YAML_CASES = [
    ("mas: 1", "version: 1", "`mas`"),
    ("models: {small: no-one/not-on-disk}", "models: [no-one/x]", 'models: {small: "smollm2-135m"}'),
    ("a: {on: small", "a: {model: small", "`on`"),
    ("a: {on: small, ", "a: {", "on: small"),
    ("think: 4", "think: {align: ridge}", "steps: 10"),
    ("think: 4", "adapter: lora", "`adapt`"),
    ("answer: {max_tokens: 8}", "answer: 8", "{max_tokens: 128}"),
    ("outputs: [answer]", "output: answer", "`outputs`"),
    ("name: g, ", "", "graph: {name: team"),
    ("inputs: [question]", "inputs: {question: text}", "`[a, b]`"),
    ("steps: 20", "supervise: solution", "supervise: {answer: solution}"),
    ("steps: 20", "lr: 1e-3", "`rate`"),
]


@pytest.mark.parametrize(("old", "new", "hint"), YAML_CASES, ids=lambda text: text.strip())
def test_one_message_with_a_hint_in_yaml(old: str, new: str, hint: str) -> None:
    assert old in YAML
    found = compile_source(Source("x.yaml", YAML.replace(old, new, 1))).diagnostics
    wrong = [d for d in found if d.severity == "error"]
    assert len(wrong) == 1, [(d.code, d.message) for d in wrong]
    assert hint in (wrong[0].hint or ""), wrong[0]
