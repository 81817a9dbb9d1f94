"""Finding the source file that an argument of a command names."""

from __future__ import annotations

import os
import re
from pathlib import Path

from masc.compiler.artifact.layout import Layout
from masc.compiler.artifact.manifest import read_manifest
from masc.compiler.artifact.of_training import describe_training
from masc.compiler.files.artifacts import is_artifact
from masc.dsl.diagnostics import MascError, did_you_mean, fail
from masc.dsl.limits import FILE
from masc.dsl.regular import MEND_LINK, dangling, read_regular

_YAML = (".yaml", ".yml")


def locate(argument: Path | None = None, cwd: Path | None = None) -> Path:
    """The source file for an argument: a file, a folder with one `.mas` file (or one YAML file), an artifact (its copy
    of the source is taken), or None (the working directory is searched). Raises MascError: E0515, E0516, or what
    reading an artifact raises."""
    here = (cwd or Path.cwd()) / (argument or "")
    shown = argument if argument is not None else here
    if why := dangling(here):
        raise fail("E0515", f"`{shown}` cannot be read: {why}", hint=MEND_LINK)
    if here.is_file() or (os.path.lexists(here) and not here.is_dir()):
        return here  # reading it will refuse what is no regular file, and say what it is
    if not here.is_dir():
        raise fail("E0515", f"there is no file or folder `{shown}`", hint=_near(here))
    found = _sources(here)
    if is_artifact(here):
        try:
            source = here / read_manifest(Layout(here)).source
        except MascError:
            # The copy can be compiled again even if the manifest is damaged. Code that needs the manifest complains.
            if len(found) == 1 and (here / "manifest.json").exists():
                return found[0]
            raise
        if not source.is_file():
            raise fail("E0511", f"`{shown}` is damaged: `{source.name}` is missing", hint="compile the program again")
        return source
    if not found and (told := describe_training(here)):
        raise fail("E0515", told[0], hint=told[1])
    if not found:
        raise fail("E0515", f"there is no .mas file in `{shown}`", hint="name a file, or a folder that holds one")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise fail("E0516", f"`{shown}` holds several programs: {names}", hint="name the one that you mean")
    return found[0]


def _sources(folder: Path) -> list[Path]:
    """The folder's `.mas` files, or its YAML files if it has none. If there are several: only those with a graph,
    because the others can only be imported."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    found = [p for p in files if p.suffix == ".mas"] or [p for p in files if p.suffix in _YAML]
    return [p for p in found if _has_graph(p)] or found if len(found) > 1 else found


def _has_graph(path: Path) -> bool:
    try:
        return re.search(rb"^[ \t]*graph\b", read_regular(path, FILE), re.MULTILINE) is not None
    except OSError:
        return False


def _near(path: Path) -> str | None:
    try:
        others = [other for other in path.parent.iterdir() if not other.name.startswith(".")]
        names = [other.name for other in others if other.suffix in (".mas", *_YAML) or other.is_dir()]
    except OSError:
        return "name a .mas file, or a folder that holds one"
    return did_you_mean(path.name, names) or "name a .mas file, or a folder that holds one"
