"""`masc init` and `masc new`: a working folder to start from, and one more agent."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masc.dsl.diagnostics import Diagnostic, Label, MascError, did_you_mean, errors, fail
from masc.terminal.console import say

if TYPE_CHECKING:
    from masc.dsl.syntax import Agent, File, Name

MODEL = "smollm2-135m"
new = typer.Typer(no_args_is_help=True, help="Add a declaration to a file.")


def init(
    folder: Annotated[
        Path | None, typer.Argument(help="Where to \\[default: a new folder with the team's name]")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the team \\[default: the folder's, or the shape]")] = None,
    shape: Annotated[str | None, typer.Option(help="chain, panel, debate or pair")] = None,
    model: Annotated[str | None, typer.Option(help="A short name, a Hugging Face id, or a folder")] = None,
    task: Annotated[str | None, typer.Option(help="sums, letters or own")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: take what is the default")] = False,
) -> None:
    """Write a team to start from: the program, rows to train on, a README. Asks for what the options do not say."""
    from masc.commands import starters
    from masc.compiler.files.writing import atomic_write

    shapes = {key: value.about for key, value in starters.SHAPES.items()}
    tasks = {key: value.about for key, value in starters.TASKS.items()}
    shape = _chosen("--shape", shape, "Which shape has the team?", shapes, yes)
    model = _model(model, yes)
    task = _chosen("--task", task, "What shall it learn?", tasks, yes)
    name = _name(name or (folder.resolve().name.replace("-", "_") if folder else shape))
    folder = folder or Path(name)
    train, test = starters.rows(task)
    files = {
        f"{name}.mas": starters.program(name, shape, _from(folder, model), task),
        "train.jsonl": train,
        "test.jsonl": test,
        "README.md": starters.readme(name, shape, task),
    }
    for file in files:
        if (folder / file).exists():
            raise fail("E0640", f"`{folder / file}` is there already", hint="name another folder, or another --name")
    for file, text in files.items():
        atomic_write(folder / file, text)
        say(f"wrote {folder / file}")
    say(f"next: masc train {folder}")


def _chosen(option: str, given: str | None, question: str, known: Mapping[str, str], yes: bool) -> str:
    """One of what is known: as the option says, the first one, or as a person answers."""
    if given is not None:
        if given not in known:
            hint = did_you_mean(given, list(known)) or f"known are {', '.join(known)}"
            raise typer.BadParameter(f"`{given}` is none: {hint}", param_hint=option)
        return given
    default = next(iter(known))
    if yes:
        return default
    say(question)
    for key, about in known.items():
        say(f"  {key:<8} {about}")
    while (answer := _ask("Your choice", default)) not in known:
        say(did_you_mean(answer, list(known)) or f"one of {', '.join(known)}")
    return answer


def _model(given: str | None, yes: bool) -> str:
    from masc.compiler.models.locate import check_model

    def problem(model: str) -> str | None:
        found = errors(check_model(model, Path())[1])
        return f"{found[0].message}; {found[0].hint}" if found else None

    if given is not None or yes:
        model = given or MODEL
        if (wrong := problem(model)) is not None:
            raise typer.BadParameter(wrong, param_hint="--model")
        return model
    say("On which base model? A short name (masc models list), a Hugging Face id, or a folder.")
    while (wrong := problem(model := _ask("Your choice", MODEL))) is not None:
        say(wrong)
    return model


def _ask(question: str, default: str) -> str:
    try:
        answer: str = typer.prompt(question, default=default, err=True)
    except typer.Abort:
        raise typer.BadParameter("nobody answers: give --shape, --model and --task, or -y") from None
    return answer.strip()


def _name(name: str) -> str:
    from masc.dsl.strings import is_name
    from masc.dsl.tokens import KEYWORDS

    if not is_name(name) or name in (*KEYWORDS.values(), "true", "false", "question", "answer"):
        raise typer.BadParameter(f"`{name}` cannot be the name of a team: letters, digits and `_`", param_hint="--name")
    return name


def _from(folder: Path, model: str) -> str:
    """A model's folder, as a file in another folder names it."""
    from masc.compiler.models.locate import locate_model

    location = locate_model(model, Path())
    if location is None or location.kind != "local" or Path(model).is_absolute() or model.startswith("~"):
        return model
    path = os.path.relpath(model, folder)
    return path if path.startswith(".") else f"./{path}"


@new.callback()
def _new() -> None:
    """Add a declaration to a file."""


@new.command("agent")
def new_agent(
    name: Annotated[str, typer.Argument(help="Of the agent")],
    file: Annotated[
        Path | None, typer.Argument(help="A .mas or YAML file, or a folder with one \\[default: the one here]")
    ] = None,
    on: Annotated[str | None, typer.Option(help="The model that it runs on \\[default: the first one]")] = None,
) -> None:
    """Add an agent to a file, which is formatted with it; comments stay."""
    from masc.commands.formatting import read_tree
    from masc.compiler.artifact import atomic_write, locate
    from masc.dsl.rewrite import rewritten

    path = locate(file, Path())
    tree, _ = read_tree(path)
    agent = _agent(tree, name, on)
    atomic_write(path, rewritten(_with(tree, agent)))
    say(f"{path}: added the agent `{name}`; it takes part once an edge names it, such as `{name} -> ... : kv`")


def _agent(tree: File, name: str, on: str | None) -> Agent:
    """The declaration, with the graph's first input in its prompt. MascError where the file cannot have it."""
    from masc.compiler.resolve.names import reserved
    from masc.dsl import syntax as s
    from masc.dsl.strings import is_name
    from masc.dsl.tokens import KEYWORDS

    if not is_name(name) or name in (*KEYWORDS.values(), "true", "false"):
        raise typer.BadParameter(f"`{name}` cannot be a name: letters, digits and `_`", param_hint="NAME")
    if (why := reserved(name)) is not None:
        raise fail("E0203", f"an agent cannot be called `{name}`: {why}", hint="choose another name")
    for there in _names(tree):
        if there.text == name:
            label = Label(there.span, "it is here")
            raise MascError([Diagnostic("E0202", f"there is a `{name}` already", labels=(label,))])
    models = [d.name.text for d in tree.declarations if isinstance(d, s.Model)]
    models += [name.text for d in tree.declarations if isinstance(d, s.Import) for name in d.names] if on else []
    if not models:
        raise fail("E0201", "the file has no model to run on", hint='declare one: `model small = "smollm2-135m"`')
    if on is not None and on not in models:
        raise fail("E0201", f"there is no model `{on}`", hint=did_you_mean(on, models))
    at = tree.span
    graph = next((d for d in tree.declarations if isinstance(d, s.Graph)), None)
    parts = (s.Placeholder(at, graph.inputs[0].text),) if graph and graph.inputs else ("What do you think?",)
    members = (s.Say(at, s.Name(at, "user"), s.Prompt(at, parts)), s.Think(at, s.Literal(at, 4), ()))
    return s.Agent(at, s.Name(at, name), (), s.Name(at, on or models[0]), members)


def _names(tree: File) -> list[Name]:
    """The names that agents have, inputs and outputs of the graph, and what is made of templates."""
    from masc.compiler.resolve.templates import instances
    from masc.dsl import syntax as s

    found: list[Name] = []
    for item in tree.declarations:
        if isinstance(item, s.Agent):
            found.append(item.name)
        elif isinstance(item, s.Import):
            found += item.names
        elif isinstance(item, s.Graph):
            found += [*item.inputs, *item.outputs, *(made.name for made in instances(item.body))]
    return found


def _with(tree: File, agent: Agent) -> File:
    """The file with an agent after its last one; where there is none, before the graph."""
    from dataclasses import replace

    from masc.dsl import syntax as s

    items = tree.declarations
    last = max((i + 1 for i, item in enumerate(items) if isinstance(item, s.Agent)), default=None)
    graph = min((i for i, item in enumerate(items) if isinstance(item, s.Graph)), default=len(items))
    place = graph if last is None else last
    return replace(tree, declarations=(*items[:place], agent, *items[place:]))
