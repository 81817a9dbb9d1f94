"""Imports: the files that a program is made of. Each one is read once; those that are imported come first."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

from masc.compiler.files.artifacts import is_artifact
from masc.dsl import syntax
from masc.dsl.diagnostics import Diagnostic, Label, errors
from masc.dsl.limits import ALIKE, PROGRAM
from masc.dsl.read import read, read_source
from masc.dsl.source import Source, Span


@dataclass(frozen=True)
class Module:
    """A file of the program.

    `where`: its path, from the main file's folder; `folder`: what the paths of its models are relative to; `imports`:
    each import and the place of what it names among the modules, None where that could not be read; `broken`: it has
    errors, so that what it seems not to declare may just not have been understood.
    """

    file: syntax.File
    where: str
    folder: Path
    imports: tuple[tuple[syntax.Import, int | None], ...]
    broken: bool

    @property
    def source(self) -> Source:
        return self.file.span.source


@dataclass(frozen=True)
class Program:
    """`modules`: each after those that it imports from, the main file last; `importers`: where each other file was
    first imported, those too that could not be understood."""

    modules: tuple[Module, ...]
    importers: Mapping[Source, Span] = field(default_factory=dict)

    def copies(self) -> tuple[tuple[str, str], ...]:
        """Path and text of every imported file that lies in the main file's folder or below."""
        inside = ((os.path.normpath(m.where), m.source.text) for m in self.modules[:-1])
        return tuple((where, text) for where, text in inside if not _leaves(where))


_Targets = list[tuple[syntax.Import, int | None]]


@dataclass(eq=False)
class _File:
    """`imports`: each import and the key of the file that it names."""

    file: syntax.File
    where: str
    broken: bool
    imports: list[tuple[syntax.Import, str]] = field(default_factory=list)


@dataclass
class _Reading:
    """`files`: by key (the real path), in the order in which they were found, None for what cannot be read; `shown`:
    the main file's folder as messages call it; `copy`: the artifact whose copies stand in for files that are gone;
    `texts`: by key, what to read instead of the file; `size`: of all that was read, in characters."""

    shown: Path
    copy: Path | None
    texts: Mapping[str, str]
    files: dict[str, _File | None] = field(default_factory=dict)
    importers: dict[Source, Span] = field(default_factory=dict)
    size: int = 0
    notes: list[Diagnostic] = field(default_factory=list)


def read_program(
    main: syntax.File, path: Path, base: Path, texts: Mapping[str, str] | None = None
) -> tuple[Program, list[Diagnostic]]:
    """Read whatever the main file imports, directly or not.

    `path`: the main file's; `base`: the folder that paths in it are relative to, which is not its own where it is an
    artifact's copy; `texts`: by real path, what an editor holds and has not saved, read instead of the file.
    """
    copied = is_artifact(path.parent)
    size = len(main.span.source.text)
    reading = _Reading(_shown(path, base), path.parent if copied else None, texts or {}, size=size)
    here = _File(main, path.name, broken=False)
    key = _key(base / path.name if copied or not os.path.isfile(path) else path)
    # An import of the original is one of the copy that is being compiled.
    reading.files = {key: here, **({_key(path): here} if copied else {})}
    waiting = [here]
    for file in waiting:
        for node in (d for d in file.file.declarations if isinstance(d, syntax.Import)):
            waiting += filter(None, [_follow(reading, file, node)])
    return _program(reading, base), reading.notes


def point_back(diagnostics: Iterable[Diagnostic], importers: Mapping[Source, Span]) -> list[Diagnostic]:
    """The diagnostics; those that point into an imported file, and into no other, with where that was imported."""
    files = {*importers, *(span.source for span in importers.values())}
    found = []
    for diagnostic in diagnostics:
        if (span := diagnostic.span) is not None and span.source in importers:
            others = {label.span.source for label in diagnostic.labels} & files
            if others <= {span.source}:
                back = Label(importers[span.source], "imported here")
                diagnostic = replace(diagnostic, labels=(*diagnostic.labels, back))
        found.append(diagnostic)
    return found


def _follow(reading: _Reading, file: _File, node: syntax.Import) -> _File | None:
    """Read what an import names, unless that was done before; gives the file if it is a new one."""
    where = os.path.join(os.path.dirname(file.where), os.path.expanduser(str(node.path.value)))
    path = _find(reading, where)
    key = _key(path)
    file.imports.append((node, key))
    if key in reading.files or reading.size > PROGRAM or len(reading.notes) > ALIKE:
        return None
    try:
        tree, found, source = _read(path, reading.texts.get(key))
    except OSError as error:  # a path that is none, such as one that is too long
        tree, found, source = None, [Diagnostic("E0134", f"`{path}` cannot be read: {error.strerror or error}")], None
    reading.notes += [d if d.span else replace(d, span=node.path.span) for d in found]
    if source is None:
        return None  # another import of it is told the same
    reading.importers[source] = node.path.span
    reading.size += len(source.text)
    if reading.size > PROGRAM:
        message = f"with this import the program is too large: more than the {PROGRAM:,} characters that are read"
        reading.notes.append(Diagnostic("E0215", message, node.path.span))
    reading.files[key] = None if tree is None else _File(tree, where, broken=bool(errors(found)))
    return reading.files[key]


def _read(path: Path, text: str | None) -> tuple[syntax.File | None, list[Diagnostic], Source | None]:
    if text is None:
        return read(path)
    source = Source(str(path), text)
    return *read_source(source), source


def _find(reading: _Reading, where: str) -> Path:
    """The path to read: for an artifact's source the artifact's own copy, where it has one."""
    path = reading.shown / where
    short = Path(os.path.normpath(path))
    path = short if _key(short) == _key(path) else path  # `a/..` is not always here: `a` may be a link
    inside = os.path.normpath(where)
    if reading.copy is not None and not _leaves(inside):
        copy = reading.copy / inside
        return copy if os.path.isfile(copy) else path
    return path


def _program(reading: _Reading, base: Path) -> Program:
    found = list(dict.fromkeys(file for file in reading.files.values() if file is not None))
    number = {key: found.index(file) for key, file in reading.files.items() if file is not None}
    targets: list[_Targets] = [[(node, number.get(key)) for node, key in file.imports] for file in found]
    order = _order(reading, found, targets)
    place = {old: new for new, old in enumerate(order)}
    modules = []
    for old in order:
        file = found[old]
        imports = tuple((node, None if target is None else place[target]) for node, target in targets[old])
        modules.append(Module(file.file, file.where, base / os.path.dirname(file.where), imports, file.broken))
    return Program(tuple(modules), reading.importers)


def _order(reading: _Reading, files: list[_File], targets: list[_Targets]) -> tuple[int, ...]:
    """The files, each after those that it imports. A cycle is complained about, and its last import taken out."""
    while True:
        needs = {i: [target for _, target in imports if target is not None] for i, imports in enumerate(targets)}
        try:
            return tuple(TopologicalSorter(needs).static_order())
        except CycleError as error:
            # The sorter names each file before the one that needs it; people read it the other way round.
            cycle: list[int] = error.args[1][:0:-1]
        start = cycle.index(min(cycle))
        cycle = [*cycle[start:], *cycle[:start], cycle[start]]
        steps = [next(node for node, target in targets[a] if target == b) for a, b in pairwise(cycle)]
        reading.notes.append(_cycle([files[i].file.span.source.path for i in cycle], [s.path.span for s in steps]))
        last, first = cycle[-2:]
        targets[last] = [(node, None if target == first else target) for node, target in targets[last]]


def _cycle(paths: list[str], spans: list[Span]) -> Diagnostic:
    if len(spans) == 1:
        return Diagnostic(
            "E0211", f"`{paths[0]}` imports itself", spans[0], hint="a file uses its own names without importing them"
        )
    labels = tuple(Label(span, f"`{path}` is imported here") for path, span in zip(paths[1:], spans[:-1], strict=False))
    hint = "put what both need into a file of its own"
    return Diagnostic("E0211", f"these files import each other: {' -> '.join(paths)}", spans[-1], labels, hint)


def _shown(path: Path, base: Path) -> Path:
    """The folder of the main file as it was typed; from the working directory where that is shorter."""
    if path.parent.absolute() == base.absolute():
        return path.parent
    try:
        return base.absolute().relative_to(Path.cwd())
    except (OSError, ValueError):
        return base


def _key(path: Path) -> str:
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):
        return str(path)


def _leaves(where: str) -> bool:
    return os.path.isabs(where) or where.split(os.sep)[0] == os.pardir
