"""Which code an answer gives, and what tests a row has."""

from __future__ import annotations

import ast
import builtins
import re
import textwrap
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from masc.backends.scoring.reasoning import without_reasoning

_LONGEST = 200_000
_PYTHON = {"python", "py", "python3", "py3", "pycon", "python2", "ipython"}
_MODULES = {"bisect", "cmath", "collections", "copy", "datetime", "decimal", "fractions", "functools", "heapq"}
_MODULES |= {"itertools", "json", "math", "operator", "random", "re", "statistics", "string", "sys"}
"""What tests use without importing it."""
_MOST_PARSED = 2_000_000
"""Characters that are parsed to find the part of a text that is a program."""
_FENCE = re.compile(r"^[ \t]*(?:```+|~~~+)[ \t]*([\w+.#-]*)[^\n`]*$", re.MULTILINE)


@dataclass(frozen=True)
class Tests:
    """before: code of the data set that runs before the tests (a prompt's helpers, imports, set-up); tests: what must
    hold; wanted: names that the tests take from the candidate; needed: those without which it is no answer."""

    before: tuple[str, ...]
    tests: tuple[str, ...]
    wanted: tuple[str, ...]
    needed: tuple[str, ...]


def has_tests(row: Mapping[str, Any]) -> bool:
    """Whether a row says how code is tested: `test` (HumanEval) or `test_list` (MBPP)."""
    return "test" in row or "test_list" in row


def tests_of(row: Mapping[str, Any]) -> Tests:
    """HumanEval: `test` and a call of its `check` on `entry_point`, after what `prompt` defines. MBPP: `test_imports`
    first, then `test_setup_code` and the statements of `test_list`."""
    if "test" in row:
        entry = str(row.get("entry_point") or "")
        before = [_whole_prompt(str(row.get("prompt") or ""))]
        tests = [str(row["test"]), *([f"check({entry})"] if entry else [])]
    else:
        listed = row["test_list"]
        entry = ""
        before = ["\n".join(str(line) for line in row.get("test_imports") or [])]
        tests = [str(row.get("test_setup_code") or "").replace("\r\n", "\n")]
        tests += [listed] if isinstance(listed, str) else [str(test) for test in listed]
    used = _names("\n".join(tests), ast.Load)
    made = _names("\n".join([*tests, *before]), ast.Store) - ({entry} if entry else set())
    if modules := sorted((_with_attributes("\n".join(tests)) & _MODULES) - made - {entry}):
        # Tests rely on it that the candidate imports them; from there they would be what it likes.
        before.insert(0, f"import {', '.join(modules)}")
        made |= set(modules)
    wanted = sorted((used - made - set(dir(builtins))) | ({entry} if entry else set()))
    needed = [entry] if entry else sorted(_called("\n".join(tests)) & set(wanted))
    return Tests(tuple(before), tuple(tests), tuple(wanted), tuple(needed))


def code_of(said: str, row: Mapping[str, Any]) -> list[str] | None:
    """The candidate's code, as programs to run one after the other: what the prompt defines, then the answer's own.
    None where the answer holds no code that can be run."""
    said = without_reasoning(said)[-_LONGEST:].replace("\r\n", "\n").replace("\0", "").replace("\ufeff", "")
    prompt = str(row.get("prompt") or "") if "test" in row else ""
    needed = tests_of(row).needed
    helpers = [_whole_prompt(prompt)] if prompt else []
    if "test" not in row:
        helpers = ["\n".join(str(line) for line in row.get("test_imports") or [])]
    blocks = _blocks(said)
    whole = [(tag, code) for tag, text in blocks if (code := _runnable(text)) is not None]
    python = [code for tag, code in whole if tag in _PYTHON] or [code for tag, code in whole if not tag] or []
    python = python or [code for _, code in whole]
    for chosen in reversed(python):
        if all(_defines(chosen, name) for name in needed):
            # What it uses may stand in a block before it.
            return [*helpers, *(_definitions(code) for code in python if code is not chosen), chosen]
    together = "\n\n".join(python)
    if together and all(_defines(together, name) for name in needed):
        return [*helpers, together]
    if prompt:
        for _, text in reversed(blocks):
            if (code := _completed(prompt, text, needed)) is not None:
                return [code]
    return None


def _blocks(said: str) -> list[tuple[str, str]]:
    """Fenced blocks with their tags; without any, all of it. Text before a closing fence that nothing opens, and text
    after an opening one that nothing closes, are blocks as well."""
    fences = list(_FENCE.finditer(said))
    found: list[tuple[str, str]] = []
    at, tag, inside = 0, "", False
    if len(fences) % 2 and not fences[0][1]:
        before = said[: fences[0].start()]
        if _runnable(before) is not None or before[:1].isspace() or _ends_line_with_code(before):
            inside = True  # the prompt has opened it
    for fence in fences:
        text = said[at : fence.start()]
        if inside:
            found.append((tag, text))
        inside = not inside if not fence[1] else True
        at, tag = fence.end() + 1, fence[1].lower()
        if not inside:
            tag = ""
    if inside or not fences:
        found.append((tag, said[at:]))
    return found


def _ends_line_with_code(text: str) -> bool:
    return re.search(r"^\s*(?:return|def|yield|class)\b", text, re.MULTILINE) is not None


def _runnable(text: str) -> str | None:
    """The longest part of a text that is a program: without prompts of a session, prose before or after it."""
    if re.search(r"^\s*>>> ", text, re.MULTILINE):
        lines = [m[1] for m in re.finditer(r"^\s*(?:>>>|\.\.\.) ?(.*)$", text, re.MULTILINE)]
        if re.search(r"^\s*>>>\s*(?:def|class|import|from|@)", text, re.MULTILINE):
            text = "\n".join(lines)
    text = textwrap.dedent(text)
    if _parses(text):
        return text if ast.parse(text).body else None
    lines = text.splitlines()
    starts = [i for i, line in enumerate(lines) if re.match(r"(?:def|class|import|from|async|@)\b|@", line)]
    left = _MOST_PARSED
    for first in starts[:8]:
        for last in range(len(lines), max(first, len(lines) - 152), -1):
            if not lines[last - 1].strip():
                continue
            part = "\n".join(lines[first:last])
            if (left := left - len(part)) < 0:
                return None
            if _parses(part) and ast.parse(part).body:
                return part
    return None


def _completed(prompt: str, text: str, needed: tuple[str, ...]) -> str | None:
    """The prompt with its completion: the body of its last function, however it is indented."""
    lines = text.strip("\n").splitlines()
    for last in range(len(lines), max(0, len(lines) - 150), -1):
        body = "\n".join(lines[:last])
        if not body.strip():
            return None
        first, _, rest = body.partition("\n")
        forms = [body, textwrap.indent(textwrap.dedent(body), "    "), f"    {first.strip()}\n{rest}", body.strip()]
        for form in forms:
            code = f"{prompt}{form}" if form is body and not prompt.endswith("\n") else f"{prompt.rstrip()}\n{form}"
            if _parses(code) and all(_has_body(code, name) for name in needed):
                return code
    return None


def _has_body(code: str, name: str) -> bool:
    """Whether a function does something, other than to have a docstring."""
    functions = [n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return any(f.name == name and not all(_says_only(s) for s in f.body) for f in functions)


def _says_only(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )


def _whole_prompt(prompt: str) -> str:
    """What a prompt that ends in the middle of a function defines: the function does nothing yet."""
    for end in ("", "\n    pass\n", '\n    """\n    pass\n', "\n        pass\n"):
        if _parses(prompt.rstrip() + end):
            return prompt.rstrip() + end
    return "\n".join(line for line in prompt.splitlines() if re.match(r"(?:import|from)\s", line) and _parses(line))


def _parses(code: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(code)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return True


def _defines(code: str, name: str) -> bool:
    for node in ast.parse(code).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == name:
            return True
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return True
        if isinstance(node, ast.Import | ast.ImportFrom) and any((a.asname or a.name) == name for a in node.names):
            return True
    return False


def _definitions(code: str) -> str:
    kept = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom, ast.Assign)
    return "\n".join(ast.unparse(node) for node in ast.parse(code).body if isinstance(node, kept))


def _names(code: str, context: type[ast.expr_context]) -> set[str]:
    """Names that a program reads, or makes."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError):
        return set()
    found = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, context)}
    if context is ast.Store:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
            elif isinstance(node, ast.arg):
                found.add(node.arg)
    return found


def _with_attributes(code: str) -> set[str]:
    """Names of which a program uses attributes only, as of modules."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError):
        return set()
    bases = [n.value for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)]
    alone = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and not any(n is base for base in bases)}
    return {base.id for base in bases if isinstance(base, ast.Name)} - alone


def _called(code: str) -> set[str]:
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError):
        return set()
    return {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
