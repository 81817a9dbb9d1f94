"""The text of a tree, in either form; and the text that takes the place of the one that it was read from."""

from __future__ import annotations

from typing import Literal

from masc.dsl.syntax import File

Form = Literal["mas", "yaml"]


def form_of(path: str) -> Form:
    """The form of a file, by its suffix."""
    return "yaml" if path.endswith((".yaml", ".yml")) else "mas"


def written(file: File, form: Form) -> str:
    """The canonical text of a file, lines ended by `\\n`. MascError (E0135) for what YAML cannot say."""
    if form == "mas":
        from masc.dsl.formatter import format_file

        return format_file(file)
    from masc.dsl.yaml_writer import format_yaml

    return format_yaml(file)


def rewritten(file: File, form: Form | None = None) -> str:
    """The canonical text, in the form of the source that the file was read from if no other is asked for.

    How lines end is the writer's choice, and so is a byte-order mark: they are as in the source.
    """
    source = file.span.source
    text = written(file, form or form_of(source.path))
    return ("\ufeff" if source.marked else "") + text.replace("\n", source.newline)
