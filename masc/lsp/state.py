"""What the server remembers: the texts that the editor holds, and what was worked out for them until one changes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from masc.compiler.pipeline import Compilation
from masc.dsl.diagnostics import Diagnostic
from masc.dsl.read import SUFFIXES
from masc.lsp import check
from masc.lsp.index import Index, build
from masc.lsp.texts import Parsed, is_program, load, real, workspace_files

_KEPT = 8
"""How many compilations are kept: those of the open programs."""


@dataclass
class State:
    """`folders`: the workspace's; `documents`: the texts of open documents by URI, the one used last at the end;
    `told`: the files that diagnostics were last sent for, by the main file that they came from.

    A URI is the editor's name of a document, and the only one that tells documents apart: of one file there may be
    two, through a link for one.
    """

    folders: tuple[str, ...] = ()
    documents: dict[str, str] = field(default_factory=dict)
    told: dict[str, dict[str, tuple[Diagnostic, ...]]] = field(default_factory=dict)
    _files: tuple[str, ...] | None = None
    _index: Index | None = None
    _parsed: dict[str, Parsed] = field(default_factory=dict)
    _compiled: dict[str, Compilation] = field(default_factory=dict)

    @property
    def texts(self) -> dict[str, str]:
        """What the editor holds, by real path: of two documents of one file the one that was used last."""
        return {path_of(uri): text for uri, text in self.documents.items()}

    def hold(self, uri: str, text: str) -> None:
        """A document is open, or has changed. One that is not ours (see `is_ours`) is left alone."""
        if is_ours(uri):
            self.documents.pop(uri, None)
            self.documents[uri] = text
            self.forget(files=False)

    def use(self, uri: str) -> None:
        """A document is asked about: of two of one file, it is this one that counts."""
        if uri in self.documents and self.texts[path_of(uri)] != self.documents[uri]:
            self.hold(uri, self.documents[uri])

    def drop(self, uri: str) -> None:
        """A document was closed: another of the same file counts, or what is on disk."""
        if self.documents.pop(uri, None) is not None:
            self.forget()

    def forget(self, files: bool = True) -> None:
        """Something changed: work all out anew, and with `files` look for files again."""
        self._index = None
        self._compiled.clear()
        if files:
            self._files = None

    def uri(self, path: str) -> str:
        """What the editor calls a file."""
        return self.uris(path)[-1]

    def uris(self, path: str) -> list[str]:
        """All that the editor calls a file, the one used last at the end."""
        return [uri for uri in self.documents if path_of(uri) == path] or [Path(path).as_uri()]

    def index(self) -> Index:
        """Of the workspace, of the folders of open files, and of all that they import."""
        if self._index is None:
            if self._files is None:
                self._files = workspace_files(self.folders or {str(Path(path).parent): None for path in self.texts})
            self._parsed = load(self._files, self.texts, self._parsed)
            self._index = build(self._parsed)
        return self._index

    def compile(self, path: str) -> Compilation:
        """A file as the main one."""
        if path not in self._compiled:
            while len(self._compiled) >= _KEPT:
                self._compiled.pop(next(iter(self._compiled)))
            texts = self.texts
            parsed = load([path], texts, self._parsed).get(path)
            text = parsed.source.text if parsed else ""
            self._compiled[path] = check.compiled(path, text, texts)
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


def is_ours(uri: str) -> bool:
    """Whether a document is a file, or will be one. Others, such as the old version that a comparison shows (`git:`),
    have the name of a file that they are not; and some have a name that no file can have."""
    return _path(uri) is not None


def path_of(uri: str) -> str:
    """The real path of a document that is ours. One that was never saved is taken to be in the working directory, under
    a name that no file has."""
    path = _path(uri)
    assert path is not None, uri
    return path


def _path(uri: str) -> str | None:
    try:
        parts = urlsplit(uri)
        path = unquote(parts.path, errors="surrogateescape")  # a file's name is bytes, not always UTF-8
        if os.name == "nt":
            path = url2pathname(parts.path)
        if parts.scheme == "file":
            return real(path) if parts.netloc in ("", "localhost") or os.name == "nt" else None
        if parts.scheme == "untitled":
            name = Path(path).name or "untitled"
            return real(f"untitled:{name if name.endswith(SUFFIXES) else f'{name}.mas'}")
    except (ValueError, OSError):  # a null character, half a character, a host in brackets
        return None
    return None
