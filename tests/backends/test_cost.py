"""What `masc cost` says against what programs do: positions, FLOPs, bytes of caches and of what autograd keeps."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from families import MAKES, make_family
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count
from transformers import AutoConfig, AutoModelForCausalLM

from graphs import GRAPHS, fan
from masc.backends.torch.build import build
from masc.backends.torch.model.cache import rounded
from masc.backends.torch.model.prompts import answer_ids, prompt_of
from masc.backends.torch.model.texts import FolderTexts
from masc.backends.torch.program import Program
from masc.compiler.cost import engine
from masc.compiler.cost.anatomy import anatomy
from masc.compiler.cost.cost import Measured, Side, side
from masc.compiler.cost.lengths import Length, widest, widths
from masc.compiler.models.facts import read_config
from masc.compiler.models.families import FAMILIES
from masc.compiler.pipeline import Compilation, compile_source
from masc.dsl.source import Source
from masc.session.costing import measure
from support import chain, make_model, make_other, wake

ROW = {"q": "hello world " * 3, "answer": "y" * 5}
ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
ATTENTION_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class Counter(TorchDispatchMode):
    """FLOPs of the products that are computed within it. `FlopCounterMode` would do, but its hooks on modules forbid a
    gradient that is worked out in a forward pass, as that of the losses is."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        kind = func._overloadpacket
        if kind is ATTENTION:
            self.flops += sdpa_flop_count(*(one.shape for one in args[:3]))
        elif kind is ATTENTION_BACKWARD:
            self.flops += sdpa_backward_flop_count(*(one.shape for one in args[:4]))
        elif kind is torch.ops.aten.addmm_:
            self.flops += 2 * args[1].numel() * args[2].shape[1]
        elif str(kind) == "mkldnn._linear_pointwise":  # where that is faster (`model/products.py`)
            self.flops += 2 * args[0].numel() * args[1].shape[0]
        elif str(kind) == "aten._grouped_mm":
            self.flops += 2 * args[0].numel() * args[1].shape[-1]
        elif kind in flop_registry:
            self.flops += flop_registry[kind](*args, **(kwargs or {}), out_val=out)
        return out


def made(text: str, folder: Path, dtype: str = "float32", **options: Any) -> tuple[Compilation, Program]:
    """A team that says as much as it may."""
    known = text.replace("MODEL", f'"{folder}"').replace("OTHER", f'"{folder.parent / "other"}"')
    compilation = compile_source(Source(str(folder.parent / "x.mas"), known), **options)
    program = build(compilation.require(), folder.parent, dtype=dtype, device="cpu")
    wake(program)
    for base in program.bases.values():
        base.__dict__["stop_ids"] = frozenset()
    return compilation, program


@cache
def graph(name: str, folder: Path) -> tuple[Compilation, Program]:
    """One of the graphs, made once for all tests."""
    return made(GRAPHS[name], folder)


def rows_of(compilation: Compilation, count: int = 1) -> list[dict[str, str]]:
    """Rows of different lengths."""
    plan = compilation.require()
    columns = {*plan.inputs, *(loss.column for loss in plan.losses)}
    return [{name: ROW.get(name, "abc") * (1 + i) for name in columns} for i in range(count)]


def sides(compilation: Compilation, rows: Any, batch: int = 1, dtype: str = "float32") -> tuple[Side, Side]:
    found: Measured = measure(compilation, rows, dtype=dtype)
    running = side(found.team, found.running, "running", batch)
    return running, side(found.team, found.training, "training", batch)


@pytest.mark.parametrize("name", GRAPHS)
def test_positions_and_caches_are_those_of_the_program(name: str, tiny: Path) -> None:
    """Exactly, in training; where nobody reads words, when it runs, too."""
    compilation, program = graph(name, tiny)
    rows = rows_of(compilation)
    running, training = sides(compilation, rows)
    said = {turn.activation for turn in program.plan.unsupervised()}
    forced = program.trace(rows, forced=True)
    if not said:
        assert sum(turn.written.columns for turn in training.turns) == program(rows).positions
    decoded = program.trace(rows)
    words = any(arrival.keeps == "text" for turn in program.plan.turns for arrival in turn.arrives)
    for trace, found, exact in ((forced, training, not said), (decoded, running, not words)):
        for turn in found.turns if exact else ():
            held = trace.turns[turn.activation]
            assert (turn.written.prompt, turn.written.latents) == (held.prompt, held.latent)
            assert turn.cache == sum(k.nbytes + v.nbytes for k, v in zip(held.keys, held.values, strict=True))


ALIKE = ("gates of", "own", "no latents", "stack", "hidden, without", "fuse, stopped", "was fused", "with a shared")
"""What names of graphs have that compute nothing which others do not."""


@pytest.mark.parametrize("name", [n for n in GRAPHS if "text" not in n and not any(word in n for word in ALIKE)])
def test_flops_are_those_that_are_counted(name: str, tiny: Path) -> None:
    """To thousandths, but for fusers, which are counted for the whole prompt."""
    compilation, program = graph(name, tiny)
    program.zero_grad()
    rows = rows_of(compilation)
    program.generate(rows)  # maps are fitted once
    program(rows)  # and modules are tried once
    running, training = sides(compilation, rows)
    with Counter() as counter:
        loss = program(rows).loss
        forward = counter.flops
        loss.backward()
        backward = counter.flops - forward
    with Counter() as decoded:
        program.generate(rows)
    near = 0.04 if "fuse" in name or "kinds" in name else 0.003
    assert training.work.forward == pytest.approx(forward, rel=near)
    assert training.work.backward == pytest.approx(backward, rel=near)
    if "gates" not in name:  # where they are not wide open the exact engine runs; counted is the fast one
        assert running.work.forward == pytest.approx(decoded.flops, rel=near)


def test_slots_are_as_wide_as_counted() -> None:
    assert [engine.wide(n) for n in (1, 64, 65)] == [rounded(n) for n in (1, 64, 65)]


def test_flops_of_what_is_computed_again(tiny: Path) -> None:
    text = GRAPHS["trace"] + "\ntrain { checkpoint agent }"
    compilation, program = made(text, tiny)
    rows = rows_of(compilation)
    loss = program(rows, recompute=True).loss
    with Counter() as counter:
        loss.backward()
    _, training = sides(compilation, rows)
    assert training.work.backward == pytest.approx(counter.flops, rel=0.01)


KEPT = {
    "a chain": chain(("a", 0, "norm"), ("b", 0, "norm"), ("c", 0, "norm")),
    "latents": chain(("a", 5, "norm"), ("b", 5, "norm"), ("c", 0, "norm")),
    "siblings": fan("carry = own, merge = stack"),
    "attention alone": chain(("a", 3, "norm"), ("b", 0, "norm"), adapt="lora(rank = 4, targets = attention)"),
    "dropout": chain(("a", 3, "norm"), ("b", 0, "norm"), adapt="lora(rank = 4, dropout = 0.1)"),
}
LARGER = {"hidden_size": 64, "intermediate_size": 160, "num_attention_heads": 8, "num_hidden_layers": 4}


def kept(program: Program, rows: Any) -> int:
    """Bytes that autograd keeps of a forward pass, but for weights."""
    own = {parameter.untyped_storage().data_ptr() for parameter in program.parameters()}
    found: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = tensor  # held, so that no other takes its place
        return tensor

    program.train()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        program(rows)
    return sum(tensor.untyped_storage().nbytes() for tensor in found.values())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept_for_the_backward_pass(name: str, batch: int, dtype: str, tmp_path: Path) -> None:
    compilation, program = made(KEPT[name], make_model(tmp_path / "m", **LARGER), dtype)
    rows = rows_of(compilation, batch)
    assert _said(compilation, rows, dtype) == pytest.approx(kept(program, rows), rel=0.06)


COUNTED = [kind for kind, family in FAMILIES.items() if family.parts]
SOME = ["apertus", "cohere2", "exaone4", "gemma2", "gemma3_text", "glm4", "gpt_neox", "hunyuan_v1_dense", "mistral"]
SOME += ["gpt_oss", "mixtral", "nemotron", "olmo2", "persimmon", "phi", "phi3", "qwen3", "qwen3_moe"]
"""Types between which all stands that is declared for their cost."""


SAID = [
    ("stablelm", {"use_parallel_residual": True, "qk_layernorm": True}),
    ("cohere", {"use_qk_norm": True}),
    ("hyperclovax", {"use_post_norm": False}),
    ("gemma2", {"attn_logit_softcapping": None}),
    ("granite", {"attn_logit_softcapping": 0.0}),
]
"""What config.json says otherwise than a type has it, or that it does not heed."""


@pytest.mark.parametrize(("kind", "said"), [*((kind, {}) for kind in SOME), *SAID])
def test_what_other_types_keep_and_compute(kind: str, said: dict[str, Any], tmp_path: Path) -> None:
    every = kind in ("gpt_neox", "olmo2", "persimmon")
    changes: dict[str, Any] = {**LARGER, "head_dim": 8, "num_key_value_heads": 8 if every else 2}
    if "layer_types" in MAKES[kind]:
        changes["layer_types"] = ["sliding_attention", "full_attention"] * 2
    compilation, program = made(KEPT["latents"], make_family(tmp_path / "m", kind, **changes, **said))
    rows = rows_of(compilation, 2)
    assert _said(compilation, rows, "float32") == pytest.approx(kept(program, rows), rel=0.14)
    program(rows)  # modules are tried once
    with Counter() as counter:
        loss = program(rows[:1]).loss
        forward = counter.flops
        loss.backward()
    _, training = sides(compilation, rows[:1])
    assert training.work.forward == pytest.approx(forward, rel=0.003)
    assert training.work.backward == pytest.approx(counter.flops - forward, rel=0.003)


def _said(compilation: Compilation, rows: Any, dtype: str) -> float:
    """What cost says of the same: activations, caches that grow in place, and the log-softmax of the logits."""
    _, training = sides(compilation, rows, len(rows), dtype)
    answers = sum(turn.written.answer for turn in training.turns)
    vocabulary = next(iter(measure(compilation, rows).team.anatomies.values())).vocabulary
    longest = max(len(row["answer"]) for row in rows) + 1
    assert answers <= longest
    caches = [turn.written.seen + turn.written.columns for turn in training.turns if turn.written.grows]
    sizes = next(iter(measure(compilation, rows).team.anatomies.values()))
    width = 4 if dtype == "float32" else 2
    grown = len(rows) * sum(caches) * sizes.cached * width  # counted among the caches
    return training.memory.kept + grown + len(rows) * longest * vocabulary * 4


def test_the_documents_say_how_many_are_counted() -> None:
    docs = Path(__file__).parents[2] / "docs"
    for name in ("cost.md", "limits.md"):
        assert f"{len(COUNTED)} types: those" in (docs / name).read_text(encoding="utf-8"), name


def test_sizes_that_are_none(tmp_path: Path) -> None:
    """And those of a model that also sees, which stand in a part of their own."""
    folder = make_family(tmp_path / "m", "cohere")
    config, facts = json.loads((folder / "config.json").read_text()), read_config(folder)
    usual = anatomy(folder, facts)
    for name in ("vocab_size", "intermediate_size"):
        for value in (0, -3, True, "7", None, 10**30):
            (folder / "config.json").write_text(json.dumps(config | {name: value}))
            assert anatomy(folder, facts) is None, (name, value)
    for text, found in ((config, usual), ("no text", None)):
        (folder / "config.json").write_text(json.dumps({"model_type": "sees", "text_config": text}))
        assert anatomy(folder, facts) == found


@pytest.mark.parametrize("kind", COUNTED)
def test_what_is_declared_of_a_block_is_there(kind: str, tmp_path: Path) -> None:
    folder = make_family(tmp_path / "m", kind)
    facts = read_config(folder)
    found, config = anatomy(folder, facts), AutoConfig.for_model(kind)
    assert found is not None
    model = AutoModelForCausalLM.from_pretrained(folder)
    block = model.get_decoder().layers[0]
    held = {name.rpartition(".")[2]: module for name, module in block.named_modules()}
    assert (found.experts is not None) == any(parameter.dim() == 3 for parameter in block.parameters())
    assert found.projections == {
        name: (module.in_features, module.out_features)
        for name, module in held.items()
        if isinstance(module, torch.nn.Linear)
    }
    norms = [name for name, module in block.named_modules() if "norm" in type(module).__name__.lower()]
    of_heads = [name for name in norms if name.startswith("self_attn.")]
    assert (found.norms, found.normed) == (len(norms) - len(of_heads), bool(of_heads))
    assert (found.scored == 2) == (getattr(config, "attn_logit_softcapping", None) is not None)
    assert FAMILIES[kind].softcap == getattr(config, "attn_logit_softcapping", None)
    assert (found.scored == 1) == any(name.endswith("sinks") for name, _ in block.named_parameters())
    numbers = sum(p.numel() for name, p in model.named_parameters() if not name.endswith("bias"))
    assert found.parameters == pytest.approx(numbers, rel=0.02)


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma3_text", "olmo2"])
@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_those_of_the_module(kind: str, tied: bool, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m", kind, tie_word_embeddings=tied)
    compilation, program = made(chain(("a", 2, "linear"), ("b", 0, "norm")), folder)
    found = anatomy(folder, read_config(folder))
    assert found is not None
    trained = program.trainable()
    frozen = sum(p.numel() for p in program.parameters() if all(p is not t for t in trained.values()))
    assert found.parameters == frozen
    assert measure(compilation, []).team.trained == sum(parameter.numel() for parameter in trained.values())


@pytest.mark.parametrize("name", ["hidden between two models", "fuse between two models", "a shared adapter"])
def test_what_is_trained_is_counted(name: str, tiny: Path) -> None:
    compilation, program = graph(name, tiny)
    counted = measure(compilation, rows_of(compilation)).team.trained
    assert counted == sum(parameter.numel() for parameter in program.trainable().values())


def test_a_cached_position_is_as_large_as_it_is(tmp_path: Path) -> None:
    """In bfloat16, and of heads that are not as wide as the model."""
    folder = make_model(tmp_path / "m", head_dim=24)
    compilation, program = made(GRAPHS["trace"], folder, "bfloat16")
    rows = rows_of(compilation)
    running, _ = sides(compilation, rows, dtype="bfloat16")
    trace = program.trace(rows)
    held = [tensor for turn in trace.turns.values() for tensor in (*turn.keys, *turn.values)]
    assert running.cache == sum(tensor.nbytes for tensor in held)


def test_a_folder_tokenises_as_its_model_does(tiny: Path) -> None:
    _, program = made(GRAPHS["text"], tiny)
    base, texts = program.base("b"), FolderTexts(program.base("b").folder)
    contents = {"q": "a <|im_end|> b\n", "a": "said é"}
    agent = program.plan.agent("b")
    assert prompt_of(base, agent, contents).ids == prompt_of(texts, agent, contents).ids
    assert answer_ids(base, "yes <|im_start|> 12") == answer_ids(texts, "yes <|im_start|> 12")


@pytest.mark.parametrize("template", [None, "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"])
def test_a_folder_without_the_usual_template(template: str | None, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m", template=template)
    make_other(tmp_path / "other")
    _, program = made(GRAPHS["trace"], folder)
    base, texts, agent = program.base("c"), FolderTexts(folder), program.plan.agent("c")
    assert prompt_of(base, agent, {"q": "x y"}).ids == prompt_of(texts, agent, {"q": "x y"}).ids
    assert answer_ids(base, "z") == answer_ids(texts, "z")


def test_the_longest_of_a_batch_is_that_of_all_batches() -> None:
    """The mean of the longest over every batch that could be drawn."""
    from itertools import combinations

    rows = [{"a": Length(n, 2 * n)} for n in (3, 9, 4, 4, 7)]
    for size in range(1, 6):
        drawn = list(combinations([3, 9, 4, 4, 7], size))
        mean = sum(map(max, drawn)) / len(drawn)
        assert [one["a"].prompt for one in widths(rows, size)] == [round(mean)]
    assert widest(rows)["a"] == Length(9, 18)
    assert [one["a"].prompt for one in widths(rows, 2, 4)] == [4, 4, 7, 9]


def test_batches_of_rows_of_equal_length_are_as_wide_as_all_that_could_be_drawn() -> None:
    from itertools import combinations

    found = [30, 91, 47, 41, 75]
    drawn = [sorted(some) for some in combinations(found, 4)]
    means = [round(sum(some[place] for some in drawn) / len(drawn)) for place in (1, 3)]
    rows = [{"a": Length(n, 2 * n)} for n in found]
    assert [one["a"].prompt for one in widths(rows, 2, 2)] == means


def test_memory_grows_with_the_batch_and_fits_what_it_says(tiny: Path) -> None:
    from masc.compiler.cost.cost import memory, most_rows

    compilation, _ = graph("rounds", tiny)
    found = measure(compilation, rows_of(compilation, 3))
    for doing, lengths in (("running", found.running), ("training", found.training)):
        peaks = [memory(found.team, lengths, doing, batch).least for batch in range(1, 40)]
        assert peaks == sorted(peaks)
        assert most_rows(found.team, lengths, doing, peaks[20]) == 21
        assert most_rows(found.team, lengths, doing, peaks[0] - 1) == 0


def test_slots_of_siblings_are_counted_for_each(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Side by side they are rows of one batch, each of which has a slot."""
    from masc.backends.torch.model.cache import Slots

    made_of: dict[int, int] = {}
    known = Slots.reserve

    def noted(self: Slots, columns: int) -> None:
        known(self, columns)
        made_of[id(self)] = sum(one.nbytes for one in self.kv)

    monkeypatch.setattr(Slots, "reserve", noted)
    compilation, program = made(fan("carry = own, merge = stack"), tiny)
    rows = rows_of(compilation, 4)
    program.generate(rows)
    running, _ = sides(compilation, rows, 4)
    left = 4 * sum(turn.cache for turn in running.turns[:-1])
    assert running.memory.caches - left == pytest.approx(sum(made_of.values()), rel=0.15)


@pytest.mark.parametrize("kind", ["none", "one", "siblings"])
def test_copies_are_those_that_are_made(kind: str, tiny: Path) -> None:
    plain, own = chain(("a", 2, "norm"), ("b", 0, "norm"), adapt="none"), "lora(rank = 4, alpha = 8)"
    text = {
        "none": plain,
        "one": f" adapt {own} ".join(plain.rsplit(" adapt none ", 1)),
        "siblings": fan("carry = own", think=1),
    }[kind]
    compilation, program = made(text, tiny)
    rows = rows_of(compilation)
    found: Measured = measure(compilation, rows, dtype="float32")
    running = side(found.team, found.running, "running", 1)
    program.generate(rows)
    kept = [copy.size for base in program.bases.values() for copy in base.folded._kept.values()]
    assert running.memory.folded == sum(kept) > 0
    assert len(kept) == {"none": 1, "one": 2, "siblings": 2}[kind]
