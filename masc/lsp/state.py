"""What the server remembers: the texts that the editor holds, and what was worked out for them until one changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from masc.compiler.pipeline import Compilation
from masc.dsl.diagnostics import Diagnostic
from masc.dsl.read import SUFFIXES
from masc.lsp import check
from masc.lsp.index import Index, build
from masc.lsp.texts import is_program, load, real, workspace_files

_KEPT = 8
"""How many compilations are kept: those of the open programs."""


@dataclass
class State:
    """`folders`: the workspace's; `texts`: of open documents, by real path; `uris`: what the editor calls them;
    `told`: the files that diagnostics were last sent for, by the main file that they came from."""

    folders: tuple[str, ...] = ()
    texts: dict[str, str] = field(default_factory=dict)
    uris: dict[str, str] = field(default_factory=dict)
    told: dict[str, dict[str, tuple[Diagnostic, ...]]] = field(default_factory=dict)
    _files: tuple[str, ...] | None = None
    _index: Index | None = None
    _compiled: dict[str, Compilation] = field(default_factory=dict)

    def hold(self, uri: str, text: str) -> str:
        """A document is open, or has changed; gives its real path."""
        path = path_of(uri)
        self.texts[path], self.uris[path] = text, uri
        self.forget(files=False)
        return path

    def drop(self, uri: str) -> str:
        """A document was closed: what is on disk counts."""
        path = path_of(uri)
        self.texts.pop(path, None)
        self.uris.pop(path, None)
        self.forget()
        return path

    def forget(self, files: bool = True) -> None:
        """Something changed: work all out anew, and with `files` look for files again."""
        self._index = None
        self._compiled.clear()
        if files:
            self._files = None

    def uri(self, path: str) -> str:
        return self.uris.get(path) or Path(path).as_uri()

    def index(self) -> Index:
        """Of the workspace, of the folders of open files, and of all that they import."""
        if self._index is None:
            if self._files is None:
                self._files = workspace_files(self.folders or {str(Path(path).parent): None for path in self.texts})
            self._index = build(load(self._files, self.texts))
        return self._index

    def compile(self, path: str) -> Compilation:
        """A file as the main one."""
        if path not in self._compiled:
            while len(self._compiled) >= _KEPT:
                self._compiled.pop(next(iter(self._compiled)))
            parsed = load([path], self.texts).get(path)
            text = parsed.source.text if parsed else ""
            self._compiled[path] = check.compiled(path, text, self.texts)
        return self._compiled[path]

    def check(self) -> dict[str, tuple[Diagnostic, ...]]:
        """The diagnostics of every file whose diagnostics may have changed since the last time, by real path."""
        before, self.told = self.told, self._found()
        paths = {path for found in (before, self.told) for by_file in found.values() for path in by_file}
        return {path: _about(path, self.told) for path in sorted(paths)}

    def diagnostics(self, path: str) -> tuple[Diagnostic, ...]:
        """What is wrong with a file now, as far as the open programs tell; what was told stays as it is."""
        return _about(path, self._found())

    def _found(self) -> dict[str, dict[str, tuple[Diagnostic, ...]]]:
        programs = [path for path, text in self.texts.items() if is_program(path, text)]
        return {path: check.by_file(path, self.compile(path)) for path in programs}


def _about(path: str, found: Mapping[str, Mapping[str, tuple[Diagnostic, ...]]]) -> tuple[Diagnostic, ...]:
    """What the main files say of a file: it comes first itself, since what others say of it has a label more."""
    mains = sorted(found, key=lambda main: main != path)
    return check.together(found[main].get(path, ()) for main in mains)


def path_of(uri: str) -> str:
    """The real path of a document. One that is no file (it was never saved) is taken to be in the working directory."""
    parts = urlsplit(uri)
    path = url2pathname(parts.path)
    if parts.scheme == "file":
        return real(path)
    name = Path(path).name or "untitled"
    return real(name if name.endswith(SUFFIXES) else f"{name}.mas")
