"""Commands about base models: those with a short name, and which others masc can use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masc.commands.options import check_place
from masc.dsl.diagnostics import MascError, errors, fail

if TYPE_CHECKING:
    from masc.compiler.models.proof import Identity


def models_list() -> None:
    """The short names, and which of them are on disk."""
    from masc.compiler.models.locate import locate_model
    from masc.compiler.models.registry import REGISTRY

    for name, entry in REGISTRY.items():
        location = locate_model(name, Path.cwd())
        where = "not fetched" if location is None or location.folder is None else str(location.folder)
        print(f"{name}  {entry.licence}  {where}")


def models_fetch(
    name: Annotated[str, typer.Argument(help="A short name or a Hugging Face id")],
    revision: Annotated[str | None, typer.Option(help="Which branch, tag or commit of a Hugging Face id")] = None,
) -> None:
    """Fetch a model, check it, convert it once."""
    from masc.backends.torch.model.fetch import resolve
    from masc.compiler.ir.model import Loading
    from masc.compiler.models.locate import check_model

    folder = resolve(name, Path.cwd(), revision=revision)
    if wrong := errors(check_model(name, Path.cwd(), loading=Loading(revision))[1]):
        raise MascError(wrong)
    print(folder)


def models_convert(
    file: Annotated[Path, typer.Argument(help="A GGUF file")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The new folder \\[default: the file's name]")] = None,
) -> None:
    """Write a GGUF file as a folder that masc can use, its weights as numbers in bfloat16."""
    from masc.backends.torch.model.gguf import convert
    from masc.compiler.models.locate import check_model
    from masc.session.folders import new_folder

    out = out or Path(file.stem)
    with new_folder(out) as part:
        convert(file, part)
    print(out)
    if wrong := errors(check_model(str(out.absolute()), Path.cwd())[1]):
        raise MascError(wrong)


def models_prove(
    model: Annotated[str, typer.Argument(help="A folder, a short name or a Hugging Face id")],
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float64: what the model runs in")] = "float32",
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
) -> None:
    """Find out whether masc can use a model: run it against transformers alone, and remember what held."""
    check_place(dtype, device)
    from masc.backends.torch.model.fetch import resolve
    from masc.backends.torch.proving.prove import prove
    from masc.compiler.models.facts import failed_text
    from masc.compiler.models.locate import unprovable
    from masc.compiler.models.proof import KV, OWN
    from masc.compiler.models.proven import remember

    folder = resolve(model, Path.cwd())
    if wrong := errors(unprovable(folder, model)):
        raise MascError(wrong)
    print(f"{folder}, in {dtype}\n\n{'identity':<64}{'apart':>9}{'at most':>9}", flush=True)
    proof = prove(folder, dtype, device, tell=lambda identity: print(_line(identity), flush=True))
    kept = remember(folder, proof)
    print()
    if failed := proof.failed(OWN):
        raise fail(
            "E0524", f"the model `{model}` cannot be used: {failed_text(failed[0])}", hint=f"remembered in {kept}"
        )
    able = "text, hidden and kv" if proof.holds(KV) else "text and hidden"
    able += " (along a chain)" if proof.holds(KV) and proof.passed_over("moved") else ""
    print(f"masc can use it, with edges of {able}; remembered in {kept}")


def _line(identity: Identity) -> str:
    """An identity as a line of the table."""
    from masc.compiler.models.proof import MEANS

    apart = "-" if identity.figure is None else f"{identity.figure:.1e}"
    most = "-" if identity.bound is None else f"{identity.bound:.0e}"
    stands = {True: "holds", False: "DOES NOT HOLD", None: "not looked at"}[identity.held]
    return f"{MEANS[identity.name]:<64}{apart:>9}{most:>9}  {stands}" + (f": {identity.why}" if identity.why else "")
