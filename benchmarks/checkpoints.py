"""Checkpoints that another library has quantised: `python benchmarks/checkpoints.py [KIND ...]`.

A tiny model is quantised and saved by the library that is meant for that (`pip install torchao gptqmodel optimum`);
then a team is trained over the checkpoint, and beside it over plain weights: those that the quantised ones stand for.
Loss and gradients must agree, no gradient may be missing, and the fast engine must say what the exact one says.

Exit code 1 where that is not so; what cannot be quantised here is told, and left out.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

NEAR = 1e-4
WORDS = [f"hello {i} some words to calibrate with, and more of them {i * i}" for i in range(64)]


def torchao(plain: Path, out: Path, how: str) -> None:
    from torchao import quantization
    from transformers import AutoModelForCausalLM, AutoTokenizer, TorchAoConfig

    asked = TorchAoConfig(getattr(quantization, how)())
    AutoModelForCausalLM.from_pretrained(plain, quantization_config=asked, dtype=torch.float32).save_pretrained(out)
    AutoTokenizer.from_pretrained(plain).save_pretrained(out)


def gptqmodel(plain: Path, out: Path, **options: Any) -> None:
    os.cpu_count = lambda: 8  # it asks for more threads than it allows itself on two cores
    from gptqmodel import GPTQModel, QuantizeConfig

    model = GPTQModel.load(str(plain), QuantizeConfig(bits=4, group_size=32, **options), device="cpu")
    model.quantize(WORDS, batch_size=4)
    model.save(str(out))


KINDS = {
    "torchao int8": lambda plain, out: torchao(plain, out, "Int8WeightOnlyConfig"),
    "torchao float8": lambda plain, out: torchao(plain, out, "Float8WeightOnlyConfig"),
    "gptq": lambda plain, out: gptqmodel(plain, out),
    "awq": lambda plain, out: gptqmodel(plain, out, quant_method="awq", format="gemm"),
}


def plain_of(program: Any, folder: Path, text: str) -> Any:
    """The same team over plain weights."""
    from support import make_program

    plain, base = make_program(text, folder), program.base("a")
    own, names = dict(base.model.named_parameters()), {module: name for name, module in base.model.named_modules()}
    copy = plain.base("a").model
    with torch.no_grad(), base.applying(None):
        for name, value in copy.named_parameters():
            if name in own and "base_layer" not in name:  # rounded, too, by who wrote the checkpoint
                value.copy_(own[name])
        for layer in base.adapted:
            inner = layer.get_base_layer()
            bias = 0 if getattr(inner, "bias", None) is None else inner.bias
            copy.get_submodule(names[layer]).get_base_layer().weight.copy_(
                (inner(torch.eye(layer.in_features)) - bias).t()
            )
        for name, value in plain.trainable().items():
            value.copy_(program.trainable()[name])
    return plain


def looked_at(kind: str, folder: Path) -> bool:
    from support import ROWS, chain, make_model, make_program

    width = 256  # as narrow as AWQ's search allows
    shape = {"hidden_size": width, "intermediate_size": 2 * width, "head_dim": width // 4, "num_key_value_heads": 4}
    plain = make_model(folder / "plain", initializer_range=0.05, **shape)
    out = folder / "quantised"
    KINDS[kind](plain, out)
    text = chain(("a", 2, "norm"), ("b", 0, "norm"))
    program = make_program(text, out)
    losses, slopes = [], []
    for one in (program, plain_of(program, plain, text)):
        loss = one(ROWS).loss
        loss.backward()
        losses.append(float(loss.detach()))
        slopes.append({name: value.grad for name, value in one.trainable().items()})
    first, second = slopes
    missing = [name for name, slope in first.items() if slope is None or not slope.any()]
    apart = max(float((first[n] - second[n]).norm() / second[n].norm()) for n in first if n not in missing)
    same = program.generate(ROWS) == program.generate(ROWS, engine="exact")
    print(
        f"{kind:<16}{program.base('a').held:<24}loss {abs(losses[0] - losses[1]):.0e} apart, gradients {apart:.0e}, "
        f"{len(missing)} of {len(first)} missing; engines {'agree' if same else 'DIFFER'}",
        flush=True,
    )
    return abs(losses[0] - losses[1]) < NEAR and apart < NEAR and not missing and same


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)} (all)")
    kinds = parser.parse_args().kinds or list(KINDS)
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        parser.error(f"there is no `{unknown[0]}`: the kinds are {', '.join(KINDS)}")
    sound = True
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder:
            try:
                sound &= looked_at(kind, Path(folder))
            except ImportError as error:
                print(f"{kind:<16}not tried: {error}")
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
