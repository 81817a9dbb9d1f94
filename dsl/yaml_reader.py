"""YAML to the same syntax tree as `.mas`.

    mas: 1
    imports: [{from: roles.mas, names: [critic]}]
    models:
      small: smollm2-135m
      big: {from: Qwen/Qwen3-8B, load: nf4, template: {enable_thinking: false}}
    params:
      latents: 10                         # short for {type: int, default: 10}
    agents:
      planner:
        on: small
        system: You plan.                 # prompts: `{name}` is a placeholder, `{{` a brace
        user: "{question}"
        think: 10                         # or {steps: latents, gradient: stop}
        adapt: {lora: {rank: 8}}          # or none
        answer: {max_tokens: 128}         # or nothing, for the defaults
        template: {enable_thinking: true} # variables of the chat template
        fields: {field: text}             # makes it a template
    graph:
      name: relay
      inputs: [question]
      outputs: [answer]
      body:                               # statements as in `.mas`; quotes where YAML wants them
        - planner -> maths : kv(carry = own)
        - "[maths, physics] -> solver : kv"
        - maths = expert("mathematics")
        - {repeat: 2, body: [a -> b, b -> a]}
    train:
      data: train.jsonl
      supervise: {answer: solution}       # output: column
      batch: 8
      objective: {grpo: {reward: number}} # or supervised

A value without quotes that looks like a name is a name (`gradient: stop`), one in quotes is a string. Where only a
string can stand (prompts, `data`, a model) both are. Aliases are refused. Comments become comments of the nodes.
"""

from __future__ import annotations

import re

import yaml

from masc.dsl import strings
from masc.dsl import syntax as s
from masc.dsl.comments import Comment, attach
from masc.dsl.diagnostics import Diagnostic, errors
from masc.dsl.excerpt import Excerpt
from masc.dsl.parser import VERSION, parse_statements
from masc.dsl.source import Source, Span
from masc.dsl.yaml_meant import adapter_of, cut_off, escapes_meant, in_quotes, is_null
from masc.dsl.yaml_text import comments, compose, excerpt
from masc.dsl.yaml_values import Pair, Values, each

_LED_BY = re.compile(r"""(supervise:[ \t]*\r?\n[ \t]*|(- *)+["']?|["'])\Z""")
TOP = ("mas", "imports", "models", "params", "agents", "graph", "train")
IMPORT, PARAM = ("from", "names"), ("type", "default")
AGENT = ("on", "fields", "system", "user", "think", "adapt", "answer", "template")
GRAPH, GRAPH_NEEDS = ("name", "inputs", "outputs", "body"), ("name", "outputs")
REPEAT = ("repeat", "body")


def parse_yaml(source: Source) -> tuple[s.File | None, list[Diagnostic]]:
    """The tree of a YAML file and what is wrong with it; as `parser.parse` for `.mas`."""
    root, found = compose(source)
    if root is None and found:
        return None, found
    reader = _Reader(source)
    file = reader.file(root)
    diagnostics = sorted(dict.fromkeys([*found, *reader.diagnostics]), key=lambda d: d.span.start if d.span else 0)
    if errors(diagnostics) and not file.declarations:
        return None, diagnostics
    return attach(file, [*comments(source), *reader.comments], reader.line_start), diagnostics


class _Reader(Values):
    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.comments: list[Comment] = []

    def file(self, root: yaml.Node | None) -> s.File:
        start = Span(self.source, 0, 0)
        if root is None:
            self._missing_version(start)
            return s.File(start, VERSION, ())
        entries = self._entries(root, "a file", TOP)
        span = self._span(root)
        version = [pair for pair in entries if pair[0].value == "mas"]
        if not version and "mas" not in self.meant:
            self._missing_version(Span(self.source, span.start, span.start))
        for key, node in version[:1]:
            span = self._span(key)
            if not (isinstance(node, yaml.ScalarNode) and node.value == str(VERSION)):
                hint = f"this masc reads version {VERSION}: write `mas: {VERSION}`"
                self._report("E0102", "this version of the language is unknown", node, hint)
        declarations: list[s.Declaration] = []
        for key, node in entries:
            match key.value:
                case "imports":
                    declarations += each(self._items(node), self._import)
                case "models":
                    declarations += each(self._named(node, "models"), self._model)
                case "params":
                    declarations += each(self._named(node, "params"), self._param)
                case "agents":
                    declarations += each(self._named(node, "agents"), self._agent)
                case "graph":
                    declarations += each([(key, node)], self._graph)
                case "train":
                    declarations += each([(key, node)], self._train)
        return s.File(span, VERSION, tuple(declarations))

    def line_start(self, start: int) -> int:
        """Where what leads up to an item begins: `- `, a quote, `supervise:` before its first entry."""
        led = _LED_BY.search(self.source.text, max(0, start - 80), start)
        return led.start() if led else start

    def _missing_version(self, span: Span) -> None:
        hint = f"write `mas: {VERSION}` on the first line"
        self.diagnostics.append(Diagnostic("E0101", "the version is missing", span, hint=hint))

    # declarations: None where too much is wrong or missing

    def _import(self, node: yaml.Node) -> s.Import | None:
        entries = self._by_key(node, "an import", IMPORT, needed=IMPORT)
        if entries is None or not (path := self._text(entries["from"])):
            return None
        return s.Import(self._span(node), path, self._names(entries["names"]))

    def _model(self, entry: tuple[yaml.ScalarNode, yaml.Node, s.Name]) -> s.Model | None:
        key, node, name = entry
        span = self._across(key, node)
        options: tuple[s.Option, ...] = ()
        if isinstance(node, yaml.MappingNode):
            entries = {key.value: value for key, value in self._entries(node, "a model", None)}
            if not self._has(node, entries, "a model", ("from",), at=key):
                return None
            node, options = entries["from"], self._options(node, besides="from")
        target = self._text(node)
        return s.Model(span, name, target, options) if target else None

    def _param(self, entry: tuple[yaml.ScalarNode, yaml.Node, s.Name]) -> s.Param | None:
        key, node, name = entry
        span = self._across(key, node)
        if isinstance(node, yaml.MappingNode):
            entries = self._by_key(node, "a param", PARAM, needed=PARAM)
            if entries is None:
                return None
            kind, value = self._name(entries["type"]), self._value(entries["default"])
            return s.Param(span, name, kind, value) if kind and value else None
        default = self._value(node)
        if not isinstance(default, s.Literal):
            if default:
                self._wrong(node, "a number, a string in quotes, true or false, or `{type: ..., default: ...}`")
            return None
        word = {bool: "bool", int: "int", float: "float", str: "text"}[type(default.value)]
        return s.Param(span, name, s.Name(default.span, word), default)

    def _agent(self, entry: tuple[yaml.ScalarNode, yaml.Node, s.Name]) -> s.Agent | None:
        key, node, name = entry
        entries = self._entries(node, "an agent", AGENT)
        by_key = {key.value: value for key, value in entries}
        if not self._has(node, by_key, "an agent", ("on",), at=key):
            return None
        declare = 'declare it, `models: {small: "smollm2-135m"}`, and write `on: small`'
        model = self._name(by_key["on"], declare)
        fields = tuple(
            s.Field(self._across(field, type), word, kind)
            for field, type, word in (self._named(by_key["fields"], "fields") if "fields" in by_key else ())
            if (kind := self._name(type))
        )
        members: tuple[s.Member, ...] = tuple(each(entries, self._member))
        return s.Agent(self._across(key, node), name, fields, model, members) if model else None

    def _member(self, entry: Pair) -> s.Member | None:
        key, node = entry
        span = self._across(key, node)
        match key.value:
            case "system" | "user":
                if not isinstance(node, yaml.ScalarNode) or is_null(node):
                    self._wrong(node, "text", in_quotes(node, self._span(node).text))
                    return None
                self.diagnostics += [*escapes_meant(self.source, node), *cut_off(self.source, node)]
                parts = strings.yaml_prompt(excerpt(self.source, node), self.diagnostics.append)
                return s.Say(span, s.Name(self._span(key), key.value), s.Prompt(self._span(node), parts))
            case "think" if isinstance(node, yaml.MappingNode):
                entries = self._entries(node, "`think`", None)
                if not self._has(node, {key.value: value for key, value in entries}, "`think`", ("steps",), at=key):
                    return None
                values = [value for key, value in entries if key.value == "steps"]
                steps = self._value(values[0])
                return s.Think(span, steps, self._options(node, besides="steps")) if steps else None
            case "think":
                steps = self._value(node)
                return s.Think(span, steps, ()) if steps else None
            case "adapt" if (found := adapter_of(node)) is not None:
                kind, begins = self._name(found.kind), None if found.start is None else self._text(found.start)
                if kind and kind.text == "as":
                    if found.options is None or found.start is not None:
                        self._wrong(node, "`{as: planner}`: the agent whose adapter is shared")
                        return None
                    of = self._name(found.options, "name an agent: `{as: planner}`")
                    return s.Adapt(span, kind, (), of) if of else None
                options = () if found.options is None else self._options(found.options)
                return s.Adapt(span, kind, options, start=begins) if kind else None
            case "adapt":
                self._wrong(node, "`none`, `lora`, `{lora: {rank: 8}}` or `{as: planner}`")
                return None
            case "answer":
                return s.Answer(span, self._options(node))
            case "template":
                table = self._table(node)
                return s.Variables(span, table.entries) if table else None
        return None

    def _graph(self, entry: Pair) -> s.Graph | None:
        key, node = entry
        entries = self._by_key(node, "a graph", GRAPH, GRAPH_NEEDS, at=key)
        if entries is None or not (name := self._name(entries["name"])):
            return None
        inputs = self._names(entries["inputs"]) if "inputs" in entries else ()
        outputs = self._names(entries["outputs"])
        body = self._body(entries["body"]) if "body" in entries else ()
        if not outputs:
            self._wrong(entries["outputs"], "at least one name")
            return None
        return s.Graph(self._across(key, node), name, inputs, outputs, body)

    def _train(self, entry: Pair) -> s.Train:
        key, node = entry
        made: list[s.Supervise | s.Setting] = []
        for name, value in self._entries(node, "`train`", None):
            if name.value == "supervise":
                for output, column, word in self._named(value, "outputs"):
                    if target := self._text(column):
                        made_of = s.Name(target.span, str(target.value))
                        made.append(s.Supervise(self._across(output, column), word, made_of))
                continue
            read = self._text(value) if name.value == "data" else self._entry_value(value)
            setting = self._name(name)
            if setting and read:
                made.append(s.Setting(self._across(name, value), setting, read))
        return s.Train(self._across(key, node), tuple(made))

    # statements

    def _body(self, node: yaml.Node) -> tuple[s.Statement, ...]:
        statements: list[s.Statement] = []
        for item in [node] if isinstance(node, yaml.ScalarNode) else self._items(node):
            if isinstance(item, yaml.ScalarNode):
                statements += [] if is_null(item) else self._statements(excerpt(self.source, item))
            elif not isinstance(item, yaml.MappingNode):
                self._wrong(item, 'a statement; in quotes if it starts with `[`: "[a, b] -> c : kv"')
            elif any(key.value in REPEAT for key, _ in item.value):
                entries = self._by_key(item, "`repeat`", REPEAT, needed=REPEAT)
                count = self._value(entries["repeat"]) if entries else None
                if entries and count:
                    statements.append(s.Repeat(self._span(item), count, self._body(entries["body"])))
            else:
                # `a -> b : kv` without quotes: YAML takes the colon for its own. Read it as it stands in the text.
                for key, value in item.value:
                    statements += self._statements(self._entry(key, value))
        return tuple(statements)

    def _entry(self, key: yaml.Node, value: yaml.Node) -> Excerpt:
        """The text of an entry of a mapping; what is in quotes, as a JSON writer puts it, without them."""
        span = self._across(key, value)
        if isinstance(key, yaml.ScalarNode) and isinstance(value, yaml.ScalarNode) and (key.style or value.style):
            first, last = excerpt(self.source, key), excerpt(self.source, value)
            colon = self._span(key).end
            offsets = (*(first.offsets or ())[:-1], colon, colon, colon, *(last.offsets or ()))
            return Excerpt(self.source, f"{first.text} : {last.text}", offsets)
        return Excerpt(self.source, span.text, tuple(range(span.start, span.end + 1)))

    def _statements(self, text: Excerpt) -> tuple[s.Statement, ...]:
        statements, found, diagnostics = parse_statements(text)
        self.comments += found
        self.diagnostics += diagnostics
        return statements
