"""Adapters that agents share: whose `adapt as planner` names, and whether it can be shared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from masc.compiler.ir.graph import Agent
from masc.compiler.resolve.templates import mentioned
from masc.compiler.resolve.units import Home, Unit
from masc.dsl import syntax
from masc.dsl.diagnostics import Diagnostic, Label, did_you_mean

Members = Mapping[str, tuple[Agent, Home]]
"""The agents that the graph can name, with where they are declared."""


def share(main: Unit, members: Members, graph: syntax.Graph) -> dict[str, Agent]:
    """The agents that share an adapter, with that of the agent that they name. One that cannot have it gets a fresh
    one; that is complained about where it is in the graph or declared in its file."""
    named = {name.text for name in mentioned(graph.body)}
    found: dict[str, Agent] = {}
    for name, (agent, home) in members.items():
        if agent.shares is None:
            continue
        owner = _owner(main, members, name, named)
        if isinstance(owner, str):
            found[name] = replace(agent, shares=owner, lora=members[owner][0].lora)
            continue
        found[name] = replace(agent, shares=None)
        if owner is not None and (name in named or home.unit is main):
            home.unit.scope.notes.append(owner)
    return found


def _owner(main: Unit, members: Members, name: str, named: set[str]) -> str | Diagnostic | None:
    """The agent whose adapter another one has, or why it cannot have it; None where that has been told."""
    _, home = members[name]
    said = _said(home)
    text = said.text
    if text not in members or not _is(main, members, home, text):
        return _elsewhere(members, name, said)
    owner, other = members[text]
    label = Label(other.written.name.span, f"`{text}` is declared here")
    chain = list(_chain(members, name))
    if text == name:
        hint = "an adapter of its own is `adapt lora(...)`"
        return Diagnostic("E0550", f"`{name}` shares its own adapter", said.span, hint=hint)
    if name in chain:
        if name != next(other for other in members if other in chain):
            return None  # told of the first of them
        message = f"these agents share each other's adapter: {' -> '.join((name, *chain))}"
        return Diagnostic("E0550", message, said.span, hint=f"give `{text}` one of its own: `adapt lora(...)`")
    if owner.shares is not None:
        message = f"`{text}` has no adapter of its own to share: it has that of `{owner.shares}`"
        return Diagnostic("E0550", message, said.span, (label,), f"write `adapt as {chain[-1]}`")
    if owner.lora is None:
        message = f"`{text}` has no adapter to share: it is `adapt none`"
        hint = f"write `adapt none` here too, or give `{text}` an adapter"
        return Diagnostic("E0550", message, said.span, (label,), hint)
    if home.model is None or other.model is None:
        return None
    if (home.model.name, home.model.base) != (other.model.name, other.model.base):
        pairs = ((name, home), (text, other))
        labels = (Label(at.written.model.span, f"`{who}` runs on `{at.written.model.text}`") for who, at in pairs)
        message = f"`{name}` cannot share the adapter of `{text}`: they run on different models"
        hint = f"an adapter means something on its own base model only: let both run on `{other.model.name}`"
        return Diagnostic("E0551", message, said.span, tuple(labels), hint)
    if text not in named and name in named:
        return _absent(name, said, other)
    return text


def _elsewhere(members: Members, name: str, said: syntax.Name) -> Diagnostic | None:
    """What is wrong with a name that is no agent of the graph's."""
    _, home = members[name]
    text, declared = said.text, home.unit.agents.get(said.text)
    if declared is not None and declared.agent is not None:
        return _absent(name, said, declared)
    if declared is not None:
        label = Label(declared.written.name.span, "the template")
        hint = f"name an agent that is made of it: `name = {text}(...)` in the graph"
        return Diagnostic("E0212", f"`{text}` is a template, and an adapter is an agent's", said.span, (label,), hint)
    if text in home.unit.foreign:
        return None
    known = [other for other, (_, at) in members.items() if at.unit is home.unit and other != name]
    near = did_you_mean(text, known) or (f"the agents are {', '.join(known)}" if len(known) in range(1, 9) else None)
    return Diagnostic("E0201", f"there is no agent `{text}`", said.span, hint=near)


def _absent(name: str, said: syntax.Name, owner: Home) -> Diagnostic:
    message = f"`{name}` shares the adapter of `{said.text}`, which is not in the graph"
    label = Label(owner.written.name.span, f"`{said.text}` is declared here")
    hint = f"name `{said.text}` in the graph, or give `{name}` an adapter of its own"
    return Diagnostic("E0552", message, said.span, (label,), hint)


def _said(home: Home) -> syntax.Name:
    """The agent that `adapt as` names."""
    members = (member for member in home.written.members if isinstance(member, syntax.Adapt))
    return next(member.of for member in members if member.of is not None)


def _is(main: Unit, members: Members, home: Home, text: str) -> bool:
    """Whether a name in an agent's file means that member of the graph: declared or imported there, or made there."""
    declared = home.unit.agents.get(text)
    return members[text][1] is declared if declared is not None else home.unit is main


def _chain(members: Members, name: str) -> Iterator[str]:
    """Whose adapter an agent shares, and whose that one shares, up to the first that shares none or came before."""
    seen = {name}
    while name in members and (owner := members[name][0].shares) is not None:
        yield owner
        if owner in seen:
            return
        seen.add(owner)
        name = owner
