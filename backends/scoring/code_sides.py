"""The two programs of the code scorer, each run behind its own walls: one has the candidate's code, one the tests.

They are started as text (this file and `peer.py`), so they import nothing of masc.
"""

from __future__ import annotations

import ast
import json
import os
import sys
import types
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from masc.backends.scoring.peer import Gone, Peer


def channel() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output as the channel; what the code reads and prints itself goes nowhere."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
    return source, sink


def candidate_side() -> None:
    """Run the candidate's code, then do what the tests ask of it. Statements are run one by one: an example that fails
    after the function is there is no fault of the function. `__name__` is not `__main__`."""
    source, sink = channel()
    start = json.loads(source.readline())
    peer = Peer(source, sink, trusting=True)
    module = types.ModuleType("answer")
    sys.modules["answer"] = module
    for text in start["code"]:
        for statement in ast.parse(text).body:
            code = compile(ast.Module([statement], []), "answer.py", "exec")
            try:
                exec(code, module.__dict__)
            except Exception:
                if isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom):
                    raise
    names = {name: value for name, value in vars(module).items() if not name.startswith("__")}
    peer.send(["ready", [[name, peer.encode(value)] for name, value in names.items() if name in start["wanted"]]])
    while True:
        try:
            peer.answer(peer.receive())
        except Gone:
            os._exit(0)


def tests_side() -> None:
    """Run the tests. What they use of the candidate's is called over there. `pass` is sent after their last line."""
    source, sink = channel()
    start = json.loads(source.readline())
    peer = Peer(source, sink, trusting=False)
    module = types.ModuleType("tests")
    sys.modules["tests"] = module
    try:
        ready = peer.receive()
        if ready[0] != "ready":
            raise Gone
        for text in start["before"]:
            exec(compile(text, "prompt.py", "exec"), module.__dict__)
        module.__dict__.update({str(name): peer.decode(told) for name, told in ready[1] if name in start["wanted"]})
        if any(name not in module.__dict__ for name in start["needed"]):
            raise Gone
        for text in start["tests"]:
            exec(compile(text, "tests.py", "exec"), module.__dict__)
        sink.write(b"pass\n")
    except BaseException:
        sink.write(b"fail\n")
    sink.flush()
    os._exit(0)
