"""What is wrong with a file, and with the files that it imports, as the editor holds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from masc.compiler.pipeline import Compilation, compile_source
from masc.dsl.diagnostics import Diagnostic
from masc.dsl.source import Source
from masc.lsp.texts import real


def compiled(path: str, text: str, texts: Mapping[str, str]) -> Compilation:
    """A text compiled as the main file. `texts`: what the editor holds of others, by real path."""
    return compile_source(Source(path, text), base=Path(path).parent, texts=texts, data=True)


def by_file(path: str, compilation: Compilation) -> dict[str, tuple[Diagnostic, ...]]:
    """The diagnostics of a compilation by the real path of the file that they stand in, the main file always there."""
    found: dict[str, list[Diagnostic]] = {path: []}
    for diagnostic in compilation.of_the_text:
        where = path if diagnostic.span is None else real(diagnostic.span.source.path)
        found.setdefault(where, []).append(diagnostic)
    return {where: tuple(diagnostics) for where, diagnostics in found.items()}


def together(found: Iterable[tuple[Diagnostic, ...]]) -> tuple[Diagnostic, ...]:
    """What several main files say of one file, each thing once."""
    unique: dict[object, Diagnostic] = {}
    for diagnostics in found:
        for d in diagnostics:
            unique.setdefault((d.code, d.message, d.span and (d.span.start, d.span.end)), d)
    return tuple(sorted(unique.values(), key=lambda d: d.span.start if d.span else 0))
