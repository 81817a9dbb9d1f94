"""Comments that silence: `# masc: allow W0201`.

Such a comment is about the item that it stands beside or above, as any comment is (dsl/comments.py), so that it means
the same after `masc fmt`; before or beside the version line it is about the whole file. It silences the warnings and
information that point into the item; those that point into an item within a block are silenced there. Several codes may
stand in it, and after a colon a reason: `# masc: allow W0201, W0301: kept for later`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from masc.dsl.comments import Places
from masc.dsl.diagnostics import Diagnostic, did_you_mean
from masc.dsl.limits import ALIKE
from masc.dsl.source import Span
from masc.dsl.syntax import Allow, File

_ALLOW = re.compile(r"masc:\s*allow\s+([^:]*)(:.*)?")
_CODE = re.compile(r"[^\s,]+")
_FORM = "write `# masc: allow W0201`, and a reason after a colon if you like"


def silence(files: Sequence[File], found: Iterable[Diagnostic], complete: bool) -> list[Diagnostic]:
    """What was found, without what comments allow, and with what there is to say about those comments.

    `files`: the main one last. `complete`: all that could be told about that one has been, so that a comment in it that
    silences nothing is idle. (Not so where it names what depends on the machine: what models on disk say.)
    """
    kept = list(found)
    for file in files:
        if file.allows:
            kept = _in_file(file, kept, complete and file is files[-1])
    return kept


def _in_file(file: File, found: list[Diagnostic], complete: bool) -> list[Diagnostic]:
    places = Places(file)
    told: list[Diagnostic] = []
    by_code: dict[str, list[Diagnostic]] = {}
    by_item: dict[tuple[str, Span], list[Diagnostic]] = {}
    for d in found:
        if d.span is not None and d.span.source is file.span.source:
            by_code.setdefault(d.code, []).append(d)
            if (item := places.innermost(d.span.start)) is not None:
                by_item.setdefault((d.code, item.span), []).append(d)
    gone: set[int] = set()
    for allow in file.allows:
        written = _ALLOW.fullmatch(allow.text)
        codes = _CODE.findall(written[1]) if written else []
        if not codes:
            told.append(
                Diagnostic(
                    "W0209",
                    "this comment begins with `masc:`, but says nothing that masc knows",
                    allow.span,
                    hint=_FORM,
                )
            )
        for code in codes:
            if (complaint := _unknown(code, allow, len(told) < ALIKE)) is not None:
                told.append(complaint)
                continue
            about = by_code.pop(code, []) if allow.whole else by_item.pop((code, allow.item), []) if allow.item else []
            silenced = {id(d) for d in about} - gone
            gone |= silenced
            if complete and not silenced and code.startswith(("W02", "W03")):
                message = f"there is no {code} to allow here"
                hint = "take the comment out; it is about the item that it stands beside or above"
                told.append(Diagnostic("W0208", message, allow.span, hint=hint))
    return [*(d for d in found if id(d) not in gone), *told]


def _unknown(code: str, allow: Allow, looked_up: bool) -> Diagnostic | None:
    from masc.dsl.explain import codes

    known = [name for name in codes() if not name.startswith("E")]
    if code in known:
        return None
    if code in codes():
        return Diagnostic("W0209", f"{code} is an error, and errors cannot be allowed", allow.span)
    hint = (did_you_mean(code, known) if looked_up else None) or _FORM
    return Diagnostic("W0209", f"there is no code `{code[:20]}`", allow.span, hint=hint)
