"""Whether a card holds a team as masc loads it from a folder, and whether types of models are what masc takes them for
on this device."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from device import Device
from figures import AGENTS, ANSWER
from random_models import Shape, random_model, tokenizer
from random_teams import chain, program, rows

import masc
from masc.backends.torch.proving.prove import prove
from masc.compiler.models.proof import KV

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "helpers"))
from families import make_family

TYPES = (
    "qwen3",
    "gpt_oss",
    "gemma3_text",
    "qwen3_moe",
    "deepseek_v3",
    "llama",
    "olmo3",
    "cohere2",
    "phi3",
    "qwen3_5_text",
)
"""Types that are built in different ways: sinks, windows, caps, experts, latent attention, layers without rotation,
fused projections, states."""
HELD = (("nf4", 24), ("bfloat16", 80))
"""How the base is held, and how many GB of the card's memory may be used."""

Parts = Iterator[tuple[str, Callable[[], Mapping[str, Any]]]]


def proofs(device: Device, toy: bool) -> Parts:
    """The proof of each type in float32. toy: of one."""
    for kind in TYPES[:1] if toy else TYPES:
        yield kind, partial(_proof, device, kind)


def _proof(device: Device, kind: str) -> Mapping[str, Any]:
    """The largest figure of each kind of identity; wrong: what does not hold."""
    proof = prove(make_family(device.folder / kind, kind), "float32", device.name)
    figures = {one.name: one.figure for one in proof.identities if one.figure is not None}
    return {**figures, "wrong": [one.name for one in proof.failed(KV)]}


def fits(device: Device, shape: Shape, toy: bool) -> Parts:
    """Four agents on a model in a folder, held in a way, train and answer within so much memory. toy: held as it is."""
    for load, most in (("float32", 24),) if toy else HELD:
        yield f"{load} in {most} GB", partial(_fits, device, shape, load, most)


def _fits(device: Device, shape: Shape, load: str, most: int) -> Mapping[str, Any]:
    """GB at most of two training steps at batch 1 (`checkpoint agent`), and of answers; agents that got no gradient."""
    folder = _written(device, shape)
    positions, latents = (256, 10) if device.cuda else (20, 2)
    text = chain(folder, AGENTS, positions, latents, answer=ANSWER)
    first, _, rest = text.partition(f'model m = "{folder}"')
    with _within(device, most):
        made = program(device.folder, f'{first}model m = "{folder}" (load = {load}){rest}', device=device.name)
        log = masc.train(made, rows(2, ANSWER), steps=2, batch=1, rate=1e-5, checkpoint="agent")
        training = _peak(device)
        made.generate(rows(2), max_tokens=ANSWER)
        found = {"training, GB": training, "with answers, GB": _peak(device), "held": made.base("a0").held}
        del made
    return {**found, "wrong": [name for name, norm in log[-1]["grad_norms"].items() if not norm > 0]}


def _written(device: Device, shape: Shape) -> Path:
    """A folder of random weights in bfloat16; written once."""
    folder = device.folder / f"{shape.name}-weights"
    if not folder.exists():
        part = folder.with_name(folder.name + ".part")
        random_model(shape, torch.bfloat16, device=device.name).save_pretrained(part)
        tokenizer(shape.vocabulary).save_pretrained(part)
        part.rename(folder)
    return folder


@contextmanager
def _within(device: Device, most: int) -> Iterator[None]:
    """Within it no more GB of the card are given out."""
    gc.collect()
    if not device.cuda:
        yield
        return
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device.name)
    whole = torch.cuda.get_device_properties(device.name).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, most * 1e9 / whole))
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        gc.collect()
        torch.cuda.empty_cache()


def _peak(device: Device) -> float | str:
    return torch.cuda.max_memory_reserved(device.name) / 1e9 if device.cuda else "a CPU does not tell"
