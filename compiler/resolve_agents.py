"""Resolving agents: their members' values read, defaults put in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

from masc.compiler.graph import Agent, Align, Model
from masc.compiler.names import reserved
from masc.compiler.plan import Lora, Sampling, Slot, Template
from masc.compiler.values import (
    Reader,
    Scope,
    duplicate,
    number,
    read_options,
    read_value,
    stops,
    targets,
    unsupported,
    whole,
    word,
)
from masc.dsl import syntax
from masc.dsl.diagnostics import did_you_mean

THINK: dict[str, Reader] = {"align": word("norm", "ridge", "linear")}
LORA: dict[str, Reader] = {
    "rank": whole(1),
    "alpha": number(above=0),
    "targets": targets,
    "dropout": number(0, below=1),
}
ANSWER: dict[str, Reader] = {
    "max_tokens": whole(1),
    "temperature": number(0),
    "top_p": number(above=0, high=1),
    "seed": whole(0),
    "stop": stops,
}


def resolve_agents(
    scope: Scope, declared: Sequence[syntax.Agent], models: Mapping[str, Model], foreign: Set[str]
) -> tuple[tuple[Agent, ...], dict[str, syntax.Agent]]:
    """The agents and, by name, how they were written. What is wrong in one is replaced by its default.

    Templates are refused; their names go to `written` alone, so that using one is not called an unknown name.
    """
    agents: list[Agent] = []
    written: dict[str, syntax.Agent] = {}
    for agent in declared:
        name = agent.name.text
        if name in written:
            duplicate(scope, f"the agent `{name}`", agent.name.span, written[name].name.span)
            continue
        written[name] = agent
        if (why := reserved(name)) is not None:
            message = f"an agent cannot be called `{name}`: {why}"
            scope.complain("E0203", message, agent.name.span, "choose another name")
        if agent.fields:
            what = f"agent templates (`{name}` has parameters of its own) are"
            unsupported(scope, what, agent.fields[0].span, "write one agent for each instance")
            scope.lost.add("graph")
            _note_params(scope, agent)
            continue
        if agent.model.text not in models:
            hint = did_you_mean(agent.model.text, list(models))
            hint = hint or f'declare it: `model {agent.model.text} = "smollm2-135m"`'
            scope.complain("E0201", f"there is no model `{agent.model.text}`", agent.model.span, hint)
            scope.lost.add("model")
        agents.append(_agent(scope, agent))
    return tuple(agents), written


def _note_params(scope: Scope, agent: syntax.Agent) -> None:
    """A template is not read, but the parameters that it names are not unused."""
    for member in agent.members:
        values = [o.value for o in member.options] if not isinstance(member, syntax.Say) else []
        values += [member.steps] if isinstance(member, syntax.Think) else []
        scope.used |= {v.text for v in values if isinstance(v, syntax.Name)}


def _agent(scope: Scope, agent: syntax.Agent) -> Agent:
    name = agent.name.text
    prompts: dict[str, Template] = {}
    found: dict[str, Any] = {"steps": 0, "align": "norm", "lora": Lora(), "answer": None}
    first: dict[str, syntax.Member] = {}
    for member in agent.members:
        word_of = member.role.text if isinstance(member, syntax.Say) else type(member).__name__.lower()
        if word_of in first:
            duplicate(scope, f"`{word_of}` of `{name}`", member.span, first[word_of].span)
            continue
        first[word_of] = member
        if isinstance(member, syntax.Say):
            prompts[word_of] = _template(member.prompt)
        elif isinstance(member, syntax.Think):
            found["steps"] = _steps(scope, member)
            found |= read_options(scope, member.options, THINK, "`think`")
        elif isinstance(member, syntax.Adapt):
            found["lora"] = _adapt(scope, member)
        else:
            found["answer"] = Sampling(**read_options(scope, member.options, ANSWER, "`answer`"))
    if "user" not in prompts:
        message = f"the agent `{name}` has no `user` prompt"
        scope.complain("E0406", message, agent.name.span, 'add `user "..."`: the question that it is asked')
    align: Align = found["align"]
    return Agent(
        name=name,
        model=agent.model.text,
        system=prompts.get("system"),
        user=prompts.get("user", ()),
        steps=found["steps"],
        align=align,
        lora=found["lora"],
        answer=found["answer"],
        span=agent.name.span,
    )


def _steps(scope: Scope, member: syntax.Think) -> int:
    """The number of latent steps; some if it cannot be read, so that nobody is told that there are none."""
    steps: int | None = read_value(scope, whole(0), "think", member.steps)
    return 1 if steps is None else steps


def _adapt(scope: Scope, member: syntax.Adapt) -> Lora | None:
    kind = member.kind.text
    if kind == "none":
        read_options(scope, member.options, {}, "`adapt none`")
        return None
    if kind != "lora":
        hint = did_you_mean(kind, ["lora", "none"])
        scope.complain("E0405", f"`adapt` takes `lora(...)` or `none`, not `{kind}`", member.kind.span, hint)
        return Lora()
    return Lora(**read_options(scope, member.options, LORA, "`lora`"))


def _template(prompt: syntax.Prompt) -> Template:
    return tuple(part if isinstance(part, str) else Slot(part.name) for part in prompt.parts)
