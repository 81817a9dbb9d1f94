"""Templates: agents with fields, and the agents that are made of them by putting values in."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from masc.compiler.ir.graph import Agent
from masc.compiler.language.values import BadValueError, Constant, Scope, duplicate, plain, show
from masc.compiler.resolve.agents import read_agent
from masc.compiler.resolve.params import FIELD_TYPES, INPUT, SAMPLES, TYPES, fit
from masc.compiler.resolve.starts import Here
from masc.dsl import syntax
from masc.dsl.diagnostics import Label, did_you_mean

_LONE = re.compile(r"\{\{|\}\}")
_PLACEHOLDER = re.compile(r"\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}")


def check_fields(scope: Scope, template: syntax.Agent) -> None:
    """Complain about fields of an unknown type or given twice."""
    first: dict[str, syntax.Name] = {}
    for entry in template.fields:
        name, kind = entry.name.text, entry.type.text
        if name in first:
            duplicate(scope, f"the field `{name}` of `{template.name.text}`", entry.name.span, first[name].span)
        first.setdefault(name, entry.name)
        if kind not in FIELD_TYPES:
            hint = did_you_mean(kind, FIELD_TYPES) or f"the types are {', '.join(FIELD_TYPES)}"
            scope.complain("E0405", f"there is no type `{kind}`", entry.type.span, hint)


def read_template(
    scope: Scope, template: syntax.Agent, name: syntax.Name, given: Mapping[str, Constant], here: Here
) -> Agent:
    """The agent of a name that a template gives with some values in its fields. `scope`: of the template's file;
    `here`: where that is.

    A field without a value gets some value of its type, and what comes of that is not complained about.
    """
    samples = {
        entry.name.text: Constant(SAMPLES.get(entry.type.text, "x"), entry.span, "x")
        for entry in reversed(template.fields)
        if entry.name.text not in given
    }
    inner = Scope({**scope.params, **samples, **given}, lost=scope.lost)
    agent = read_agent(inner, template, name, here, {**samples, **given})
    silent = [sample.span for sample in samples.values()]
    scope.notes += [d for d in inner.notes if not any(label.span in silent for label in d.labels)]
    scope.used |= inner.used - samples.keys() - given.keys()
    return agent


def read_arguments(
    scope: Scope, template: syntax.Agent, instance: syntax.Instance, inputs: Collection[str]
) -> dict[str, Constant]:
    """The values for a template's fields, as far as they fit. `scope`: of the file with the instance; `inputs`: of its
    graph."""
    found: dict[str, Constant] = {}
    if len({entry.name.text for entry in template.fields}) < len(template.fields):
        return found  # nobody knows how many arguments were meant
    wanted, got = len(template.fields), len(instance.arguments)
    if wanted != got:
        count = f"{wanted} argument{'s' if wanted != 1 else ''}"
        label = Label(template.fields[0].span.to(template.fields[-1].span), "one for each of these")
        example = ", ".join(entry.name.text for entry in template.fields)
        message = f"`{template.name.text}` takes {count}, not {got}"
        hint = f"write `{instance.name.text} = {template.name.text}({example})` with values"
        scope.complain("E0214", message, instance.span, hint, label)
    for entry, value in zip(template.fields, instance.arguments, strict=False):
        take = _input if entry.type.text == INPUT else _argument
        constant = take(scope, template, entry, value, inputs)
        if constant is not None:
            found[entry.name.text] = constant
    return found


def _input(
    scope: Scope, template: syntax.Agent, entry: syntax.Field, value: syntax.Value, inputs: Collection[str]
) -> Constant | None:
    """An input of the graph, by its bare name."""
    if isinstance(value, syntax.Name) and value.text in inputs:
        return Constant(value.text, value.span, value.text, slot=True)
    label = Label(entry.span, "the field")
    wants = f"`{template.name.text}` takes an input of the graph for `{entry.name.text}`"
    if isinstance(value, syntax.Name) and value.text not in scope.params:
        known = f"the inputs are {', '.join(inputs)}" if inputs else "the graph has no inputs"
        hint = did_you_mean(value.text, inputs) or known
        scope.complain("E0201", f"{wants}, and there is none called `{value.text}`", value.span, hint, label)
        return None
    text = value.value if isinstance(value, syntax.Literal) else None
    name = str(text).strip("{}")
    got = (
        f"the parameter `{value.text}`" if isinstance(value, syntax.Name) else show(text if text is not None else value)
    )
    scope.complain("E0403", f"{wants}, not {got}", value.span, f"write `{name}`" if name in inputs else None, label)
    return None


def _argument(
    scope: Scope, template: syntax.Agent, entry: syntax.Field, value: syntax.Value, inputs: Collection[str]
) -> Constant | None:
    if entry.type.text not in TYPES:
        return None
    if isinstance(value, syntax.Name) and value.text in inputs and value.text not in scope.params:
        wants = FIELD_TYPES[entry.type.text]
        message = f"`{template.name.text}` takes {wants} for `{entry.name.text}`, not the input `{value.text}`"
        hint = f"a field that stands for an input has the type `{INPUT}`: `{entry.name.text}: {INPUT}`"
        scope.complain("E0403", message, value.span, hint, Label(entry.type.span, "its type"))
        return None
    try:
        got, labels = scope.constant(value)
    except BadValueError:
        return None
    fitting = fit(got, entry.type.text)
    if fitting is None:
        wants = TYPES[entry.type.text][0]
        message = f"`{template.name.text}` takes {wants} for `{entry.name.text}`, not {show(got)}"
        scope.complain("E0403", message, value.span, None, Label(entry.span, "the field"), *labels)
        return None
    text = scope.params[value.text].text if isinstance(value, syntax.Name) else plain(value)
    if not isinstance(fitting, str):
        return Constant(fitting, value.span, text)
    if (said := _unescaped(scope, entry, value, text, inputs, labels)) is None:
        return None
    return Constant(said, value.span, said)


def _unescaped(
    scope: Scope,
    entry: syntax.Field,
    value: syntax.Value,
    text: str,
    inputs: Collection[str],
    labels: tuple[Label, ...],
) -> str | None:
    """A text that will stand in prompts: `{{` and `}}` are braces there, and a brace alone would be taken for a
    placeholder, which it could not be."""
    lone = _LONE.sub("", text)
    if "{" not in lone and "}" not in lone:
        return text.replace("{{", "{").replace("}}", "}")
    named = _PLACEHOLDER.search(lone)
    if named is not None and named[1] in inputs:
        hint = f"for an input, give the field the type `{INPUT}` (`{entry.name.text}: {INPUT}`) and write `{named[1]}`"
    else:
        hint = "write `{{` and `}}` for braces; a text holds no placeholders"
    message = f"the text for `{entry.name.text}` holds a brace, but placeholders are not filled in it"
    scope.complain("E0410", message, value.span, hint, Label(entry.span, "the field"), *labels)
    return None


def instances(body: tuple[syntax.Statement, ...]) -> Iterator[syntax.Instance]:
    """The instances in a graph's body, those in repeats too."""
    for statement in body:
        if isinstance(statement, syntax.Instance):
            yield statement
        elif isinstance(statement, syntax.Repeat):
            yield from instances(statement.body)


def mentioned(body: tuple[syntax.Statement, ...]) -> Iterator[syntax.Name]:
    """The names that edges join, and those that stand alone."""
    for statement in body:
        if isinstance(statement, syntax.Edge):
            yield from (name for stage in statement.stages for name in stage.names)
        elif isinstance(statement, syntax.Lone):
            yield statement.name
        elif isinstance(statement, syntax.Repeat):
            yield from mentioned(statement.body)


def named_in(agent: syntax.Agent) -> set[str]:
    """The names that an agent's prompts and values mention."""
    names: set[str] = set()
    for member in agent.members:
        if isinstance(member, syntax.Say):
            names |= {part.name for part in member.prompt.parts if isinstance(part, syntax.Placeholder)}
            continue
        values = [option.value for option in member.options]
        values += [member.steps] if isinstance(member, syntax.Think) else []
        for value in values:
            names |= {item.text for item in _items(value) if isinstance(item, syntax.Name)}
    return names


def _items(value: syntax.Value) -> Sequence[syntax.Value]:
    if isinstance(value, syntax.Table):
        return [entry.value for entry in value.entries]
    return value.items if isinstance(value, syntax.List) else (value,)
