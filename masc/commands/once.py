"""Which options are refused: one of a single value that is given twice, since one value would be lost without a word,
and one that is no option but an entry of the `train` block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperCommand

from masc.commands.valueless import filled
from masc.compiler.language.other_names import called_here
from masc.compiler.language.train import TRAIN


class Once(TyperCommand):
    """A command that refuses (wrong usage) an option that is given twice. Options that collect what they are given
    (`--set`) are left out, and switches (`--force`), which say the same twice."""

    def make_parser(self, ctx: Any) -> Any:
        """As typer makes it; it knows each option that stands on the command line, as often as it stands there."""
        parser: Any = super().make_parser(ctx)
        parse = parser.parse_args

        def parse_once(args: list[str]) -> Any:
            try:
                values, rest, order = parse(filled(args))
            except Exception as error:  # typer's own kind of NoSuchOption, which it does not export
                _suggest(error, [name for option in self.params for name in option.opts])
                raise
            if not ctx.resilient_parsing:
                _check(order)
            return values, rest, order

        parser.parse_args = parse_once
        return parser


def _suggest(error: Exception, options: Sequence[str]) -> None:
    """Who writes `--steps 20` or `--lr 1e-4` means `--set`."""
    name = str(getattr(error, "option_name", "")).lstrip("-").replace("-", "_")
    entry = name if name in TRAIN else called_here(name, list(TRAIN))
    if "--set" in options and entry is not None and f"--{entry}" not in options:
        error.possibilities = [f"--set {entry}=VALUE"]  # type: ignore[attr-defined]


def _check(order: list[Any]) -> None:
    for i, option in enumerate(order):
        collects = option.multiple if hasattr(option, "multiple") else option.nargs != 1
        switch = getattr(option, "is_flag", False) and not option.secondary_opts
        if not (collects or switch) and option in order[:i]:
            name = max(option.opts, key=len)
            raise typer.BadParameter("it is given twice, and takes one value", param_hint=name)


def let_once(*groups: typer.Typer) -> None:
    """Make all commands of these groups such ones."""
    for group in groups:
        for command in group.registered_commands:
            command.cls = Once
