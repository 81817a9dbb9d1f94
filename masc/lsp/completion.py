"""What could be written at a place: names, options and their values, placeholders in prompts, keywords."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from masc.compiler.artifact.layout import ADAPTER_FILES
from masc.compiler.channels import CHANNELS
from masc.compiler.files.sources import row_source
from masc.compiler.language.adapters import ADAPTERS
from masc.compiler.language.train import TRAIN
from masc.compiler.models.locate import check_model
from masc.compiler.models.registry import REGISTRY
from masc.compiler.passes.data_files import columns_there
from masc.compiler.resolve.params import TYPES
from masc.dsl import syntax
from masc.dsl.formatter import format_column, format_string, format_value
from masc.dsl.read import SUFFIXES
from masc.lsp import words
from masc.lsp.index import Index, Kind, Symbol
from masc.lsp.place import Place, place
from masc.lsp.texts import Parsed, real

Shape = Literal["keyword", "agent", "template", "model", "param", "input", "output", "option", "word", "file"]


@dataclass(frozen=True)
class Item:
    """`text` in the place of what stands from `start` to `end`."""

    label: str
    shape: Shape
    start: int
    end: int
    text: str
    detail: str = ""
    about: str = ""


def complete(index: Index, path: str, offset: int) -> list[Item]:
    """What could be written at an offset of a `.mas` file, the likeliest first."""
    parsed = index.files.get(path)
    if parsed is None or not path.endswith(".mas"):
        return []
    at = place(parsed.source, offset)
    found = _Offers(index, parsed, path, at)
    names = [item for item in found.names() if item.label not in at.taken]
    keywords = [found.item(word, "keyword", about=words.KEYWORDS[word]) for word in sorted(at.keywords)]
    return list({item.label: item for item in reversed([*names, *keywords])}.values())[::-1]


class _Offers:
    def __init__(self, index: Index, parsed: Parsed, path: str, at: Place) -> None:
        self.index = index
        self.text = parsed.source.text
        self.path = path
        self.at = at
        self.file = parsed.file
        self.declarations = parsed.file.declarations if parsed.file else ()
        self.graph = next((d for d in self.declarations if isinstance(d, syntax.Graph)), None)

    def item(self, label: str, shape: Shape, detail: str = "", about: str = "", text: str | None = None) -> Item:
        return Item(label, shape, self.at.start, self.at.end, label if text is None else text, detail, about)

    def names(self) -> Iterator[Item]:
        at = self.at
        match at.wanted:
            case "model":
                yield from self._of("model", "model")
            case "target":
                for name, model in REGISTRY.items():
                    yield self.item(name, "model", model.licence, model.about)
            case "path":
                yield from self._files(SUFFIXES)
            case "file":
                yield from self._files((".jsonl",))
            case "folder":
                yield from self._folders()
            case "import":
                yield from self._importable()
            case "type":
                for name, about in words.TYPES.items():
                    if name in TYPES or at.owner == "fields":
                        yield self.item(name, "word", about=about)
            case "truth":
                yield from (self.item(word, "word") for word in ("true", "false"))
            case "number":
                yield from self._values()
                if at.owner == "arguments" and self.graph is not None:
                    yield from (self.item(name.text, "input") for name in self.graph.inputs)
            case "adapter":
                yield from (self.item(name, "word", about=one.help) for name, one in ADAPTERS.items())
            case "channel":
                yield from (self.item(name, "word", about=one.help) for name, one in CHANNELS.items())
            case "option":
                for name, option in words.OPTIONS.get(at.owner, {}).items():
                    yield self.item(name, "option", option.reads.takes, option.about, f"{name} = ")
            case "variable":
                yield from self._variables()
            case "value":
                yield from self._option_values()
            case "sender" | "receiver":
                yield from self._of("agent", "agent")
                if at.wanted == "receiver" and self.graph is not None:
                    yield from (self.item(name.text, "output") for name in self.graph.outputs)
            case "template":
                yield from self._of("agent", "template")
            case "entry":
                if self.graph is not None:
                    yield from (self.item(n.text, "output", text=f"{n.text} <- ") for n in self.graph.outputs)
                    yield from (self.item(n.text, "input", text=f"{n.text} <- ") for n in self.graph.inputs)
                for name, option in TRAIN.items():
                    yield self.item(name, "option", option.reads.takes, option.about, f"{name} ")
            case "column":
                for name in self._columns():
                    yield self.item(name, "input", "column of the data", text=self._column(name))
            case "placeholder":
                yield from self._placeholders()

    def _of(self, kind: Kind, shape: Shape) -> Iterator[Item]:
        """What is declared or imported here of a kind; of agents, those that are none or those that are templates."""
        for symbol in self.index.visible(self.path):
            if symbol.kind == kind and (item := self._item_of(symbol)).shape == shape:
                yield item

    def _item_of(self, symbol: Symbol) -> Item:
        match self.index.declaration(symbol):
            case syntax.Agent() as agent if agent.fields and agent.name.text == symbol.name:
                fields = ", ".join(f"{field.name.text}: {field.type.text}" for field in agent.fields)
                return self.item(symbol.name, "template", f"({fields}) on {agent.model.text}")
            case syntax.Agent() as agent:
                detail = f"made of {agent.name.text}" if agent.fields else f"on {agent.model.text}"
                return self.item(symbol.name, "agent", detail)
            case syntax.Model() as model:
                return self.item(symbol.name, "model", format_value(model.target))
            case syntax.Param() as param:
                return self.item(symbol.name, "param", f"{param.type.text} = {format_value(param.default)}")
            case None:
                return self.item(symbol.name, "agent")

    def _importable(self) -> Iterator[Item]:
        target = real(os.path.join(os.path.dirname(self.path), os.path.expanduser(self.at.option)))
        if target in self.index.files:
            yield from map(self._item_of, self.index.visible(target))

    def _values(self) -> Iterator[Item]:
        """Fields of the agent that it stands in, and parameters."""
        agent = next(
            (d for d in self.declarations if isinstance(d, syntax.Agent) and d.name.text == self.at.agent), None
        )
        for field in agent.fields if agent else ():
            yield self.item(field.name.text, "param", field.type.text)
        yield from self._of("param", "param")

    def _fields(self) -> tuple[syntax.Field, ...]:
        agents = (d for d in self.declarations if isinstance(d, syntax.Agent) and d.name.text == self.at.agent)
        return next((agent.fields for agent in agents), ())

    def _option_values(self) -> Iterator[Item]:
        owner, option = self.at.owner, self.at.option
        if owner.endswith("[]"):
            listed = words.OPTIONS.get(owner[:-2], {}).get(option)
            yield from (self.item(word, "word") for word in (listed.reads.items if listed else ()))
            return
        found = words.OPTIONS.get(owner, {}).get(option)
        for word in found.reads.words if found else ():
            yield self.item(word, "word", about=words.about_word(owner, option, word))
        if found is not None and "path" not in found.reads.takes:
            yield from self._values()

    def _variables(self) -> Iterator[Item]:
        """What the chat template of the model asks for, where it is on disk."""
        agents = (d for d in self.declarations if isinstance(d, syntax.Agent) and d.name.text == self.at.agent)
        name = self.at.option or next((agent.model.text for agent in agents), "")
        for model in (d for d in self.declarations if isinstance(d, syntax.Model) and d.name.text == name):
            facts = check_model(str(model.target.value), Path(self.path).parent)[0]
            for variable in (facts.variables if facts else None) or ():
                yield self.item(variable, "option", "of the chat template", text=f"{variable} = ")

    def _columns(self) -> Iterator[str]:
        """The columns of the first row of the data to train on."""
        trains = (d for d in self.declarations if isinstance(d, syntax.Train))
        entries = [entry for train in trains for entry in train.entries if isinstance(entry, syntax.Setting)]
        for entry in entries:
            if entry.name.text == "data" and isinstance(entry.value, syntax.Literal):
                written = os.path.expanduser(str(entry.value.value))
                yield from columns_there(row_source(written, Path(self.path).parent)) or ()

    def _column(self, name: str) -> str:
        """How a column is written, behind a quote that stands there already too."""
        if self.text[self.at.start - 1] != '"':
            return format_column(name)
        closed = self.text[self.at.end : self.at.end + 1] == '"'
        return format_string(name)[1 : -1 if closed else None]

    def _placeholders(self) -> Iterator[Item]:
        """Fields, the inputs of the graphs that the agent is part of, and senders whose words or vectors come to it."""
        agent = Symbol("agent", self.at.agent, self.path)
        written = next(
            (d for d in self.declarations if isinstance(d, syntax.Agent) and d.name.text == agent.name), None
        )
        for field in written.fields if written else ():
            yield self._placeholder(field.name.text, "param", f"field, {field.type.text}")
        for path in dict.fromkeys((self.path, *self.index.users.get(agent, ()))):
            file = self.index.files[path].file
            for graph in (d for d in (file.declarations if file else ()) if isinstance(d, syntax.Graph)):
                yield from (self._placeholder(n.text, "input", f"input of {graph.name.text}") for n in graph.inputs)
                for sender, kind in senders(graph.body, agent.name):
                    yield self._placeholder(sender, "agent", f"what it sends ({kind})")

    def _placeholder(self, name: str, shape: Shape, detail: str) -> Item:
        closed = self.text[self.at.end : self.at.end + 1] == "}"
        return self.item(name, shape, detail, text=name if closed else f"{name}}}")

    def _files(self, suffixes: tuple[str, ...]) -> Iterator[Item]:
        """Files of some kind in the folder of what is typed so far."""
        typed = self.text[self.at.start : self.at.end]
        inside = typed.rpartition("/")[0]
        folder = os.path.join(os.path.dirname(self.path), os.path.expanduser(inside))
        try:
            names = sorted(os.listdir(folder))
        except (OSError, ValueError):
            return
        for name in names:
            whole = os.path.join(folder, name)
            if whole != self.path and name.endswith(suffixes) and os.path.isfile(whole):
                yield self.item(f"{inside}/{name}" if inside else name, "file")

    def _folders(self) -> Iterator[Item]:
        """Folders in the one that is typed so far; of one with an adapter in it that is said."""
        inside = self.text[self.at.start : self.at.end].rpartition("/")[0]
        folder = os.path.join(os.path.dirname(self.path), os.path.expanduser(inside))
        try:
            names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[:1] != ".")
        except (OSError, ValueError):
            return
        for name in names:
            adapter = os.path.isfile(os.path.join(folder, name, ADAPTER_FILES[0]))
            yield self.item(f"{inside or '.'}/{name}", "file", "a trained adapter" if adapter else "")


def senders(body: tuple[syntax.Statement, ...], receiver: str) -> Iterator[tuple[str, str]]:
    """Who has an edge to an agent that can stand in its prompt, and of which kind."""
    for statement in body:
        if isinstance(statement, syntax.Repeat):
            yield from senders(statement.body, receiver)
        elif isinstance(statement, syntax.Edge) and statement.channel is not None:
            kind = statement.channel.kind.text
            for left, right in pairwise(statement.stages):
                if kind in CHANNELS and CHANNELS[kind].in_prompt and any(name.text == receiver for name in right.names):
                    yield from ((name.text, kind) for name in left.names)
