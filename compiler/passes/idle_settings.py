"""Settings that have no effect because of other settings in the file."""

from __future__ import annotations

from collections.abc import Iterator

from masc.compiler.ir.resolved import Resolved
from masc.compiler.language.agents import ANSWER
from masc.dsl import syntax
from masc.dsl.diagnostics import Diagnostic

SAMPLING = ("top_p", "seed")
"""Options of an `answer` line that mean something only where tokens are sampled."""


def idle_settings(resolved: Resolved, file: syntax.File) -> list[Diagnostic]:
    """W0217 for `eval_every` without `eval_data`, W0218 for options of sampling at temperature 0. A value that is the
    default is never told: it says how things are. Agents of one template are told once."""
    found = [*_evaluations(resolved, file), *_sampling(resolved)]
    return list({d.span: d for d in found}.values())


def _evaluations(resolved: Resolved, file: syntax.File) -> Iterator[Diagnostic]:
    train = resolved.train
    if not train.eval_every or train.eval_data is not None:
        return
    for block in file.declarations:
        for entry in block.entries if isinstance(block, syntax.Train) else ():
            if isinstance(entry, syntax.Setting) and entry.name.text == "eval_every":
                message = "`eval_every` does nothing: there is no `eval_data`"
                hint = 'write `eval_data "FILE"`, or name the file with `masc train --eval-data`'
                yield Diagnostic("W0217", message, entry.name.span, hint=hint)


def _sampling(resolved: Resolved) -> Iterator[Diagnostic]:
    for name in resolved.mentions:
        answer = resolved.agent(name).answer
        if answer is None or answer.temperature:
            continue
        for member in resolved.written[name].members:
            for option in member.options if isinstance(member, syntax.Answer) else ():
                given = option.name.text
                if given in SAMPLING and getattr(answer, given) != ANSWER[given].default:
                    message = f"`{given}` does nothing: at temperature 0 nothing is sampled"
                    hint = "write a temperature above 0, such as `temperature = 0.7`, or take it out"
                    yield Diagnostic("W0218", message, option.name.span, hint=hint)
