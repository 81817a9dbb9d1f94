"""One look at a model's folder says all that is wrong with it; what was found is remembered until something changes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from folders import fill, shapes_of, write_weights
from masc.compiler.models.facts import ALLOWED, read_config
from masc.compiler.models.families import family_of
from masc.compiler.models.folder import examine as examine_module
from masc.compiler.models.folder import remember
from masc.compiler.models.folder.settings import ACTIVATIONS
from masc.compiler.models.folder.tensors import KNOWN
from masc.compiler.models.locate import look_into
from masc.compiler.pipeline import compile_source
from masc.dsl.source import Source

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 260,
    "max_position_embeddings": 512,
}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASC_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "m"
    made.mkdir()
    (made / "config.json").write_text(json.dumps(CONFIG))
    return fill(made)


def found(folder: Path) -> list[str]:
    return [d.code for d in look_into(folder, "m")[1]]


def message(folder: Path) -> str:
    (only,) = look_into(folder, "m")[1]
    return f"{only.message} | {only.hint}"


def edit(folder: Path, name: str, **changes: Any) -> None:
    path = folder / name
    old = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(old | changes))


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    shapes: dict[str, Any] = dict(shapes_of(folder))
    change(shapes)
    write_weights(folder / "model.safetensors", shapes)


def without(part: str) -> Callable[[dict[str, Any]], object]:
    return lambda shapes: [shapes.pop(name) for name in list(shapes) if part in name]


def shard(folder: Path) -> Path:
    """The weights in two files with an index."""
    shapes = list(shapes_of(folder).items())
    (folder / "model.safetensors").unlink()
    files = {"model-00001-of-00002.safetensors": shapes[::2], "model-00002-of-00002.safetensors": shapes[1::2]}
    for name, part in files.items():
        write_weights(folder / name, dict(part))
    table = {tensor: name for name, part in files.items() for tensor, _ in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))
    return folder


def cut(folder: Path, size: int) -> None:
    os.truncate(folder / "model.safetensors", size)


DAMAGE: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "tensors missing": (lambda f: rewrite(f, without("layers.1.mlp.")), "E0530", "lacks weights"),
    "a layer too few in config.json": (lambda f: edit(f, "config.json", num_hidden_layers=2), "E0530", "3 layers"),
    "a layer too many": (lambda f: edit(f, "config.json", num_hidden_layers=4), "E0530", "says 4"),
    "surplus": (lambda f: rewrite(f, lambda s: s.update({"v_head.weight": (1, 32)})), "E0530", "no place"),
    "biases": (
        lambda f: rewrite(f, lambda s: s.update({"model.layers.0.mlp.up_proj.bias": (48,)})),
        "E0530",
        "no place",
    ),
    "shape": (lambda f: edit(f, "config.json", intermediate_size=64), "E0530", "48 x 32"),
    "rows": (lambda f: edit(f, "config.json", vocab_size=300), "E0530", "260 x 32"),
    "integers": (lambda f: write_weights(f / "model.safetensors", shapes_of(f), "I8"), "E0530", "stored as I8"),
    "fp8": (lambda f: write_weights(f / "model.safetensors", shapes_of(f), "F8_E4M3"), "E0530", "F8_E4M3"),
    "no head": (lambda f: rewrite(f, without("lm_head")), "E0530", "tie_word_embeddings"),
    "a nonsensical width": (lambda f: edit(f, "config.json", intermediate_size="48"), "E0530", "intermediate_size"),
    "cut off": (lambda f: cut(f, 5000), "E0531", "cut off"),
    "cut off in its header": (lambda f: cut(f, 100), "E0531", "cut off"),
    "empty": (lambda f: cut(f, 0), "E0531", "cut off"),
    "too long": (lambda f: (f / "model.safetensors").open("ab").write(b"more"), "E0531", "too long"),
    "pointer": (
        lambda f: (f / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\n"),
        "E0531",
        "git lfs pull",
    ),
    "page of an error": (
        lambda f: (f / "model.safetensors").write_text("<html>404</html>"),
        "E0531",
        "failed download",
    ),
    "nonsense": (
        lambda f: (f / "model.safetensors").write_bytes(b"\x08" + b"\0" * 7 + b"12345678"),
        "E0531",
        "no safe",
    ),
    "a shard gone": (lambda f: (shard(f) / "model-00002-of-00002.safetensors").unlink(), "E0531", "00002-of"),
    "index of nothing": (lambda f: (shard(f) / "model.safetensors.index.json").write_text("[]"), "E0531", "index"),
    "tensors missing in a shard": (
        lambda f: write_weights(shard(f) / "model-00001-of-00002.safetensors", {"model.norm.weight": (32,)}),
        "E0530",
        "",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "E0532", "no weights"),
    "a link to nowhere": (lambda f: to_nowhere(f / "model.safetensors"), "E0532", "link"),
    "pickle": (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "E0532", "pickle"),
    "gguf": (lambda f: (f / "model.safetensors").rename(f / "model-q4.gguf"), "E0532", "gguf"),
    "another name": (
        lambda f: (f / "model.safetensors").rename(f / "weights.safetensors"),
        "E0532",
        "never looked for",
    ),
    "an adapter": (lambda f: edit(f, "adapter_config.json", base_model_name_or_path="x"), "E0532", "adapter"),
    "quantised": (lambda f: edit(f, "config.json", quantization_config={"quant_method": "fp8"}), "E0533", "`fp8`"),
    "code": (lambda f: edit(f, "config.json", auto_map={"AutoModelForCausalLM": "x.Y"}), "E0534", "x.Y"),
    "quantised, and nobody knows how": (lambda f: edit(f, "config.json", quantization_config={}), "E0533", "is empty"),
    "code of the tokenizer": (
        lambda f: edit(f, "tokenizer_config.json", auto_map={"AutoTokenizer": ["x.Slow", None]}),
        "E0534",
        "x.Slow",
    ),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "E0535", "no tokenizer"),
    "a pipe for a tokenizer": (lambda f: to_a_pipe(f / "tokenizer.json"), "E0535", "a pipe"),
    "a device for a tokenizer": (lambda f: to_nowhere(f / "tokenizer.json", "/dev/zero"), "E0535", "a device"),
    "half a tokenizer": (lambda f: (f / "tokenizer.json").write_text('{"model": '), "E0535", "cannot be read"),
    "half a tokenizer's config": (lambda f: (f / "tokenizer_config.json").write_text("{"), "E0535", "tokenizer_config"),
    "too few rows": (lambda f: (edit(f, "config.json", vocab_size=200), rewrite(f, dict)), "E0536", "200 rows"),
    "a token too many": (lambda f: edit(f, "tokenizer_config.json", **ADDED), "W0510", "`[cls]`, `[mask]`"),
}
SETTINGS: dict[str, tuple[str, dict[str, Any], str]] = {  # by what is wrong: the file, its entries, what is said
    "activation": ("config.json", {"hidden_act": "nonsense"}, "`hidden_act` is 'nonsense'"),
    "no activation": ("config.json", {"hidden_act": None}, "no activation function"),
    "epsilon": ("config.json", {"rms_norm_eps": -1}, "`rms_norm_eps` is -1"),
    "padding beyond": ("config.json", {"pad_token_id": 260}, "there are 260 tokens"),
    "padding as text": ("config.json", {"pad_token_id": "0"}, "`pad_token_id` is '0'"),
    "end as text": ("config.json", {"eos_token_id": "2"}, "`eos_token_id` is '2'"),
    "tied as text": ("config.json", {"tie_word_embeddings": "false"}, "neither true nor false"),
    "biases as text": ("config.json", {"attention_bias": "false"}, "neither true nor false"),
    "odd heads": ("config.json", {"head_dim": 7}, "turns pairs"),
    "rotary base of 0": ("config.json", {"rope_theta": 0}, "`rope_theta` of its rotary embedding is 0"),
    "rotary base as text": ("config.json", {"rope_parameters": {"rope_theta": "1e4"}}, "is '1e4'"),
    "rotary base without end": ("config.json", {"rope_theta": 1e999}, "Infinity"),
    "factor of 0": ("config.json", {"rope_scaling": {"type": "linear", "factor": 0}}, "`factor` of its rotary"),
    "no factor": ("config.json", {"rope_scaling": {"rope_type": "yarn"}}, "has no `factor`"),
    "half of llama3's": ("config.json", {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor"),
    "llama3's turned round": (
        "config.json",
        {"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 1}},
        "not above",
    ),
    "end of generation": ("generation_config.json", {"eos_token_id": ["2"]}, "`eos_token_id` is ['2']"),
    "ends in lists": ("generation_config.json", {"eos_token_id": [[2]]}, "`eos_token_id` is [[2]]"),
    "a list for a token": ("tokenizer_config.json", {"bos_token": ["<s>"]}, "`bos_token` is ['<s>']"),
    "half a character": ("tokenizer_config.json", {"eos_token": "\ud800"}, "`eos_token` is"),
    "length as text": ("tokenizer_config.json", {"model_max_length": "long"}, "`model_max_length` is 'long'"),
    "half a template": ("tokenizer_config.json", {"chat_template": "\ud800"}, "half a character"),
}
ADDED: dict[str, Any] = {f"{role}_token": f"[{role}]" for role in ("bos", "unk", "pad", "cls", "mask")}
ADDED["eos_token"] = {"content": "[eos]"}


def to_nowhere(path: Path, where: str = "nowhere") -> None:
    path.unlink()
    path.symlink_to(path.parent / where)


def to_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("what", DAMAGE)
def test_damage(folder: Path, what: str) -> None:
    assert found(folder) == []  # remembered: and forgotten as soon as a file changes
    damage, code, words = DAMAGE[what]
    damage(folder)
    assert found(folder) == [code]
    assert words in message(folder)


@pytest.mark.parametrize("what", SETTINGS)
def test_settings_that_no_model_can_be_run_with(folder: Path, what: str) -> None:
    name, entries, words = SETTINGS[what]
    edit(folder, name, **entries)
    assert len(found(folder)) == 1
    assert words in message(folder)


def test_the_activation_functions_are_those_of_transformers() -> None:
    from transformers.activations import ACT2FN

    assert set(ACT2FN) == ACTIVATIONS


HARMLESS: dict[str, Callable[[Path], object]] = {
    "shards": shard,
    "rotary frequencies": lambda f: rewrite(
        f, lambda s: s.update({"model.layers.0.self_attn.rotary_emb.inv_freq": (4,), "model.rotary_emb.inv_freq": (4,)})
    ),
    "the body alone": lambda f: rewrite(f, shorten),
    "half precision": lambda f: write_weights(f / "model.safetensors", shapes_of(f), "BF16"),
    "tied, the head kept": lambda f: edit(f, "config.json", tie_word_embeddings=True),
    "tied, the head left out": lambda f: (
        edit(f, "config.json", tie_word_embeddings=True),
        rewrite(f, without("lm_head")),
    ),
    "tied, only the head": lambda f: (
        edit(f, "config.json", tie_word_embeddings=True),
        rewrite(f, lambda s: s.update({"lm_head.weight": s.pop("model.embed_tokens.weight")})),
    ),
    "padding from behind": lambda f: edit(f, "config.json", pad_token_id=-1),
    "nothing said": lambda f: edit(f, "config.json", pad_token_id=None, quantization_config=None, rope_scaling=None),
    "several ends": lambda f: edit(f, "generation_config.json", eos_token_id=[2, 3]),
    "a length without end": lambda f: edit(f, "tokenizer_config.json", model_max_length=10**30),
    "a link": lambda f: link(f / "model.safetensors"),
    "pickle beside it": lambda f: (f / "pytorch_model.bin").write_bytes(b"x"),
}


def link(path: Path) -> None:
    path.rename(path.parent.parent / "blob")
    path.symlink_to(path.parent.parent / "blob")


def shorten(shapes: dict[str, Any]) -> None:
    for name in list(shapes):
        shapes[name.removeprefix("model.")] = shapes.pop(name)


@pytest.mark.parametrize("what", HARMLESS)
def test_harmless(folder: Path, what: str) -> None:
    HARMLESS[what](folder)
    assert found(folder) == []


@pytest.mark.parametrize("kind", sorted(KNOWN))
@pytest.mark.parametrize("tied", [False, True])
def test_expected_tensors_are_those_of_transformers(tmp_path: Path, kind: str, tied: bool) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = {k: v for k, v in CONFIG.items() if k != "model_type"} | {"tie_word_embeddings": tied}
    if kind not in ("mistral", "qwen2"):
        settings |= {"attention_bias": tied}
    if kind == "llama":
        settings |= {"mlp_bias": tied}
    config = AutoConfig.for_model(kind, **settings)
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    names = dict(model.named_parameters())
    assert {name: tuple(p.shape) for name, p in names.items()} == shapes_of(tmp_path)


@pytest.mark.parametrize("kind", [kind for kind in ALLOWED if kind != "mamba2"])  # which has no attention
def test_what_a_config_leaves_out(tmp_path: Path, kind: str) -> None:
    from transformers import AutoConfig

    config = AutoConfig.for_model(kind, num_attention_heads=640, hidden_size=81920, num_hidden_layers=12)
    said = {"model_type": kind, "hidden_size": 81920, "num_attention_heads": 640, "num_hidden_layers": 12}
    (tmp_path / "config.json").write_text(json.dumps(said))
    facts = read_config(tmp_path)
    heads = getattr(config, "num_key_value_heads", None) or 640
    assert (facts.kv_heads, facts.tied) == (heads, config.tie_word_embeddings)
    if not family_of(kind).uneven and not kind.startswith("deepseek"):  # what they keep of a head is in parts
        assert facts.head_dim == (getattr(config, "head_dim", None) or 128)
    types = getattr(config, "layer_types", None)
    each = types or [("sliding" if getattr(config, "sliding_window", None) else "full") + "_attention"] * 12
    assert facts.windowed == tuple(i for i, of in enumerate(each) if of == "sliding_attention")
    assert facts.window == (config.sliding_window if facts.windowed else None)
    if kind in KNOWN:
        shapes = shapes_of(tmp_path)
        assert shapes["model.embed_tokens.weight"][0] == config.vocab_size
        assert shapes["model.layers.0.mlp.up_proj.weight"][0] == config.intermediate_size


def test_a_folder_is_looked_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(folder) == []
    looks: list[Path] = []
    monkeypatch.setattr(remember, "examine", lambda f, facts: looks.append(f) or examine_module.examine(f, facts))
    assert found(folder) == []
    assert looks == []
    edit(folder, "tokenizer_config.json", pad_token="[PAD]")
    assert found(folder) == []
    assert looks == [folder]


@pytest.mark.parametrize("state", ["broken", "another", "a folder"])
def test_a_cache_that_is_of_no_use(folder: Path, tmp_path: Path, state: str) -> None:
    (folder / "model.safetensors").unlink()
    assert found(folder) == ["E0532"]
    (path,) = (tmp_path / "cache" / "looks").glob("*.json")
    if state == "a folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_text("{" if state == "broken" else '{"state": 1, "look": []}')
    assert found(folder) == ["E0532"]


def test_old_looks_are_forgotten(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remember, "_MOST", 2)
    for name in "abc":
        assert found(Path(shutil.copytree(folder, tmp_path / name))) == []
    assert len(list((tmp_path / "cache" / "looks").iterdir())) == 2


CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHAT
TEMPLATES: dict[str, tuple[Any, list[str], list[str]]] = {  # by template: without, and with a system text
    "plain": (CHAT, [], []),
    "trims": (CHAT.replace("m['content']", "m['content'] | trim"), [], []),
    "parts": (CHAT.replace("m['content']", "m['content'][0]['text']"), [], []),
    "loop over parts": (CHAT.replace("{{ m['content'] }}", "{% for p in m.content %}{{ p.text }}{% endfor %}"), [], []),
    "refuses the system": (NO_SYSTEM, [], ["E0538"]),
    "ignores the system": ("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", [], ["E0538"]),
    "asks for a system": ("{{ 1 // (messages | length - 1) }}" + CHAT, ["E0538"], []),
    "the system behind": ("{% for m in messages | reverse %}{{ m.content }}{% endfor %}", [], ["E0538"]),
    "lower case": (CHAT.replace("m['content']", "m['content'] | lower"), ["E0537"], ["E0537"]),
    "shortened": (CHAT.replace("m['content']", "m['content'][:2000]"), ["E0537"], ["E0537"]),
    "escaped": (CHAT.replace("m['content']", "m['content'] | e"), ["E0537"], ["E0537"]),
    "said twice": (CHAT + CHAT, ["E0537"], ["E0537"]),
    "nothing": ("Hello.", ["E0537"], ["E0537"]),
    "broken": ("{% for m in messages %}", ["E0537"], ["E0537"]),
    "TypeError": ("{{ messages + 1 }}", ["E0537"], ["E0537"]),
    "undefined": ("{{ x.y.z }}", ["E0537"], ["E0537"]),
    "by chance": ("{{ [1, 2] | random }}" + CHAT, ["E0537"], ["E0537"]),
    "dated": ("{{ strftime_now('%d %B %Y') }}" + CHAT, ["W0511"], ["W0511"]),
    "several": ([{"name": "a", "template": CHAT}, {"name": "b", "template": CHAT}], ["E0537"], ["E0537"]),
    "one of them the default": ([{"name": "default", "template": CHAT}, {"name": "b", "template": "{"}], [], []),
    "no text": (3, ["E0537"], ["E0537"]),
}


def said(folder: Path, system: str) -> list[tuple[str, str]]:
    text = f'mas 1\nmodel m = "{folder}"\nagent a on m {{ {system} user "{{q}}" answer }}\ngraph g(q) -> answer {{ a }}'
    found = compile_source(Source("x.mas", text)).diagnostics
    return [(d.code, d.span.text if d.span else "") for d in found]


@pytest.mark.parametrize("what", TEMPLATES)
def test_templates(folder: Path, what: str) -> None:
    template, alone, led = TEMPLATES[what]
    edit(folder, "tokenizer_config.json", chat_template=template)
    assert [code for code, _ in said(folder, "")] == alone
    assert [code for code, _ in said(folder, 'system "You are kind."')] == led


def test_a_system_text_that_is_lost_is_pointed_at(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(NO_SYSTEM)
    assert said(folder, 'system "You are kind."') == [("E0538", 'system "You are kind."')]


@pytest.mark.parametrize(
    "name", ["chat_template.jinja", "additional_chat_templates/default.jinja", "chat_template.json"]
)
def test_files_of_templates(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps({"chat_template": "Hello."}) if name.endswith("json") else "Hello.")
    assert found(folder) == ["E0537"]
    (folder / name).write_bytes(b"\xff")
    assert found(folder) == ["E0537"]


@pytest.mark.parametrize(("template", "codes"), [(CHAT, ["W0512"]), ("{{ bos_token }}" + CHAT, []), (None, [])])
@pytest.mark.parametrize("how", ["post-processor", "add_bos_token", "padded"])
def test_a_template_without_the_token_that_begins_every_text(
    folder: Path, template: str | None, codes: list[str], how: str
) -> None:
    from tokenizers import Tokenizer, processors

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens(["<s>"])
    if how == "padded":
        tokenizer.enable_padding(direction="left", length=16)
    if how != "add_bos_token":
        tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 256)])
    tokenizer.save(str(folder / "tokenizer.json"))
    asked = {"add_bos_token": True} if how == "add_bos_token" else {}
    edit(folder, "tokenizer_config.json", bos_token="<s>", chat_template=template, **asked)
    assert found(folder) == codes


def test_a_prompt_that_holds_a_token_without_a_vector(folder: Path) -> None:
    edit(folder, "tokenizer_config.json", **ADDED)
    assert [code for code, _ in said(folder, "")] == ["W0510"]
    assert sorted(code for code, _ in said(folder, 'system "say [mask]"')) == ["E0536", "W0510"]
    assert [code for code, _ in said(folder, 'system "say [eos]"')] == ["W0510"]
