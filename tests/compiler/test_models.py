"""Where models lie, what their config.json says, and which are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from folders import fill
from masc.compiler.ir.model import Loading
from masc.compiler.language.alignments import ALIGNMENTS
from masc.compiler.models.facts import ALLOWED, Rope, check_facts, read_config
from masc.compiler.models.locate import (
    check_model,
    check_plan,
    locate_model,
    registry_folder,
    resolve_target,
    window_note,
)
from masc.compiler.models.registry import REGISTRY
from masc.compiler.pipeline import compile_file, compile_source
from masc.compiler.resolve.names import reserved
from masc.dsl.diagnostics import MascError
from teams import said, source, team

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 260,
    "hidden_size": 32,
    "intermediate_size": 48,
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


def whole_model(folder: Path, **changes: Any) -> Path:
    return fill(model(folder, **changes))


def test_facts(tmp_path: Path) -> None:
    facts = read_config(model(tmp_path / "m"))
    assert (facts.layers, facts.hidden, facts.heads, facts.kv_heads, facts.head_dim) == (3, 32, 4, 2, 8)
    assert (facts.tied, facts.max_positions, facts.window, facts.windowed) == (False, 512, None, ())
    assert facts.ropes == (Rope("default", (("rope_theta", 10000.0),)),)


def test_older_spelling_of_rotary_parameters(tmp_path: Path) -> None:
    old = {"rope_parameters": "left out", "rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2}}
    facts = read_config(model(tmp_path / "m", **old))
    assert facts.ropes == (Rope("linear", (("factor", 2.0), ("rope_theta", 5e5))),)


@pytest.mark.parametrize("kind", ALLOWED)
def test_allowed_types(tmp_path: Path, kind: str) -> None:
    assert check_facts(read_config(model(tmp_path, model_type=kind)), "m") == []


FULL, SLIDING = "full_attention", "sliding_attention"
GEMMA3: dict[str, Any] = {
    "model_type": "gemma3_text",
    "num_hidden_layers": 7,
    "sliding_window": 64,
    "rope_parameters": {
        SLIDING: {"rope_type": "default", "rope_theta": 1e4},
        FULL: {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
    },
}
OLD_GEMMA3 = GEMMA3 | {
    "rope_parameters": "left out",
    "rope_theta": 1e6,
    "rope_local_base_freq": 1e4,
    "rope_scaling": {"rope_type": "linear", "factor": 8.0},
}


@pytest.mark.parametrize("config", [GEMMA3, OLD_GEMMA3])
def test_gemma3(tmp_path: Path, config: dict[str, Any]) -> None:
    facts = read_config(model(tmp_path, **config))
    assert (facts.window, facts.windowed) == (64, (0, 1, 2, 3, 4, 6))
    linear = Rope("linear", (("factor", 8.0), ("rope_theta", 1e6)))
    assert facts.ropes == (linear, Rope("default", (("rope_theta", 1e4),)))
    assert facts.tied
    assert facts.head_dim == 256
    assert check_facts(facts, "m") == []


def gemma3_rope(**changes: Any) -> dict[str, Any]:
    ropes = GEMMA3["rope_parameters"]
    return GEMMA3 | {"rope_parameters": ropes | {kind: ropes[kind] | of for kind, of in changes.items()}}


NOPE = {"no_rope_layers": [1, 1, 0]}
REFUSED: list[tuple[dict[str, Any], list[str], str]] = [
    ({"model_type": "gpt2", "n_embd": 32}, ["E0504"], "absolute"),
    ({"model_type": "whatever"}, ["E0504"], "nothing has been proven"),
    ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, ["E0505"], "length of the text"),
    ({"model_type": "phi3", "rope_scaling": {"type": "longrope"}}, ["E0505"], "length of the text"),
    ({"rope_parameters": None, "rope_scaling": {"type": "longrope"}}, ["E0505"], "longrope"),
    ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, ["E0505"], "0.5"),
    ({"partial_rotary_factor": 0.25}, ["E0505"], "0.25"),
    (NOPE, ["E0506"], "no rotary"),
    ({"model_type": "bloom"}, ["E0504"], "ALiBi"),
    ({"attn_logit_softcapping": 50.0}, ["E0504"], "caps"),
    ({"model_type": "siglip", "text_config": LLAMA | {"model_type": "whatever"}}, ["E0504"], "`whatever`"),
    (GEMMA3 | {"use_bidirectional_attention": True}, ["E0504"], "after them"),
    (gemma3_rope(full_attention={"rope_type": "dynamic"}), ["E0505"], "dynamic"),
    (gemma3_rope(sliding_attention={"rope_type": "longrope"}), ["E0505"], "longrope"),
    (gemma3_rope(sliding_attention={"partial_rotary_factor": 0.5}), ["E0505"], "0.5"),
    # transformers reads the old spelling even beside the new one
    ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, ["E0505"], "dynamic"),
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
    GEMMA3,
    GEMMA3 | {"final_logit_softcapping": 30.0},
    {"model_type": "gemma2", "sliding_window": 64, "attn_logit_softcapping": 50.0},
    {"model_type": "gemma3", "text_config": LLAMA | GEMMA3},
    {"model_type": "smollm3"} | NOPE,
    {"model_type": "glm", "partial_rotary_factor": 0.5},
]


@pytest.mark.parametrize("changes", FINE)
def test_fine(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert check_facts(read_config(model(tmp_path, **changes)), "m") == []


ALL = (0, 1, 2)
WINDOWS: list[tuple[dict[str, Any], int | None, tuple[int, ...]]] = [
    ({"model_type": "mistral"}, 4096, ALL),
    ({"model_type": "mistral", "sliding_window": 64}, 64, ALL),
    ({"model_type": "mistral", "sliding_window": 64, "use_sliding_window": False}, 64, ALL),
    ({"model_type": "mistral", "sliding_window": None}, None, ()),
    ({"model_type": "mistral", "sliding_window": 64, "layer_types": [FULL] * 3}, 64, ALL),
    ({"model_type": "qwen2", "sliding_window": 64}, None, ()),
    ({"model_type": "qwen2", "sliding_window": 64, "use_sliding_window": True}, None, ()),
    ({"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 1}, 4096, (1, 2)),
    ({"model_type": "qwen3", "sliding_window": 64, "use_sliding_window": True, "max_window_layers": 0}, 64, ALL),
    ({"model_type": "qwen3", "sliding_window": None, "use_sliding_window": True, "max_window_layers": 0}, None, ()),
    ({"model_type": "qwen3", "sliding_window": 64, "layer_types": [FULL] * 3}, None, ()),
    (
        {"model_type": "qwen3", "sliding_window": 64, "use_sliding_window": True, "layer_types": [FULL, SLIDING, FULL]},
        64,
        (1,),
    ),
    ({"model_type": "gemma3_text", "sliding_window": 64, "layer_types": [SLIDING, FULL, SLIDING]}, 64, (0, 2)),
    ({"model_type": "gemma3_text", "layer_types": [SLIDING] * 3}, 4096, ALL),
    ({"model_type": "gemma3_text", "sliding_window_pattern": 2}, 4096, (0, 2)),
    ({"model_type": "gemma3_text", "layer_types": [FULL] * 3}, None, ()),
    ({"model_type": "llama", "sliding_window": 64, "layer_types": [SLIDING] * 3}, None, ()),
]


@pytest.mark.parametrize(("changes", "window", "windowed"), WINDOWS)
def test_windows(tmp_path: Path, changes: dict[str, Any], window: int | None, windowed: tuple[int, ...]) -> None:
    facts = read_config(model(tmp_path, **changes))
    assert (facts.window, facts.windowed) == (window, windowed)
    assert check_facts(facts, "m") == []


@pytest.mark.parametrize("changes", [changes for changes, _, _ in WINDOWS])
def test_windows_are_those_of_transformers(tmp_path: Path, changes: dict[str, Any]) -> None:
    """What the module of each layer will be told, by the configuration class of the type."""
    transformers = pytest.importorskip("transformers")
    facts = read_config(model(tmp_path, **changes))
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    if facts.model_type == "llama":  # its attention knows no windows
        assert facts.window is None
        return
    types = None if facts.model_type == "mistral" else config.layer_types
    windowed = [i for i in ALL if config.sliding_window is not None and (types is None or types[i] == SLIDING)]
    assert facts.windowed == tuple(windowed)
    assert facts.window == (config.sliding_window if windowed else None)


def note(folder: Path, layers: list[tuple[int, int]] | None = None, **changes: Any) -> str | None:
    found = window_note(read_config(model(folder, **changes)), "m", layers=layers)
    assert found is None or found.code == "I0503"
    return found.message if found else None


def test_what_a_window_hides(tmp_path: Path) -> None:
    assert note(tmp_path) is None
    text = note(tmp_path, **GEMMA3)
    assert text is not None
    assert text.startswith("layers 0..4, 6 of the model `m` see only the last 64 positions")
    assert text.endswith("reaches only the other layers")
    every = note(tmp_path, model_type="mistral", sliding_window=64)
    assert every is not None
    assert every.endswith("not seen at all")
    # An edge that is restricted to some layers: none with a window, nothing but such, one of two.
    assert note(tmp_path, [(5, 5)], **GEMMA3) is None
    assert "every layer that this edge reaches" in (note(tmp_path, [(0, 1), (6, 6)], **GEMMA3) or "")
    assert (note(tmp_path, [(4, 5)], **GEMMA3) or "").startswith("layer 4 of the model `m` sees only")
    # Nothing is ever further back than the model's positions go.
    assert note(tmp_path, model_type="mistral", sliding_window=512) is None
    assert note(tmp_path, model_type="mistral", sliding_window=511) is not None


def test_windows_in_a_plan_checked_after_fetching(tmp_path: Path) -> None:
    facts = read_config(model(tmp_path, model_type="mistral", sliding_window=64))
    assert [d.code for d in check_plan(team("a/1 b!", "a -> b : kv"), {"m": facts})] == ["I0503"]
    assert check_plan(team("a!", "a"), {"m": facts}) == []


BROKEN = ["", "[]", "{", "{}", '{"model_type": 3}', json.dumps(LLAMA | {"hidden_size": "wide"})]
BROKEN += [json.dumps(LLAMA | {"num_hidden_layers": 0}), json.dumps(LLAMA | {"rope_parameters": 3}), "\ud800"]
BROKEN += [
    json.dumps(LLAMA | changes)
    for changes in (
        {"model_type": "mistral", "sliding_window": 0},
        {"model_type": "mistral", "sliding_window": "wide"},
        {"model_type": "gemma3_text", "sliding_window": None},
        {"model_type": "gemma3_text", "sliding_window_pattern": "two"},
        {"model_type": "gemma3_text", "layer_types": [SLIDING]},
        {"model_type": "qwen2", "layer_types": [SLIDING] * 3},
        {"model_type": "qwen2", "layer_types": ["linear_attention"] * 3},
        {"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": None},
    )
]


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
    for name in REGISTRY:
        whole_model(registry_folder(name))
        facts, found = check_model(name, Path())
        assert facts is not None
        assert found == []


def test_registry_entries_are_whole() -> None:
    for name, entry in REGISTRY.items():
        assert name == entry.name
        assert entry.licence
        for wheel in entry.wheels:
            assert len(wheel.sha256) == 64
            assert set(wheel.sha256) <= set("0123456789abcdef")
        assert len({wheel.sha256 for wheel in entry.wheels}) == len({w.part for w in entry.wheels}) == len(entry.wheels)
    assert [w.part[-1] for w in REGISTRY["gemma3-270m"].wheels] == ["0", "1", "2", "3"]


def test_hub_model_in_its_cache(tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--org--name"
    model(repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc\n")
    location = locate_model("org/name", Path())
    assert location is not None
    assert location.revision == "abc"
    cut_off, found = check_model("org/name", Path())
    assert cut_off is not None
    assert "I0501" in [d.code for d in found]
    assert "E0532" not in [d.code for d in found]
    fill(location.folder or Path())
    assert check_model("org/name", Path())[1] == []


def test_revision_of_a_hub_model_in_its_cache(tmp_path: Path) -> None:
    """A branch or tag is what its entry says, a commit its own name; what is not there is fetched later."""
    repository = tmp_path / "hub" / "models--org--name"
    for commit in ("abc", "def"):
        model(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    (repository / "refs" / "v1").write_text("def")
    for revision, commit in ((None, "abc"), ("v1", "def"), ("def", "def"), ("v2", None)):
        location = locate_model("org/name", Path(), revision)
        assert location is not None
        assert location.revision == commit
    assert [d.code for d in check_model("org/name", Path(), loading=Loading("v2"))[1]] == ["I0501"]
    folder = model(tmp_path / "here")
    assert [d.code for d in check_model(str(folder), Path(), loading=Loading("v1"))[1]] == ["E0539"]


def test_misspelt_registry_name() -> None:
    compilation = compile_source(source("a!", "a", model="smolm2-135m"))
    assert said(compilation) == ["E0501"]
    assert compilation.diagnostics[0].hint == "did you mean `smollm2-135m`?"


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    file = tmp_path / "x.mas"
    file.write_text(source("a!", "a", model="./tiny").text)
    assert said(compile_file(file)) == ["E0502"]
    whole_model(tmp_path / "tiny")
    plan = compile_file(file).require()
    assert plan.models[0].target == str(tmp_path / "tiny")


def test_layers_beyond_the_model(tmp_path: Path) -> None:
    folder = str(whole_model(tmp_path / "m"))
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


@pytest.mark.parametrize("align", ALIGNMENTS)
def test_alignments_on_tied_embeddings(align: str, tmp_path: Path) -> None:
    folder = str(whole_model(tmp_path / "m", tie_word_embeddings=True))
    text = source("a/2 b!", "a -> b : kv", model=folder)
    text = type(text)("x.mas", text.text.replace("think 2", f"think 2 (align = {align})"))
    compilation = compile_source(text)
    assert said(compilation, infos=True) == (["I0502"] if ALIGNMENTS[align].tied else [])
    assert all(f"`align = {align}`" in note.message for note in compilation.diagnostics)
    assert compilation.plan is not None


def test_known_layers_make_reaches_exact(tmp_path: Path) -> None:
    plan = team("a b c!", "a -> b -> c : kv", model=str(whole_model(tmp_path / "m")))
    (loss,) = plan.losses
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
