"""Diagnostics as SARIF 2.1.0, the form in which code hosts and editors take what a checker found.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from masc.dsl.diagnostics import Diagnostic
from masc.dsl.explain import codes
from masc.dsl.source import Span

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {"error": "error", "warning": "warning", "info": "note"}


def to_sarif(diagnostics: Iterable[Diagnostic], version: str) -> dict[str, Any]:
    """One run with a result for each diagnostic, labels as related locations, and a rule for each code that occurs.

    `version`: of masc. Lines and columns count from 1, columns in characters.
    """
    found = list(diagnostics)
    rules = list(dict.fromkeys(diagnostic.code for diagnostic in found))
    driver = {"name": "masc", "version": version, "rules": [_rule(code) for code in rules]}
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(diagnostic, rules.index(diagnostic.code)) for diagnostic in found],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(code: str) -> dict[str, Any]:
    level = _LEVELS[Diagnostic(code, "").severity]
    rule: dict[str, Any] = {"id": code, "defaultConfiguration": {"level": level}}
    if (entry := codes().get(code)) is not None:
        rule["shortDescription"] = {"text": entry.title}
        rule["fullDescription"] = {"text": " ".join(entry.text.split())}
        rule["help"] = {"text": f"masc explain {code}"}
    return rule


def _result(diagnostic: Diagnostic, index: int) -> dict[str, Any]:
    hint = f" (hint: {diagnostic.hint})" if diagnostic.hint else ""
    result: dict[str, Any] = {
        "ruleId": diagnostic.code,
        "ruleIndex": index,
        "level": _LEVELS[diagnostic.severity],
        "message": {"text": diagnostic.message + hint},
    }
    if diagnostic.span is not None and _is_file(diagnostic.span):
        result["locations"] = [{"physicalLocation": _place(diagnostic.span)}]
    related = [
        {"id": number, "physicalLocation": _place(label.span), "message": {"text": label.text}}
        for number, label in enumerate(diagnostic.labels)
        if _is_file(label.span)
    ]
    return result | ({"relatedLocations": related} if related else {})


def _is_file(span: Span) -> bool:
    """What `--set` says on the command line is shown as a source as well."""
    return not span.source.path.startswith("--")


def _place(span: Span) -> dict[str, Any]:
    (first, start), (last, end) = span.source.locate(span.start), span.source.locate(span.end)
    region = {"startLine": first, "startColumn": start, "endLine": last, "endColumn": end}
    region |= {"charOffset": span.start, "charLength": span.end - span.start}
    return {"artifactLocation": {"uri": _uri(Path(span.source.path))}, "region": region}


def _uri(path: Path) -> str:
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())
