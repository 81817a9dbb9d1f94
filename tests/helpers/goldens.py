"""Small graphs and the plans that they compile to, one case a file in `tests/goldens/plans`: they show that a change of
the compiler changes no meaning. `make goldens` writes every plan down anew; read the difference before it is committed.

A case is Markdown: one sentence that says what it shows, the files (the last one is the graph, those before it are
imported and named), how it is compiled where that is not plainly, and the plan.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from folders import fill, fill_adapter
from masc.compiler.forms.plan_text import print_plan
from masc.compiler.ir.adapter import Lora
from masc.compiler.ir.plan import Plan
from masc.compiler.pipeline import Compilation, compile_source
from masc.dsl.read import read_source
from masc.dsl.render import render
from masc.dsl.rewrite import rewritten
from masc.dsl.source import Source

FOLDER = Path(__file__).parents[1] / "goldens" / "plans"
MODELS = FOLDER.with_name("models")
COMMAND = "make goldens"
_FENCE = re.compile(r"^```(\S+)(?: (\S+))?\n(.*?)^```\n", re.M | re.S)
_OPTIONS = re.compile(r"Compiled with `([^`\n]+)`\.\n")
_OPTION = argparse.ArgumentParser(exit_on_error=False, add_help=False, allow_abbrev=False)
_OPTION.add_argument("--set", action="append", default=[])
_OPTION.add_argument("--cut", action="append", default=[])
_OPTION.add_argument("--channel", choices=("graph", "text"), default="graph")


@dataclass(frozen=True)
class Case:
    """`form`: mas or yaml; `text`: the graph's file; `imported`: path and text of each file that it needs; `options`:
    of the compiler, as on its command line; `expected`: the printed plan, empty where none was written yet."""

    name: str
    sentence: str
    imported: tuple[tuple[str, str], ...]
    form: str
    text: str
    options: str
    expected: str

    @property
    def source(self) -> Source:
        return Source(f"case.{self.form}", self.text)


def cases() -> list[Path]:
    return sorted(FOLDER.glob("*.md"))


def read_case(path: Path) -> Case:
    """Raises ValueError where a file is no case."""
    text = path.read_text(encoding="utf-8")
    blocks = [(word, name, body) for word, name, body in _FENCE.findall(text)]
    said = [part.strip("\n") for part in _FENCE.sub("\0", text).split("\0")]
    words = [f"{word} {name}".strip() for word, name, _ in blocks]
    expected = blocks.pop()[2] if words[-1:] == ["plan"] else ""
    if not blocks or blocks[-1][0] not in ("mas", "yaml") or blocks[-1][1]:
        raise ValueError(f"{path.name}: after the sentence come files, the graph's last and without a name, and a plan")
    if any(word not in ("mas", "yaml") or not name for word, name, _ in blocks[:-1]):
        raise ValueError(f"{path.name}: an imported file has its path behind the language: ```mas roles.mas")
    sentence, *between = said
    options = _OPTIONS.fullmatch(between[len(blocks) - 1] + "\n")
    if any(between[: len(blocks) - 1] + between[len(blocks) :]) or (between[len(blocks) - 1] and not options):
        raise ValueError(f"{path.name}: the only text behind the sentence is: Compiled with `--set a=1`.")
    return Case(
        name=path.stem,
        sentence=sentence,
        imported=tuple((name, body) for _, name, body in blocks[:-1]),
        form=blocks[-1][0],
        text=blocks[-1][2],
        options=options[1] if options else "",
        expected=expected,
    )


def case_text(case: Case, plan: str) -> str:
    """The file of a case."""
    parts = [f"{case.sentence}\n"]
    parts += [f"```{Path(name).suffix[1:]} {name}\n{text}```\n" for name, text in case.imported]
    parts.append(f"```{case.form}\n{case.text}```\n")
    parts += [f"Compiled with `{case.options}`.\n"] if case.options else []
    parts.append(f"```plan\n{plan}```\n")
    return "\n".join(parts)


@contextmanager
def models_folder() -> Iterator[Path]:
    """A folder with the models that a case may name: all of them that a look at a model needs."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name).resolve()
        for model in MODELS.iterdir():
            shutil.copytree(model, home / model.name)
            if (home / model.name / "config.json").is_file():
                fill(home / model.name)
        fill_adapter(home / "adapter", home / "tiny")
        yield home


def compiled(case: Case, home: Path) -> Compilation:
    """What a case compiles to, as if it and what it imports lay in a folder that holds the models."""
    texts = {str(home / name): text for name, text in case.imported}
    options = _OPTION.parse_args(shlex.split(case.options))
    settings = dict(word.split("=", 1) for word in options.set)
    cut = tuple((sender, receiver) for sender, receiver in (word.split(":") for word in options.cut))
    source = Source(str(home / case.source.path), case.text)
    return compile_source(source, settings, cut, home, options.channel, texts)


def plan_of(compilation: Compilation, home: Path) -> Plan:
    """The plan, models' folders named relative to the file. AssertionError where there are errors or warnings."""
    said = [d for d in compilation.diagnostics if d.severity != "info"]
    assert not said, render(said)
    plan = compilation.require()
    models = tuple(replace(m, target=m.target.replace(f"{home}/", "./")) for m in plan.models)
    agents = tuple(replace(agent, lora=_here(agent.lora, home)) for agent in plan.agents)
    return replace(plan, models=models, agents=agents)


def _here(lora: Lora | None, home: Path) -> Lora | None:
    if lora is None or lora.start is None:
        return lora
    return replace(lora, start=lora.start.replace(f"{home}/", "./"))


def formatted(case: Case) -> Case:
    """The case with its files in canonical style."""

    def canonical(source: Source) -> str:
        file, found = read_source(source)
        assert file is not None, render(found)
        return rewritten(file)

    imported = tuple((name, canonical(Source(name, text))) for name, text in case.imported)
    return replace(case, text=canonical(case.source), imported=imported)


def main() -> int:
    """Write down what every case compiles to now; a case that does not compile stays as it is."""
    changed = wrong = 0
    with models_folder() as home:
        for path in cases():
            try:
                case = formatted(read_case(path))
                text = case_text(case, print_plan(plan_of(compiled(case, home), home)))
            except (AssertionError, ValueError) as error:
                print(f"{path.name}:\n{error}", file=sys.stderr)
                wrong += 1
                continue
            if text != path.read_text(encoding="utf-8"):
                path.write_text(text, encoding="utf-8")
                print(f"written: {path.name}")
                changed += 1
    print(f"{changed} of {len(cases())} changed" + (f", {wrong} could not be compiled" if wrong else ""))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
