"""Products of few rows are torch's own to rounding, whichever library computes them, and run where they are faster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from counting import counted
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from torch.nn import functional

from graphs import fan
from masc.backends.torch.model import products
from masc.backends.torch.model.applying import Bare
from masc.backends.torch.model.folded import Copied, Folded
from masc.backends.torch.model.joint import joint
from support import ROWS, chain, make_program

ONEDNN = "mkldnn._linear_pointwise.default"
here = pytest.mark.skipif(products._operator() is None, reason="torch was built without oneDNN")


@pytest.fixture(params=[1, 2])
def threads(request: Any) -> Iterator[int]:
    """As many of torch's, of which a machine need not have so many."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture
def two() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def near(found: Tensor, wanted: Tensor) -> bool:
    """wanted: in float64."""
    return found.shape == wanted.shape and bool((found - wanted).norm() <= 1e-6 * wanted.norm())


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 16, 24, 25, 70])
@pytest.mark.parametrize("shape", [(40, 24), (24, 40), (1024, 520)])
def test_products_are_those_of_float64(rows: int, shape: tuple[int, int], threads: int) -> None:
    out, width = shape
    x, weight, gradient = drawn(rows, width), drawn(out, width), drawn(rows, out)
    whole, other = x.double() @ weight.double().t(), gradient.double() @ weight.double()
    before = weight.clone()
    assert near(products.across(x, weight.t()), whole)
    assert products.across(x, weight.t()).is_contiguous()
    assert near(products.back(gradient, weight), other)
    matrix, bias = drawn(rows, out), drawn(out)
    known = matrix.clone()
    assert near(products.across(x, weight.t(), matrix), whole + matrix)
    assert near(products.across(x, weight.t(), bias), whole + bias)
    onto = drawn(rows, width)
    assert near(products.back(gradient, weight, onto.clone()), other + onto)
    assert torch.equal(weight, before), "the weight is changed"
    assert torch.equal(matrix, known), "what is added is changed"


@pytest.mark.parametrize("rows", [0, 1, 3, 80])
def test_copies_compute_what_a_linear_layer_does(rows: int, threads: int) -> None:
    x, weight, bias, onto = drawn(rows, 24), drawn(40, 24), drawn(40), drawn(rows, 40)
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        for own in (None, bias):
            given = None if own is None else own.to(dtype)
            computed = products.packed(weight.to(dtype), given)
            wanted = functional.linear(x.double(), weight.double(), None if own is None else own.double())
            size = 1e-5 if dtype != torch.bfloat16 else 0.05
            assert torch.allclose(computed(x.to(dtype), None).double(), wanted, atol=size, rtol=size)
            added = onto.to(dtype)
            assert torch.allclose(computed(x.to(dtype), added).double(), wanted + onto, atol=size, rtol=size)
            assert torch.equal(added, onto.to(dtype))


@here
def test_only_few_rows_on_several_cores_are_not_torch_s_own(two: None) -> None:
    def by_onednn(rows: int, out: int = 40, dtype: torch.dtype = torch.float32) -> bool:
        x, weight = drawn(rows, 24).to(dtype), drawn(out, 24).to(dtype)
        with counted() as found:
            products.back(drawn(rows, out).to(dtype), weight)
            products.across(x, weight.t())
        return found[ONEDNN] > 0

    assert by_onednn(2)
    assert by_onednn(24)
    assert not by_onednn(1), "a single row is as fast on one core"
    assert by_onednn(1, out=30_000), "with a large matrix it is not"
    assert not by_onednn(25)
    assert not by_onednn(4, dtype=torch.bfloat16)
    assert not by_onednn(4, dtype=torch.float64)
    torch.set_num_threads(1)
    assert not by_onednn(4)


def test_a_layer_computes_itself_where_it_is_watched_or_learns(two: None) -> None:
    layer, x = nn.Linear(24, 40), drawn(3, 24)
    computed = products.linear(layer)
    found = computed(x)
    assert found.grad_fn is not None
    seen: list[Any] = []
    with torch.no_grad():
        assert torch.allclose(computed(x), found, atol=1e-6)
        layer.register_forward_hook(lambda *given: seen.append(given))
        computed(x)
    assert len(seen) == 1
    table = nn.Embedding(3, 4)
    assert products.linear(table) is table


def test_answers_and_gradients_are_those_of_one_core(tiny: Path, two: None) -> None:
    """Latent steps of four rows, forward and backward; and siblings in one batch, each under its own adapter."""
    program = make_program(chain(("a", 3, "norm"), ("b", 2, "norm"), ("c", 0, "norm")), tiny)
    found = []
    for count in (1, 2):
        torch.set_num_threads(count)
        with counted() as asked:
            program(ROWS).loss.backward()
        assert (asked[ONEDNN] > 0) == (count == 2 and products._operator() is not None)
        found.append({name: p.grad.clone() for name, p in program.trainable().items() if p.grad is not None})
        program.zero_grad()
    one, other = found
    assert one.keys() == other.keys() == program.trainable().keys()
    assert all((one[name] - other[name]).norm() <= 1e-4 * one[name].norm() for name in one)


def test_siblings_run_over_a_copy_of_the_base(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is memory for one; and over another when the base's weights are others."""
    program = make_program(fan("carry = trace, merge = stack", think=2), tiny)
    (base,) = program.bases.values()
    store: Folded = base.folded

    def check(copied: bool) -> None:
        found, other = program.say(ROWS), program.say(ROWS, engine="exact")
        assert [one["answer"].ids for one in found] == [one["answer"].ids for one in other]
        assert (None in store._kept) == (copied and products._operator() is not None)

    check(True)
    layer: Any = base.adapted[0].get_base_layer()
    with torch.no_grad():
        layer.weight.mul_(-3)
    check(True)
    layer.weight.data.mul_(-0.5)  # torch keeps no count of this
    check(True)
    program.free()
    monkeypatch.setattr("masc.backends.torch.model.folded.free_memory", lambda device: 0)
    check(False)


def test_a_copy_follows_the_bias() -> None:
    """A model with biases on its projections: what is changed there is seen."""
    layers = [nn.Linear(24, 40), nn.Linear(24, 8)]
    whole = nn.ModuleDict({"q_proj": layers[0], "k_proj": layers[1]})
    inject_adapter_in_model(LoraConfig(r=2, target_modules=["q_proj", "k_proj"]), whole, adapter_name="a")
    sheets: list[Any] = list(whole.values())
    store, x = Folded(), drawn(3, 24)
    for change in (lambda bias: None, lambda bias: bias.add_(1), lambda bias: bias.data.mul_(3)):
        with torch.no_grad():
            change(layers[1].bias)
            for found in (store.of([sheets], "a"), store.bare([sheets])):
                assert found is not None
                for sheet, layer in zip(sheets, layers, strict=True):
                    assert torch.allclose(found[sheet](x), layer(x), atol=1e-5)


def test_adapters_that_peft_computes_are_not_put_together() -> None:
    with pytest.raises(ValueError, match="cannot be computed in one batch"):
        joint([{}, {}])


@here
@pytest.mark.parametrize("adapt", ["none", "lora(rank = 4, targets = attention)"])
def test_projections_without_adapters_are_copied_too(adapt: str, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no adapter is applied; what is left out beside a folded one has none."""
    program = make_program(chain(("a", 2, "norm"), ("b", 0, "norm"), adapt=adapt), tiny)
    base = program.base("a")
    assert sum(map(len, base.groups)) == 7 * base.layers
    assert any(isinstance(layer, Bare) for group in base.groups for layer in group)
    exact = [program.say([row], engine="exact")[0]["answer"].tokens for row in ROWS]
    computed: list[int] = []
    whole = Copied.forward

    def noted(self: Copied, x: Tensor, onto: Tensor | None = None) -> tuple[Tensor, Tensor]:
        computed.append(len(self.layers))
        return whole(self, x, onto)

    monkeypatch.setattr(Copied, "forward", noted)
    assert [program.say([row])[0]["answer"].tokens for row in ROWS] == exact
    assert set(computed) == ({1, 2, 3} if adapt == "none" else {1, 3})
    with torch.no_grad():
        plain = program.base("a").folded.bare(base.groups)
        for group in base.groups:
            for layer in group:
                own = layer.get_base_layer()
                y = drawn(3, own.in_features)
                assert torch.allclose(plain[layer](y), functional.linear(y, own.weight, own.bias), atol=1e-5)
    assert {2, 3} <= set(computed)
