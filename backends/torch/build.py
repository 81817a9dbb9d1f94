"""From a plan to a Program: find or fetch the models, check them against the plan, load each once."""

from __future__ import annotations

from pathlib import Path

import torch

from masc.backends.torch.engine.history import NEW, History
from masc.backends.torch.engine.torch_defaults import usual_tensors
from masc.backends.torch.model.base import Base
from masc.backends.torch.model.fetch import resolve, resolve_adapter
from masc.backends.torch.model.loading import AUTO
from masc.backends.torch.program import Program
from masc.compiler.analysis.handing import check_states
from masc.compiler.ir.plan import Plan
from masc.compiler.language.bounds import SEED
from masc.compiler.models.locate import check_plan, look_into
from masc.dsl.diagnostics import FAR, MascError, errors, fail, first_line

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


def fast_dtype(device: str | None = None) -> str:
    """bfloat16 where the machine computes in it, else float32: a CPU that only emulates it takes up to a hundred times
    as long. device: as for `build`."""
    if device is None or device == AUTO:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device != "cpu":
        return "bfloat16"
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return "bfloat16" if any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "arm_bf16", "bf16")) else "float32"


def why_not(device: str) -> str | None:
    """Why torch cannot put a tensor on a device and read it back; None: it can."""
    try:
        torch.zeros(1, device=device).cpu()
    except Exception as error:  # torch raises RuntimeError, AssertionError or NotImplementedError, as it happens
        return first_line(error)
    return None


def check_device(device: str | None, target: str) -> None:
    """E0559 where a model says a device that this machine does not have."""
    if device is not None and (why := why_not(device)):
        message = f"the model `{target}` cannot be put on `{device}`: {why}"
        raise fail("E0559", message, hint="name another device, or take the option out: `--device` then says where")


def build(
    plan: Plan,
    here: Path,
    *,
    dtype: str = "float32",
    device: str | None = None,
    seed: int | None = None,
    history: History = NEW,
    begin: bool = True,
) -> Program:
    """A Program with fresh adapters, or those that its file begins with (`from`).

    here: the folder that relative model folders are relative to; device: "cpu", "cuda", "auto" (a model that fits no
    GPU is spread over several), ... (None: the GPU if there is one); seed of the adapters (None: the train settings').
    history: where the plan comes from, for `Program.save`. begin: False where kept weights are put in afterwards: what
    `from` names need not be there any more then.

    Errors: E0509 a model that cannot be had, E0616 one that cannot be loaded, what is wrong with its folder
    (`models.look_into`), those of `check_plan` that had to wait until it was there. ValueError for a seed that is none,
    or a device that cannot be used.
    """
    if device is not None and device != AUTO and (why := why_not(device)):
        raise ValueError(f"device = {device!r} cannot be used: {why[:FAR]}")
    if seed is not None and (wrong_seed := SEED.complaint("seed", seed)):
        raise ValueError(wrong_seed)
    if dtype not in DTYPES:
        raise fail("E0405", f"unknown dtype `{dtype}`", hint=f"known are {', '.join(DTYPES)}")
    folders = {model.name: resolve(model.target, here, revision=model.loading.revision) for model in plan.models}
    starting = [(a.name, a.own.start) for a in plan.agents if begin and a.own is not None and a.own.start is not None]
    starts = {name: resolve_adapter(start, here) for name, start in starting}
    targets = {model.name: model.target for model in plan.models}
    said = {model.name: model.loading for model in plan.models}
    looks = {name: look_into(folder, targets[name], loading=said[name]) for name, folder in folders.items()}
    found = {name: facts for name, (facts, _) in looks.items() if facts is not None}
    wrong = errors(
        [said for _, whole in looks.values() for said in whole] + check_plan(plan, found) + check_states(plan, found)
    )
    if wrong:
        raise MascError(dict.fromkeys(wrong))
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    for name, loading in said.items():
        check_device(loading.device, targets[name])
    with usual_tensors(), torch.inference_mode(False):  # else nothing could ever be trained
        bases = {
            name: Base(folder, DTYPES[dtype], said[name].load, said[name].device or place)
            for name, folder in folders.items()
        }
        program = Program(plan, bases, plan.train.seed if seed is None else int(seed), history)
        for name, folder in starts.items():
            program.begin(name, folder)
        return program
