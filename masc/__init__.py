"""masc: teams of language-model agents that talk in latent space.

    program = masc.compile("relay.mas", set={"latents": 10})    # a torch.nn.Module with fresh adapters
    out = program(rows)                                         # out.loss, out.logits, out.labels
    program.generate([{"question": "..."}])                     # answers
    masc.train(program, rows, eval_rows, steps=500)
    program.save("relay.masc"); program = masc.load("relay.masc")
    masc.draw("relay.mas", "relay.svg")

Importing this module is cheap: torch is imported when something runs.
"""

from __future__ import annotations

from masc.api import (
    audit,
    check,
    compare,
    compile,
    draw,
    evaluate,
    export,
    grpo,
    inspect,
    load,
    read_rows,
    train,
)
from masc.dsl.diagnostics import Diagnostic, MascError
from masc.sharing import pull, push
from masc.version import __version__ as __version__

__all__ = [
    "Diagnostic",
    "MascError",
    "audit",
    "check",
    "compare",
    "compile",
    "draw",
    "evaluate",
    "export",
    "grpo",
    "inspect",
    "load",
    "pull",
    "push",
    "read_rows",
    "train",
]
