"""Files: writing them whole or not at all, hashing a model's, and finding the one that an argument means."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path

from masc.dsl.diagnostics import MascError, did_you_mean, fail

_YAML = (".yaml", ".yml")


def atomic_write(path: Path, content: str | bytes) -> None:
    """Write a file under a temporary name and rename it: after a crash there is the old one or the new one, whole.

    E0612 where the system does not let us.
    """
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    try:
        _write(path, data)
    except OSError as error:
        raise fail("E0612", f"cannot write `{path}`: {error.strerror or error}") from error


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def check_file(path: Path) -> None:
    """E0612 where a file could not be written: to be asked before an hour of work whose result it shall hold."""
    try:
        wrong = "it is not a regular file" if path.exists() and not path.is_file() else _obstacle(path.parent)
    except OSError as error:
        wrong = error.strerror or str(error)
    if wrong:
        raise fail("E0612", f"cannot write `{path}`: {wrong}")


def check_folder(path: Path) -> None:
    """E0612 where no file could be written into a folder, which need not be there yet."""
    try:
        wrong = _obstacle(path)
    except OSError as error:
        wrong = error.strerror or str(error)
    if wrong:
        raise fail("E0612", f"cannot write into `{path}`: {wrong}")


def _obstacle(folder: Path) -> str | None:
    """Why a folder cannot be made or written into, as far as the system tells without trying."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        return f"`{there}` is not a folder"
    return None if os.access(there, os.W_OK | os.X_OK) else f"`{there}` may not be written into"


def model_hash(folder: Path) -> str:
    """A cheap and honest content hash of a model's folder.

    Over the bytes of every `*.json` and the tokenizer's files, and of every safetensors file its name, size and header
    (names, types and shapes of all tensors) with its first and last megabyte. Another model, another tokenizer or
    another conversion changes it; it costs milliseconds, where hashing gigabytes would cost as much as loading them.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix == ".safetensors":
            size = path.stat().st_size
            digest.update(f"{path.name} {size}\n".encode())
            with path.open("rb") as file:
                header = file.read(8)
                digest.update(header + file.read(min(int.from_bytes(header, "little"), 1 << 26)))
                digest.update(file.read(1 << 20))
                file.seek(max(0, size - (1 << 20)))
                digest.update(file.read())
        elif path.suffix in (".json", ".model", ".txt", ".jinja"):
            digest.update(f"{path.name}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def is_artifact(folder: Path) -> bool:
    """Whether a folder is an artifact, of whatever name. One called `x.masc` is meant to be one even where it is
    damaged; elsewhere a `manifest.json` alone may be anybody's."""
    if folder.suffix == ".masc":
        return True
    manifest = folder / "manifest.json"
    try:
        return manifest.is_file() and ((folder / "plan.json").is_file() or b'"fingerprint"' in manifest.read_bytes())
    except OSError:
        return False


def artifact_of(source: Path) -> Path:
    """The artifact of a source: `relay.mas` -> `relay.masc` beside it; for the copy in an artifact, that artifact."""
    return source.parent if is_artifact(source.parent) else source.with_suffix(".masc")


def locate(argument: Path | None = None, cwd: Path | None = None) -> Path:
    """The source that an argument means: a file, a folder with one `.mas` (or one YAML file), an artifact (its copy of
    the source), or nothing: what is in the working directory. Raises MascError (E0515, E0516, or what an artifact
    gives)."""
    from masc.compiler.artifact import Layout, read_manifest

    here = (cwd or Path.cwd()) / (argument or "")
    shown = argument if argument is not None else here
    if here.is_file():
        return here
    if not here.is_dir():
        raise fail("E0515", f"there is no file or folder `{shown}`", hint=_near(here))
    found = _sources(here)
    if is_artifact(here):
        try:
            source = here / read_manifest(Layout(here)).source
        except MascError:
            # The copy can be compiled again even where the manifest is damaged; whoever needs that one will complain.
            if len(found) == 1 and (here / "manifest.json").exists():
                return found[0]
            raise
        if not source.is_file():
            raise fail("E0511", f"`{shown}` is damaged: `{source.name}` is missing", hint="compile the program again")
        return source
    if not found:
        raise fail("E0515", f"there is no .mas file in `{shown}`", hint="name a file, or a folder that holds one")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise fail("E0516", f"`{shown}` holds several programs: {names}", hint="name the one that you mean")
    return found[0]


def _sources(folder: Path) -> list[Path]:
    """Its `.mas` files, else its YAML files; of several those with a graph, for the others can only be imported."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    found = [p for p in files if p.suffix == ".mas"] or [p for p in files if p.suffix in _YAML]
    return [p for p in found if _has_graph(p)] or found if len(found) > 1 else found


def _has_graph(path: Path) -> bool:
    try:
        return re.search(rb"^[ \t]*graph\b", path.read_bytes(), re.MULTILINE) is not None
    except OSError:
        return False


def _near(path: Path) -> str | None:
    try:
        names = [other.name for other in path.parent.iterdir() if other.suffix in (".mas", *_YAML, ".masc")]
    except OSError:
        return "name a .mas file, or a folder that holds one"
    return did_you_mean(path.name, names) or "name a .mas file, or a folder that holds one"
