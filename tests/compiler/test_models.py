"""Where models lie, what their config.json says, and which are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from masc.compiler.facts import ALLOWED, check_facts, read_config
from masc.compiler.models import check_model, check_plan, locate_model, registry_folder, resolve_target
from masc.compiler.names import reserved
from masc.compiler.pipeline import compile_file, compile_source
from masc.compiler.registry import REGISTRY
from masc.dsl.diagnostics import MascError
from teams import said, source, team

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}


@pytest.fixture(autouse=True)
def _caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


def model(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = {k: v for k, v in (LLAMA | changes).items() if v != "left out"}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_facts(tmp_path: Path) -> None:
    facts = read_config(model(tmp_path / "m"))
    assert (facts.layers, facts.hidden, facts.heads, facts.kv_heads, facts.head_dim) == (3, 32, 4, 2, 8)
    assert (facts.tied, facts.max_positions, facts.window, facts.unrotated) == (False, 512, None, ())
    assert (facts.rope_type, facts.rope) == ("default", (("rope_theta", 10000.0),))


def test_older_spelling_of_rotary_parameters(tmp_path: Path) -> None:
    old = {"rope_parameters": "left out", "rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2}}
    facts = read_config(model(tmp_path / "m", **old))
    assert (facts.rope_type, dict(facts.rope)) == ("linear", {"factor": 2.0, "rope_theta": 5e5})


@pytest.mark.parametrize("kind", ALLOWED)
def test_allowed_types(tmp_path: Path, kind: str) -> None:
    assert check_facts(read_config(model(tmp_path, model_type=kind, sliding_window=None)), "m") == []


SMOLLM3 = {"model_type": "smollm3", "no_rope_layers": [1, 1, 0]}
REFUSED: list[tuple[dict[str, Any], list[str], str]] = [
    ({"model_type": "gpt2", "n_embd": 32}, ["E0504"], "absolute"),
    ({"model_type": "whatever"}, ["E0504"], "not been tested"),
    ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, ["E0505"], "length of the text"),
    ({"rope_parameters": None, "rope_scaling": {"type": "longrope"}}, ["E0505"], "longrope"),
    ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, ["E0505"], "0.5"),
    ({"partial_rotary_factor": 0.25}, ["E0505"], "0.25"),
    (SMOLLM3, ["E0504", "E0506"], "no rotary"),
    ({"model_type": "mistral"}, ["E0507"], "4096"),
    ({"model_type": "mistral", "sliding_window": 64}, ["E0507"], "64"),
    ({"model_type": "qwen2", "sliding_window": 64, "use_sliding_window": True}, ["E0507"], "64"),
    ({"sliding_window": 8, "layer_types": ["full_attention", "sliding_attention"]}, ["E0507"], "8"),
]


@pytest.mark.parametrize(("changes", "codes", "message"), REFUSED)
def test_refused(tmp_path: Path, changes: dict[str, Any], codes: list[str], message: str) -> None:
    found = check_facts(read_config(model(tmp_path, **changes)), "m")
    assert [d.code for d in found] == codes
    assert message in found[-1].message


FINE: list[dict[str, Any]] = [
    {"model_type": "qwen2", "sliding_window": 64},
    {"model_type": "qwen2", "sliding_window": 64, "use_sliding_window": False},
    {"model_type": "mistral", "sliding_window": None},
    {"model_type": "qwen3", "sliding_window": 64, "layer_types": ["full_attention"] * 3},
    {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}},
    {"rope_parameters": {"rope_type": "llama3", "factor": 4.0, "rope_theta": 1e4}},
]


@pytest.mark.parametrize("changes", FINE)
def test_fine(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert check_facts(read_config(model(tmp_path, **changes)), "m") == []


BROKEN = ["", "[]", "{", "{}", '{"model_type": 3}', json.dumps(LLAMA | {"hidden_size": "wide"})]
BROKEN += [json.dumps(LLAMA | {"num_hidden_layers": 0}), json.dumps(LLAMA | {"rope_parameters": 3}), "\ud800"]


@pytest.mark.parametrize("text", BROKEN)
def test_broken_config(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(MascError) as caught:
        read_config(tmp_path)
    assert caught.value.diagnostics[0].code == "E0503"
    assert said(compile_source(source("a!", "a", model=str(tmp_path)))) == ["E0503"]


def test_kinds_of_targets(tmp_path: Path) -> None:
    folder = model(tmp_path / "tiny")
    for target in ("tiny", "./tiny", str(folder)):
        found = locate_model(target, tmp_path)
        assert found is not None
        assert (found.kind, found.folder) == ("local", folder)
        assert resolve_target(target, tmp_path) == str(folder)
    hub = locate_model("org/name", tmp_path)
    assert hub is not None
    assert (hub.kind, hub.folder, resolve_target("org/name", tmp_path)) == ("hub", None, "org/name")
    assert locate_model("name", tmp_path) is None
    assert locate_model("a/b/c", tmp_path) is None


def test_not_on_disk_is_deferred() -> None:
    compilation = compile_source(source("a!", "a", model="smollm2-135m"))
    assert said(compilation, infos=True) == ["I0501"]
    assert compilation.plan is not None


def test_registry_model_in_the_cache() -> None:
    (name,) = REGISTRY
    model(registry_folder(name))
    facts, found = check_model(name, Path())
    assert facts is not None
    assert found == []


def test_hub_model_in_its_cache(tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--org--name"
    model(repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc\n")
    location = locate_model("org/name", Path())
    assert location is not None
    assert location.revision == "abc"
    assert check_model("org/name", Path())[1] == []


def test_misspelt_registry_name() -> None:
    compilation = compile_source(source("a!", "a", model="smolm2-135m"))
    assert said(compilation) == ["E0501"]
    assert compilation.diagnostics[0].hint == "did you mean `smollm2-135m`?"


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    file = tmp_path / "x.mas"
    file.write_text(source("a!", "a", model="./tiny").text)
    assert said(compile_file(file)) == ["E0502"]
    model(tmp_path / "tiny")
    plan = compile_file(file).require()
    assert plan.models[0].target == str(tmp_path / "tiny")


def test_layers_beyond_the_model(tmp_path: Path) -> None:
    folder = str(model(tmp_path / "m"))
    compilation = compile_source(source("a b!", "a -> b : kv(layers = 1..3)", model=folder))
    assert said(compilation) == ["E0508"]
    (found,) = compilation.diagnostics
    assert found.span is not None
    assert found.span.text == "layers = 1..3"


def test_plan_checked_after_fetching(tmp_path: Path) -> None:
    plan = team("a/1 b!", "a -> b : kv(layers = 1..3)")
    assert check_plan(plan, {}) == []
    facts = read_config(model(tmp_path / "m"))
    assert [d.code for d in check_plan(plan, {"m": facts})] == ["E0508"]
    gpt = read_config(model(tmp_path / "g", model_type="gpt2"))
    assert [d.code for d in check_plan(team("a!", "a"), {"m": gpt})] == ["E0504"]


def test_ridge_on_tied_embeddings(tmp_path: Path) -> None:
    folder = str(model(tmp_path / "m", tie_word_embeddings=True))
    text = source("a/2 b!", "a -> b : kv", model=folder)
    text = type(text)("x.mas", text.text.replace("think 2", "think 2 (align = ridge)"))
    compilation = compile_source(text)
    assert said(compilation, infos=True) == ["I0502"]
    assert compilation.plan is not None


def test_known_layers_make_reaches_exact(tmp_path: Path) -> None:
    plan = team("a b c!", "a -> b -> c : kv", model=str(model(tmp_path / "m")))
    loss = plan.operations[-1]
    assert [r.layer for r in loss.reaches] == [2, 2, None]  # type: ignore[union-attr]


def test_reserved_names_cover_what_torch_refuses() -> None:
    torch = pytest.importorskip("torch")
    for container in (torch.nn.ModuleDict(), torch.nn.ParameterDict()):
        # transformers hangs things of its own onto torch's classes once it is imported.
        own = [
            n for n in dir(container) if not str(getattr(getattr(container, n), "__module__", "")).startswith("tran")
        ]
        assert [name for name in own if reserved(name) is None] == []
    assert reserved("planner") is None
    assert all(reserved(name) for name in ("lora_A", "base_layer", "layers", "default", "my_lora_B", "_x"))
