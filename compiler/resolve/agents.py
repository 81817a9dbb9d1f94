"""Resolving agents: their members' values read, defaults put in."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from masc.compiler.ir.adapter import Lora
from masc.compiler.ir.graph import Agent, Gradient
from masc.compiler.ir.plan import Sampling, Slot, Template
from masc.compiler.language.adapters import ADAPTERS
from masc.compiler.language.agents import ANSWER, STEPS, THINK
from masc.compiler.language.models import read_variables
from masc.compiler.language.options import read_options
from masc.compiler.language.other_names import meant
from masc.compiler.language.values import Constant, Scope, duplicate, read_value
from masc.compiler.resolve.starts import Here, begin
from masc.dsl import syntax
from masc.dsl.limits import PROMPT


def read_agent(
    scope: Scope, agent: syntax.Agent, called: syntax.Name, here: Here, fields: Mapping[str, Constant] | None = None
) -> Agent:
    """An agent with its own name or an instance's (`called`), on the model that its file calls so.

    What is wrong in it is replaced by its default. Whose adapter it shares is a name in its file (see `shared.py`).
    `here`: where the file is. `fields`: what stands for a placeholder is put in as text.
    """
    name = agent.name.text
    prompts: dict[str, Template] = {}
    found: dict[str, Any] = {"steps": 0, "lora": Lora(), "answer": None, "shares": None, "variables": ()}
    found |= {name: option.default for name, option in THINK.items()}
    first: dict[str, syntax.Member] = {}
    for member in agent.members:
        word_of = _word(member)
        if word_of in first:
            duplicate(scope, f"`{word_of}` of `{name}`", member.span, first[word_of].span)
            continue
        first[word_of] = member
        if isinstance(member, syntax.Say):
            prompts[word_of] = _template(scope, called, member.prompt, fields or {})
        elif isinstance(member, syntax.Think):
            found["steps"] = _steps(scope, member)
            found |= read_options(scope, member.options, THINK, "`think`")
        elif isinstance(member, syntax.Adapt):
            found["lora"] = _adapt(scope, called.text, member, here)
            found["shares"] = member.of.text if member.of else None
        elif isinstance(member, syntax.Variables):
            found["variables"] = read_variables(scope, member.options)
        else:
            found["answer"] = Sampling(**read_options(scope, member.options, ANSWER, "`answer`"))
    if "user" not in prompts:
        message = f"the agent `{name}` has no `user` prompt"
        scope.complain("E0406", message, agent.name.span, 'add `user "..."`: what the agent is asked')
    align: str = found["align"]
    gradient: Gradient = found["gradient"]
    return Agent(
        name=called.text,
        model=agent.model.text,
        system=prompts.get("system"),
        user=prompts.get("user", ()),
        steps=found["steps"],
        align=align,
        gradient=gradient,
        lora=found["lora"],
        answer=found["answer"],
        span=called.span,
        shares=found["shares"],
        variables=found["variables"],
    )


def _word(member: syntax.Member) -> str:
    """The keyword that a member begins with."""
    if isinstance(member, syntax.Say):
        return member.role.text
    return "template" if isinstance(member, syntax.Variables) else type(member).__name__.lower()


def _steps(scope: Scope, member: syntax.Think) -> int:
    """The number of latent steps; some if it cannot be read, so that nobody is told that there are none."""
    steps: int | None = read_value(scope, STEPS, "think", member.steps)
    return 1 if steps is None else steps


def _adapt(scope: Scope, agent: str, member: syntax.Adapt, here: Here) -> Lora | None:
    kind = member.kind.text
    if kind not in ADAPTERS:
        hint = meant(kind, list(ADAPTERS)) or "only adapters are trained: `lora(rank = 16)`, or `none`"
        message = f"`adapt` takes `lora(...)`, `none` or `as` and an agent, not `{kind}`"
        scope.complain("E0405", message, member.kind.span, hint)
        return Lora()
    adapter = ADAPTERS[kind]
    if adapter.of:
        return Lora()
    if member.start is not None and not adapter.starts:
        message = f"`adapt {kind}` begins with nothing"
        scope.complain("E0405", message, member.start.span, "write `adapt lora() from` and a folder")
    if not adapter.options:
        read_options(scope, member.options, {}, f"`adapt {kind}`")
        return None
    said = read_options(scope, member.options, adapter.options, f"`{kind}`")
    return Lora(**said) if member.start is None else begin(scope, agent, member, said, here)


def _template(scope: Scope, called: syntax.Name, prompt: syntax.Prompt, fields: Mapping[str, Constant]) -> Template:
    """Text and slots in turn. A field's text is text: braces in it are no placeholders."""
    parts = [_filled(part, fields) for part in prompt.parts]
    if (size := sum(len(part) for part in parts if isinstance(part, str))) > PROMPT:
        message = f"a prompt of `{called.text}` has {size:,} characters: there may be {PROMPT:,}"
        scope.complain("E0217", message, called.span, "make a long text an input: a column of the data")
        return ()
    joined: list[str | Slot] = []
    for is_text, group in groupby(parts, key=lambda part: isinstance(part, str)):
        run = list(group)
        joined += ["".join(part for part in run if isinstance(part, str))] if is_text else run
    return tuple(part for part in joined if part != "")


def _filled(part: str | syntax.Placeholder, fields: Mapping[str, Constant]) -> str | Slot:
    if isinstance(part, str):
        return part
    if (given := fields.get(part.name)) is None:
        return Slot(part.name)
    return Slot(given.text) if given.slot else given.text
