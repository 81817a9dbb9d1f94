"""An option that takes one value is given once: of two values one would be lost without a word."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand

from masc.commands.valueless import filled


class Once(TyperCommand):
    """A command that refuses (wrong usage) an option that is given twice. Options that collect what they are given
    (`--set`) are left out, and switches (`--force`), which say the same twice."""

    def make_parser(self, ctx: Any) -> Any:
        """As typer makes it; it knows each option that stands on the command line, as often as it stands there."""
        parser: Any = super().make_parser(ctx)
        parse = parser.parse_args

        def parse_once(args: list[str]) -> Any:
            values, rest, order = parse(filled(args))
            if not ctx.resilient_parsing:
                _check(order)
            return values, rest, order

        parser.parse_args = parse_once
        return parser


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
