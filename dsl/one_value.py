"""A value that stands alone in a text: `--set objective=grpo(reward = number)`."""

from __future__ import annotations

from masc.dsl.diagnostics import errors
from masc.dsl.excerpt import Excerpt
from masc.dsl.parser import VERSION, parse_excerpt
from masc.dsl.source import Source
from masc.dsl.syntax import File, Setting, Train, Value


def parse_value(source: Source, name: str, at: int) -> Value | None:
    """The value of an entry of `train` that stands in a text from `at` on; None where it is none."""
    head, value = f"mas {VERSION}\ntrain {{ {name} ", source.text[at:]
    offsets = (*[at] * len(head), *range(at, len(source.text) + 1), *[len(source.text)] * 2)
    file, found = parse_excerpt(Excerpt(source, f"{head}{value} }}", offsets))
    match file:
        case File(declarations=(Train(entries=(Setting() as setting,)),)) if not errors(found):
            return setting.value
        case _:
            return None
