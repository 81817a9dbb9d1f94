"""Writes what follows from declarations: tables of the documents, words of editors, words in the parser's hints.

`make generated` runs it, after `errors.py` and `map.py`. What is declared where: `compiler/channels`,
`compiler/language`, `backends/torch/evaluation/tasks.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from masc.backends.torch.evaluation.tasks import TASKS
from masc.compiler.channels import CHANNELS
from masc.compiler.language.adapters import ADAPTERS, LORA
from masc.compiler.language.agents import ANSWER, THINK
from masc.compiler.language.alignments import ALIGNMENTS
from masc.compiler.language.bounds import MOST, Bounds
from masc.compiler.language.declare import Option
from masc.compiler.language.models import LOADS, MODEL
from masc.compiler.language.objectives import GRPO, OBJECTIVES
from masc.compiler.language.train import TRAIN
from masc.compiler.models.families import FAMILIES, Family

ROOT = Path(__file__).parents[1]
VSCODE = "editors/vscode"


# -- tables of the documents -------------------------------------------------------------------------------------------


def language(text: str) -> str:
    """docs/language.md"""
    text = within(text, "channels", channels())
    text = within(text, "alignments", alignments())
    text = within(text, "adapters", adapters())
    text = within(text, "entries", entries())
    text = within(text, "grpo", table(("option", "means", "default"), map(told, GRPO.values())))
    text = within(text, "models", table(("option", "means", "default"), map(told, MODEL.values())))
    text = within(text, "loads", loads())
    text = within(text, "limits", limits())
    choices = ", ".join(f"{o.name} = {' | '.join(o.reads.words)}" for o in THINK.values())
    lora = ", ".join(f"{o.name} = {o.shown_default}" for o in LORA.values())
    decoding = ", ".join(o.shown_default or o.unset for o in ANSWER.values())
    text = once(r"`think N \([^`]*\)`", f"`think N ({cell(choices)})`", text)
    text = once(r"`adapt lora\([a-z, ]*\)`", f"`adapt lora({', '.join(LORA)})`", text)
    text = once(r"\| `lora\(rank = [^`]*\)` \|", f"| `lora({lora})` |", text)
    text = once(r"`answer \(max_tokens[a-z_, ]*\)` \|", f"`answer ({', '.join(ANSWER)})` |", text)
    return once(r"Left out in the parentheses: [^|]*\|", f"Left out in the parentheses: {decoding} |", text)


def scoring(text: str) -> str:
    """docs/scoring.md"""
    rows = ((f"`{task.name}`", *task_facts(name), f"`{task.scorer}`") for name, task in TASKS.items())
    return within(text, "tasks", table(("task", "data set", "rows", "scorer"), rows))


def models(text: str) -> str:
    """docs/models.md"""
    proven = json.loads((ROOT / "benchmarks/families.json").read_text(encoding="utf-8"))
    rows = (
        (
            f"`{kind}`",
            family.special or "none",
            edges(family),
            adapted(family),
            *(proven.get(kind, {}).get(name, "not measured") for name in ("logits", "slopes", "nf4")),
        )
        for kind, family in sorted(FAMILIES.items())
    )
    head = ("type", "special", "edges", "adapters on", "logits apart", "slopes apart", "in nf4")
    return within(text, "families", table(head, rows))


def edges(family: Family) -> str:
    """The channels that a model can have beside `hidden` and `text`, which all can."""
    if family.stateful:
        return "`kv` along a chain"
    if family.unmoved:
        return "no `fuse`, no `merge = stack`"
    return "no `fuse`" if family.uneven else "all"


def adapted(family: Family) -> str:
    """Where `targets = all` puts an adapter."""
    return "all but experts" if family.experts else "all projections"


def task_facts(name: str) -> tuple[str, str]:
    task = TASKS[name]
    config = f", `{task.config}`" if task.config else ""
    return f"`{task.hub}`{config}" + (" (ask its owners first)" if task.gated else ""), f"`{task.split}`"


def channels() -> str:
    rows = (
        (f"`{kind}`", channel.crosses, "agents on one model" if channel.same_model else "any two models", examples)
        for kind, channel in CHANNELS.items()
        for examples in [", ".join(shown(option) for option in channel.options.values()) or "none"]
    )
    return table(("channel", "what crosses", "between", "options"), rows)


def shown(option: Option) -> str:
    """How the reference shows an option of a channel."""
    found = getattr(option, "examples", ()) or (f"{option.name} = {' | '.join(option.reads.words)}",)
    return ", ".join(f"`{cell(example)}`" for example in found)


def alignments() -> str:
    return table(("align", "the next input", "for"), ((f"`{a.name}`", a.means, a.suits) for a in ALIGNMENTS.values()))


def adapters() -> str:
    return table(("option", "means", "default", "in PEFT"), ((*told(o), f"`{o.peft}`") for o in LORA.values()))


def loads() -> str:
    return table(("load", "its weights are held"), ((f"`{load.name}`", load.help) for load in LOADS.values()))


def entries() -> str:
    return table(("entry", "means", "default"), map(told, TRAIN.values()))


def told(option: Option) -> tuple[str, str, str]:
    """An option or entry, what it means, and what counts where it is left out."""
    return f"`{option.name}`", option.means or lower(option.help), option.shown_default or option.unset


def limits() -> str:
    found = {f"`{name}`": o.reads.bounds for options in (LORA, ANSWER, TRAIN) for name, o in options.items()}
    found |= {f"`{name}` of `grpo`": o.reads.bounds for name, o in GRPO.items()}
    return table(("number", "from and to"), ((name, span(bounds)) for name, bounds in found.items() if bounds))


def span(bounds: Bounds) -> str:
    """`0, or 1e-06 to 1e+06`; whole numbers with commas."""
    low, high = (f"{number:,}" if bounds.whole else f"{number:g}" for number in (bounds.low, bounds.high))
    return ("0, or " if bounds.zero else "") + (f"from {low}" if bounds.high == MOST else f"{low} to {high}")


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n".replace("|  |", "| |") for line in lines)


def cell(text: str) -> str:
    """A bar within a cell of a table."""
    return text.replace("|", r"\|")


def lower(text: str) -> str:
    """Without the capital that a sentence begins with; a name keeps its own."""
    return text if text[1:2].isupper() or text.startswith("AdamW") else text[:1].lower() + text[1:]


def within(text: str, name: str, made: str) -> str:
    """The text with what is made between the marks of a name."""
    begin, end = f"<!-- {name} -->\n\n", f"\n<!-- end of {name} -->"
    place = re.compile(rf"<!-- {name} -->\n.*?<!-- end of {name} -->", re.DOTALL)
    assert len(place.findall(text)) == 1, name
    return place.sub(lambda _: begin + made + end, text)


def once(pattern: str, made: str, text: str) -> str:
    """The text with the one thing replaced that a pattern finds."""
    found, count = re.subn(pattern, lambda _: made, text)
    assert count == 1, f"{pattern} is found {count} times"
    return found


# -- editors -----------------------------------------------------------------------------------------------------------


def colours(text: str) -> str:
    """The TextMate grammar: the words in the groups that its patterns have for them."""
    options = [MODEL, THINK, *(adapter.options for adapter in ADAPTERS.values()), ANSWER]
    options += [channel.options for channel in CHANNELS.values()]
    options += [aim.options for aim in OBJECTIVES.values()]
    text = once(r'(?<="match": "\(:\)\\\\s\*\()[a-z_|]+(?=\))', "|".join(CHANNELS), text)
    text = once(r"(?<=\(adapt\)\\\\b\(\?:\\\\s\+\()[a-z_|]+(?=\))", "|".join(ADAPTERS), text)
    text = once(r'(?<="match": "\\\\b\()[a-z_|]+(?=\)\\\\b\(\?=\\\\s\*=\))', "|".join(names(options)), text)
    text = once(
        r'(?<=objective\.mas",\n)(\s+"match": "\\\\b\()[a-z_|]+',
        f'{" " * 14}"match": "\\\\b({"|".join(OBJECTIVES)}',
        text,
    )
    return once(
        r'(?<=entry\.mas",\n)(\s+"match": "\\\\b\()[a-z_|]+', f'{" " * 14}"match": "\\\\b({"|".join(TRAIN)}', text
    )


def names(tables: Iterable[Mapping[str, Option]]) -> list[str]:
    return list(dict.fromkeys(name for options in tables for name in options))


def snippets(text: str) -> str:
    """The snippets: the edge with its channels, and what the channels bring."""
    found = json.loads(text)
    found["Edge"]["body"] = [f"${{1:sender}} -> ${{2:receiver}} : ${{3|{','.join(CHANNELS)}|}}"]
    brought = [snippet for channel in CHANNELS.values() for snippet in channel.snippets]
    for snippet in brought:
        body = [f"${{1:sender}} -> ${{2:receiver}} : {snippet.body}"]
        found[snippet.name] = {"prefix": snippet.prefix, "body": body, "description": snippet.about}
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def extension(text: str) -> str:
    """The extension's page: its snippets."""
    path = f"{VSCODE}/snippets/mas.json"
    found = json.loads(snippets((ROOT / path).read_text(encoding="utf-8")))
    prefixes = ", ".join(f"`{snippet['prefix']}`" for snippet in found.values())
    return once(r"snippets \([^)]*\)", f"snippets ({prefixes})", text)


# -- the parser --------------------------------------------------------------------------------------------------------


def known(text: str) -> str:
    """dsl/known.py"""
    align = list(ALIGNMENTS)[1]
    return f'''"""Words in the hints of the parser. The compiler declares them; `make generated` writes this file."""

CHANNELS = ({", ".join(f'"{kind}"' for kind in CHANNELS)})
ALIGNMENT = "{align}"
"""One that is not the default."""
'''


FILES: Mapping[str, Callable[[str], str]] = {
    "docs/language.md": language,
    "docs/scoring.md": scoring,
    "docs/models.md": models,
    f"{VSCODE}/syntaxes/mas.tmLanguage.json": colours,
    f"{VSCODE}/snippets/mas.json": snippets,
    f"{VSCODE}/README.md": extension,
    "dsl/known.py": known,
}
"""What each file becomes of what it is."""


def stale() -> Iterator[tuple[Path, str]]:
    """The files that are not what they would be made now, with that."""
    for name, make in FILES.items():
        path = ROOT / name
        written = path.read_text(encoding="utf-8") if path.exists() else ""
        if (made := make(written)) != written:
            yield path, made


if __name__ == "__main__":
    for path, made in stale():
        path.write_text(made, encoding="utf-8")
