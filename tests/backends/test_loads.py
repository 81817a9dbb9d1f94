"""How a model is loaded: dtypes and devices of its own, quantised weights, and what its chat template is told."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from masc.backends.torch.build import build
from masc.backends.torch.model.base import Base
from masc.backends.torch.model.export import write_merged
from masc.backends.torch.model.fetch import resolve
from masc.backends.torch.model.loading import bytes_of, load
from masc.backends.torch.model.segments import Segment
from masc.compiler.cost.anatomy import anatomy
from masc.compiler.cost.cost import Team
from masc.compiler.ir.model import Loading
from masc.compiler.models.facts import read_config
from masc.compiler.models.locate import check_model, look_into
from masc.compiler.pipeline import compile_source
from masc.dsl.diagnostics import MascError
from masc.dsl.source import Source
from support import ROWS, TEMPLATE, chain, compile_plan, make_model, make_program

HERE = {name: importlib.util.find_spec(name) is not None for name in ("bitsandbytes", "torchao")}
needs = {name: pytest.mark.skipif(not there, reason=f"{name} is not installed") for name, there in HERE.items()}
HELD = [pytest.param(load, marks=needs[lib]) for load, lib in
        (("nf4", "bitsandbytes"), ("int8", "bitsandbytes"), ("float8", "torchao"))]  # fmt: skip
TEXT = chain(("a", 2, "norm"), ("b", 0, "norm"))


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose projections are whole blocks of 64 numbers."""
    return make_model(tmp_path_factory.mktemp("wide") / "m", hidden_size=64, intermediate_size=128, head_dim=16)


def loaded(folder: Path, said: str, text: str = TEXT, **options: Any) -> Any:
    return make_program(text.replace("model m = MODEL", f"model m = MODEL ({said})"), folder, **options)


def numbers(base: Base) -> dict[str, Tensor]:
    """What the weights of the projections stand for, by name of the module."""
    found = {}
    for layer in base.adapted:
        eye = torch.eye(layer.in_features)
        with base.applying(None), torch.no_grad():
            found[layer] = layer.get_base_layer()(eye).t() - _bias(layer)
    names = {module: name for name, module in base.model.named_modules()}
    return {names[layer]: weight for layer, weight in found.items()}


def _bias(layer: Any) -> Any:
    bias = layer.get_base_layer().bias
    return 0 if bias is None else bias[:, None]


def like(program: Any, folder: Path) -> Any:
    """The same program over plain weights: those that the quantised ones stand for."""
    plain, weights = make_program(TEXT, folder), numbers(program.base("a"))
    for name, module in plain.base("a").model.named_modules():
        if name in weights:
            module.get_base_layer().weight.data.copy_(weights[name])
    return plain


@pytest.mark.parametrize("said", HELD)
def test_quantised_weights_train_as_what_they_stand_for(wide: Path, said: str) -> None:
    """Loss and all gradients are those over plain weights of the same values, but for int8, which rounds what goes into
    each projection as well."""
    program = loaded(wide, f"load = {said}")
    plain = like(program, wide)
    assert program.base("a").held == f"float32 and {said}"
    near = {"rtol": 0.2, "atol": 0.05} if said == "int8" else {"rtol": 1e-3, "atol": 1e-4}
    losses, gradients = [], []
    for one in (program, plain):
        loss = one(ROWS).loss
        loss.backward()
        losses.append(loss.detach())
        gradients.append({name: p.grad for name, p in one.trainable().items()})
    torch.testing.assert_close(*losses, **near)
    assert all(grad is not None and grad.abs().sum() > 0 for grad in gradients[0].values())
    if said != "int8":
        torch.testing.assert_close(*gradients, **near)
    assert not [n for n, p in program.named_parameters() if p.grad is not None and n not in program.trainable()]


@needs["bitsandbytes"]
def test_the_fast_engine_says_the_same(wide: Path) -> None:
    """Without copies: nothing is folded into quantised weights."""
    program = loaded(wide, "load = nf4")
    assert program.base("a").folded.of(program.base("a").groups, "b") is None
    assert program.generate(ROWS) == program.generate(ROWS, engine="exact")


@needs["bitsandbytes"]
@pytest.mark.parametrize("said", ["nf4", "int8", "bfloat16"])
def test_cost_counts_the_bytes(wide: Path, said: str) -> None:
    text = (
        f'mas 1 model m = "{wide}" (load = {said}) agent a on m {{ user "{{q}}" answer }} graph g(q) -> answer {{ a }}'
    )
    plan = compile_source(Source("x.mas", text)).require()
    sizes = anatomy(wide, read_config(wide))
    assert sizes is not None
    team = Team(plan, {"m": sizes}, {}, "float32")
    own = Base(wide, torch.float32, said)
    model = own.model
    rotary = sum(buffer.numel() * 4 for name, buffer in model.named_buffers() if "inv_freq" in name)
    assert team.weights == pytest.approx(bytes_of(model) - rotary, rel=0.03)
    assert (team.folded == 0) == (said != "bfloat16")


@needs["bitsandbytes"]
def test_a_checkpoint_that_is_quantised(wide: Path, tmp_path: Path) -> None:
    """It is loaded as it says, exported as what it stands for, and quantised no second time."""
    program = loaded(wide, "load = nf4")
    model, tokenizer = load(wide, torch.float32, "nf4")
    model.save_pretrained(tmp_path / "packed")
    tokenizer.save_pretrained(tmp_path / "packed")
    again = make_program(TEXT, tmp_path / "packed")
    assert again.base("a").held == "float32 and bitsandbytes"
    torch.testing.assert_close(again(ROWS).loss, program(ROWS).loss)
    write_merged(again.base("b"), again.plan.agent("b"), tmp_path / "merged", torch.float32)
    merged, _ = load(tmp_path / "merged", torch.float32)
    base, ids = again.base("b"), torch.arange(3, 12)[None]
    with base.applying("b"), torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, base.model(ids).logits, rtol=1e-3, atol=1e-4)
    facts, found = look_into(tmp_path / "packed", "m", loading=Loading(load="int8"))
    assert facts is not None
    assert facts.method == "bitsandbytes"
    assert [d.code for d in found] == ["E0542"]


@pytest.mark.parametrize(
    ("config", "said", "codes", "hint"),
    [
        (None, "nf4", ["E0541"], "masc-lang[quant]"),
        (None, "float8", ["E0541"], "masc-lang[quant]"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, None, ["E0541"], "masc-lang[quant]"),
        ({"quant_method": "gptq", "bits": 4}, None, ["E0541"], "pip install gptqmodel optimum"),
        ({"quant_method": "awq", "bits": 4}, None, ["E0541"], "pip install gptqmodel"),
        ({"quant_method": "mxfp4"}, None, ["E0533"], "load = nf4"),
    ],
)
def test_a_library_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Any, said: str | None, codes: list[str], hint: str
) -> None:
    folder = make_model(tmp_path / "m")
    if config is not None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": config}))
    monkeypatch.setattr("masc.compiler.models.locate.find_spec", lambda name: None)
    _, found = check_model(str(folder), Path(), loading=Loading(load=said))
    assert [d.code for d in found] == codes
    assert hint in (found[0].hint or "")


def test_dtypes_of_their_own(tiny: Path) -> None:
    """What a model says counts more than what the caller says; between two dtypes a link casts, gradients come back."""
    text = """
    mas 1
    model m = MODEL
    model n = MODEL (load = bfloat16, device = "cpu")
    agent a on m { user "{q}" think 1 adapt lora(rank = 4) }
    agent b on n { user "{a} {q}" adapt lora(rank = 4) answer (max_tokens = 4) }
    graph g(q) -> answer { a -> b : hidden }
    """
    program = make_program(text, tiny)
    assert [program.base(name).held for name in "ab"] == ["float32", "bfloat16"]
    assert program.base("a") is not program.base("b")
    program(ROWS).loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in program.trainable().values())
    assert program.generate(ROWS[:1], engine="exact")


def test_a_device_that_is_not_there(tiny: Path) -> None:
    plan = compile_plan(TEXT.replace("MODEL", 'MODEL (device = "cuda:99")'), tiny)
    with pytest.raises(MascError) as caught:
        build(plan, tiny.parent)
    assert [d.code for d in caught.value.diagnostics] == ["E0559"]
    with pytest.raises(MascError) as caught:
        resolve(str(tiny), Path(), revision="main")
    assert [d.code for d in caught.value.diagnostics] == ["E0539"]


def test_a_segment_moves_whole() -> None:
    """Every tensor of it; and where it is there already, it is the same object. (A device without numbers stands in for
    one that this machine has not.)"""
    kv = tuple((torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 4)) for _ in range(2))
    real, start, hidden = torch.ones(1, 3, dtype=torch.bool), torch.zeros(1, dtype=torch.long), torch.ones(1, 3, 8)
    segment = Segment(kv, real, start, 2, 1, hidden, torch.ones(1, 2))
    assert segment.to(torch.device("cpu")) is segment
    moved = segment.to(torch.device("meta"))
    tensors = [*(each for pair in moved.layers for each in pair), moved.real, moved.start, moved.hidden, moved.gate]
    assert {each.device.type for each in tensors if each is not None} == {"meta"}
    assert len(tensors) == 8


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no second device")
@pytest.mark.parametrize("edge", ["hidden", "fuse"])
def test_two_models_on_two_devices(tiny: Path, edge: str) -> None:
    """Loss and gradients are those on one device."""
    text = """
    mas 1
    model m = MODEL
    model n = OTHER PLACE
    agent a on m { user "{q}" think 1 adapt lora(rank = 4) }
    agent b on n { user "{q}" adapt lora(rank = 4) answer (max_tokens = 4) }
    graph g(q) -> answer { a -> b : EDGE }
    """.replace("EDGE", edge)
    apart, near = (make_program(text.replace("PLACE", place), tiny) for place in ('(device = "cuda")', ""))
    assert apart.base("b").device.type == "cuda"
    losses = [one(ROWS).loss for one in (apart, near)]
    for loss in losses:
        loss.backward()
    torch.testing.assert_close(losses[0].cpu(), losses[1], rtol=1e-3, atol=1e-4)
    for name, parameter in near.trainable().items():
        torch.testing.assert_close(apart.trainable()[name].grad.cpu(), parameter.grad, rtol=1e-2, atol=1e-3)
    assert apart.generate(ROWS) == near.generate(ROWS)


THINKS = (
    TEMPLATE + "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n{% endif %}{{ tone }}"
)


def test_what_a_chat_template_is_told(tmp_path: Path) -> None:
    """False where nobody says otherwise, then as the model says, then as the agent says."""
    folder = make_model(tmp_path / "m", template=THINKS)
    text = """
    mas 1
    model m = MODEL
    model n = MODEL (template = (enable_thinking = true, tone = "dry"))
    agent silent on m { user "{q}" think 1 }
    agent loud on n { user "{q}" think 1 }
    agent own on n { user "{q}" template (enable_thinking = false) answer }
    graph g(q) -> answer { silent -> loud -> own : kv }
    """
    program = make_program(text, folder)
    assert len(program.bases) == 1
    prompts = {turn.agent: turn.prompts[0] for turn in program.trace(ROWS[:1]).turns.values()}
    ends = {name: prompt.rpartition("assistant\n")[2] for name, prompt in prompts.items()}
    assert ends == {"silent": "<think>\n\n</think>\n", "loud": "dry", "own": "<think>\n\n</think>\ndry"}
    known = text.replace("MODEL", f'"{folder}"')
    told = [d.code for d in compile_source(Source("x.mas", known)).diagnostics]
    assert told == ["I0504"]  # of `m`; `n` says it
    wrong = compile_source(Source("x.mas", known.replace("tone =", "tune =")))
    assert [(d.code, d.hint) for d in wrong.diagnostics if d.code[0] == "E"] == [("E0540", "did you mean `tone`?")]
