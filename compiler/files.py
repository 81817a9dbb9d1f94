"""Files: writing them whole or not at all, hashing a model's, and finding the one that an argument means."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from masc.dsl.diagnostics import fail

_YAML = (".yaml", ".yml")


def atomic_write(path: Path, content: str | bytes) -> None:
    """Write a file under a temporary name and rename it: after a crash there is the old one or the new one, whole."""
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
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


def artifact_of(source: Path) -> Path:
    """The artifact of a source: `relay.mas` -> `relay.masc` beside it; for the copy in an artifact, that artifact."""
    return source.parent if source.parent.suffix == ".masc" else source.with_suffix(".masc")


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
    if here.suffix == ".masc" or (here / "manifest.json").is_file():
        source = here / read_manifest(Layout(here)).source
        if not source.is_file():
            raise fail("E0511", f"`{shown}` is damaged: `{source.name}` is missing", hint="compile the program again")
        return source
    files = sorted(path for path in here.iterdir() if path.is_file())
    found = [p for p in files if p.suffix == ".mas"] or [p for p in files if p.suffix in _YAML]
    if not found:
        raise fail("E0515", f"there is no .mas file in `{shown}`", hint="name a file, or a folder that holds one")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise fail("E0516", f"`{shown}` holds several programs: {names}", hint="name the one that you mean")
    return found[0]


def _near(path: Path) -> str | None:
    from masc.dsl.diagnostics import did_you_mean

    try:
        names = [other.name for other in path.parent.iterdir() if other.suffix in (".mas", *_YAML, ".masc")]
    except OSError:
        return "name a .mas file, or a folder that holds one"
    return did_you_mean(path.name, names) or "name a .mas file, or a folder that holds one"
