"""Which of the things that a text names is its answer: what it says of them, in the order a careful reader would go."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from masc.backends.scoring.markup import boxes


@dataclass(frozen=True)
class Found:
    """Something named in a text, at [start, end). value: None where it is no answer of the kind that is wanted (two
    options at once, a sum that is not worked out)."""

    start: int
    end: int
    value: Any


@dataclass(frozen=True)
class Claim:
    """What a text says is its answer. final: it says so in a form that is for nothing else."""

    start: int
    end: int
    value: Any
    final: bool


_NOUN = (
    r"answers?(?!\s+key)|ans|solution|result|r[ée]ponse|respuesta|resposta|risposta|soluci[óo]n|antwort|l[öo]sung|ergebnis|antwoord"
    r"|svar(?:et)?|odpowied[źz]|odpov[ěe][ďd]|cevap|yan[ıi]t|jawaban|[đd][áa]p [áa]n|ответ|відповідь|απάντηση"
    r"|(?:correct|right|best|final|chosen|my)\s+(?:option|choice|letter|one|statement|value|number)"
)
_NOUN_ALONE = r"答案|答え|解答|正解|正答|回答|정답|답|الإجابة|الجواب|उत्तर|คำตอบ"  # written without blanks between words
_VERB = (
    r"(?:\b(?:is|are|was|be|equals|comes to|es|est|ist|lautet|är|er|jest|je|adalah|là)\b|\b[éèeеє](?=\s)|это"
    r"|'s|’s|[是为為はاهोهٌ]|이|은|는|هو|هي|है|คือ|:|=|→|—|–|->|=>|-(?=\s|\())"
)
_CUE = re.compile(
    rf"(?:(?<![^\W_])(?P<noun>(?:final\s+|correct\s+|right\s+)*(?:{_NOUN}))(?!\w)|(?:最终|最後の?|正确|最终的)?(?:{_NOUN_ALONE}))"
    rf"(?P<about>[\"'”)\]*]*(?:[^.\n:=!?。]{{0,60}}?(?={_VERB}){_VERB})?)[\"'“”\s]*[:=]?",
    re.IGNORECASE,
)
_HEADING = re.compile(r"^[ \t#>]*(?:the\s+)?(?:final\s+|correct\s+)?(?:answer|result)[ \t]*:?[ \t]*$", re.I | re.M)
_HASHES = re.compile(r"^[ \t]*####(?!#)[ \t]*(\S.*)$|(?<=\s)####[ \t]*(\S.*)$", re.MULTILINE)
_ONLY_SUPPOSED = re.compile(
    r"(?:\bif|\bsuppos\w+|\bassum\w+|\b(?:first|initially|originally|might|may|could|would|wrongly|once)\s+(?:thought?|think|guess\w*|say)"
    r"|\bthought|\b(?:some|people|many|they|others|students?)\s+(?:\w+\s+)?(?:say|think|believe|claim)|\b(?:is|was|not)\s+(?:whether|that))\b[^.,;:\n]{0,40}$",
    re.IGNORECASE,
)
_NOT_BEFORE = re.compile(
    r"(?:\bnot|n['’]t|\bneither|\bnor|\bnever|\binstead of|\brather than|\bno(?= es)|\bnicht|\bpas|\bnon|\bне|不是|"
    r"\bexcept|\bwrong\s+(?:answer|option|choice)\w*\s+(?:is|was|were)|\brul(?:e|ed|ing)\s+out|\beliminat(?:e|ed|ing)|\bexclud(?:e|ed|ing)"
    r"|\breject(?:ed|ing)?|\bdiscard(?:ed)?)"
    r"(?:\s+(?:be|the|an?|options?|choices?|answers?|equal to|exactly|just|simply|es|both))*[\s\"'(:]*$",
    re.IGNORECASE,
)
_NOT_AFTER = re.compile(
    r"""[\s)\]."'”:–—-]{0,4}(?:\([^()\n]{0,60}\)\s*)?
    (?: (?:is|are|was|were|seems?|looks?|would\s+be|must\s+be)?\s*
        (?:(?:clearly|obviously|also|simply|therefore|thus|definitely|probably|both|all)\s+)*
        (?: (?:is|are|was|would|can|could|does|do|did|has|will|should)?(?:\s*not|n['’]t|not)\b
          | (?:wrong|incorrect|false|out|invalid|impossible|irrelevant|tempting|eliminated|excluded|ruled\s+out)\b
          | too\s+\w+ )
      | (?:is\s+)?\w+\s+but\s+(?:wrong|incorrect|not)\b | is\s+close\b
      | [?:–—-]\s*(?:no|nope|wrong|incorrect|false)\b(?!\s+[a-z])
      | (?:fails?|cannot|contradicts?|violates?|falsch|❌|✗|✘|×(?=\s*(?:$|\n))) )""",
    re.IGNORECASE | re.VERBOSE,
)
_YES_AFTER = re.compile(
    r"""[\s)\]."'”]{0,3}(?:\([^()\n]{0,60}\)\s*)?
    (?: (?:(?:is|was|must\s+be|has\s+to\s+be|should\s+be|seems)\s+)
        (?:(?:clearly|definitely|indeed|therefore|thus|the\s+only|the|most\s+likely|probably|our|my|your)\s+)*
        (?:final\s+|correct\s+|right\s+|best\s+|true\b|most\s+\w+\s+)*(?:answer|choice|option|one|solution|correct|right|best|true)\b(?!\s+to\s+(?:say|assume|an\s*other|a\s+different))
      | (?:is|seems|sounds|looks)\s+(?:much\s+|far\s+)?(?:better|closer|(?:the\s+)?mo(?:re|st)\s+(?:accurate|precise
          |likely|appropriate|specific|complete|plausible|suitable|comprehensive|relevant))\b | fits\b | works\b
      | [?:–—-]\s*(?:yes|correct|right|true)\b(?!\s+[a-z])
      | (?:(?:ist|es|est)\s+(?:die\s+|la\s+|le\s+)?(?:richtig\w*|correct\w*|réponse|antwort|respuesta))
      | (?:✓|✔|✅) )""",
    re.IGNORECASE | re.VERBOSE,
)
_CORRECTION = re.compile(
    r"(?:\b(?:wait|actually|correction|sorry|oops|scratch that|on second thought|hold on|apologi\w+)\b"
    r"|\bi (?:made|see|have made|was)\s+(?:a|an|my|wrong|mistaken|the)?\s*(?:mistake|error|wrong|mistaken)?"
    r"|(?:^|[.!?\n]\s*)no[,.!—–-]|\bthat(?:['’]s| is| was)(?: not right|n['’]t right| wrong| incorrect| not correct)"
    r"|\blet me (?:re-?\w+|correct|double)|\bthe (?:real|actual|corrected) answer\b|不对|等等)",
    re.IGNORECASE,
)
_CONFIRMED = re.compile(
    r"\b(?:yes|correct|right|indeed|confirm\w*|match\w*|checks? out|works|holds|agrees?|consistent|verified|same|fine"
    r"|good|original)\b(?!\s+answer)",
    re.IGNORECASE,
)
_DENIED = re.compile(r"(?:not|n['’]t|in)\s*(?:correct|right|match\w*|work\w*)|\bwrong\b|\bshould\b", re.IGNORECASE)


_NOT_THE_OTHER = re.compile(
    r"[\s)\].\"'”,]{0,4}\(?\s*(?:(?:and|but)\s+)?not\s+[\"'(]*[A-Ja-j\d]\b", re.IGNORECASE
)  # B (not A)
# "B. Paris: correct", an option at the beginning of a line and the verdict at its end.
_VERDICT = r"[^\n]*?(?:{}|(?:[:(–—=]|\s-)\s*[*_]*(?:this\s+is\s+|is\s+)?(?:{})\b)[^\n:]{{0,80}}$"
_LINE_YES = re.compile(_VERDICT.format("✓|✔|✅|☑", "correct|right|true|yes"), re.IGNORECASE | re.MULTILINE)
_LINE_NO = re.compile(
    _VERDICT.format("✗|✘|❌|✖", "incorrect|wrong|false|not|no|invalid|irrelevant|eliminated"),
    re.IGNORECASE | re.MULTILINE,
)


def _starts_line(text: str, at: int) -> bool:
    return (
        re.search(r"(?:^|\n)[ \t*#>(\[•-]*(?:option|choice)?[ \t]*$", text[max(0, at - 40) : at], re.IGNORECASE)
        is not None
    )


def rejected(text: str, found: Found) -> bool:
    """Whether the text says of something that it is not the answer."""
    before = text[max(0, found.start - 60) : found.start]
    after = text[found.end : found.end + 100].split("\n")[0]
    denied = _NOT_AFTER.match(after) is not None and _NOT_THE_OTHER.match(after) is None
    if denied or _NOT_BEFORE.search(before) is not None:
        return True
    if _NOT_THE_OTHER.match(after):
        return False
    return _starts_line(text, found.start) and _LINE_NO.match(text, found.end) is not None


def answer_in(
    text: str,
    items: Sequence[Found],
    whole: Callable[[str], Any],
    value_at: Callable[[str, int, str], Any],
    unclaimed: Callable[[str, Sequence[Found]], Any],
    reach: int = 80,
    corrections: int = 8,
) -> Any:
    r"""The value of the item that the text gives as its answer, or None.

    items: all that it names, in order. whole: the value of a short text that is nothing but an answer (the inside of
    `\boxed`). value_at: of (text, number of the item, the words before) the value that begins with an item: `3 + 4 = 7`
    is 7. unclaimed: what is the answer where the text does not say so. Claims in a form for final answers count before
    others, later ones before earlier ones, and what stands after a correction ("Wait, no.") before all.
    """
    claims = _claims(text, items, whole, value_at, reach)
    best = [claim for claim in claims if claim.final] or claims
    chosen = best[-1].value if best else unclaimed(text, items)
    said_by = best[-1].end if best else items[0].end if items else len(text)
    if corrections and (correction := _CORRECTION.search(text, said_by)) is not None:
        at = correction.end()
        rest, later = text[at:], [Found(i.start - at, i.end - at, i.value) for i in items if i.start >= at]
        spans = {i.start for i in later}
        confirmed = any(m.start() not in spans for m in _CONFIRMED.finditer(rest)) and _DENIED.search(rest) is None
        if later and (_claims(rest, later, whole, value_at, reach) or not confirmed):
            corrected = answer_in(rest, later, whole, value_at, unclaimed, reach, corrections - 1)
            return chosen if corrected is None else corrected
    return chosen


def _claims(
    text: str,
    items: Sequence[Found],
    whole: Callable[[str], Any],
    value_at: Callable[[str, int, str], Any],
    reach: int,
) -> list[Claim]:
    found: list[Claim] = []
    inside = boxes(text)
    for start, end, content in inside:
        if not _NOT_BEFORE.search(text[max(0, start - 40) : start]):
            found.append(Claim(start, end, whole(content), True))
    for line in _HASHES.finditer(text):
        told = line[1] or line[2]
        if "\\boxed" not in told and (value := whole(told)) is not None:
            found.append(Claim(line.start(), line.end(), value, True))
    for cue, after, final in _cues(text):
        first = bisect_left(items, cue, key=lambda item: item.end - 1)  # the first that ends after the cue begins
        if first < len(items) and items[first].start < after:
            continue
        claim = _after(text, items, first, inside, cue, after, final, value_at, reach)
        if claim is not None:
            found.append(claim)
    for item in items:
        before_it = text[max(0, item.start - 40) : item.start]
        if item.value is not None and _MUST_BE.search(before_it) and not rejected(text, item):
            found.append(Claim(item.start, item.end, item.value, False))
        after_it = text[item.end : item.end + 120].split("\n")[0]
        verdict = _LINE_YES.match(text, item.end) if _starts_line(text, item.start) else None
        if item.value is not None and (_YES_AFTER.match(after_it) or verdict) and not rejected(text, item):
            found.append(Claim(item.start, item.end, item.value, False))
    return sorted(found, key=lambda claim: (claim.end, claim.start))


_MUST_BE = re.compile(
    r"\b(?:so|thus|hence|therefore)\s+(?:it|the answer)\s+(?:must|has to|should)\s+be\s+[\s\"'(]*$", re.I
)
_ASIDE = re.compile(r"\b(?:because|since|whereas|unlike)\b", re.IGNORECASE)
_LINE_ENDS = re.compile(r"[ \t]*\n\s*")
_UNSURE = re.compile(r"(?:n['’]t|\b(?:not|cannot|could|might|may))\b", re.IGNORECASE)


def _cues(text: str) -> list[tuple[int, int, bool]]:
    """Where words that announce an answer begin and end, and whether they announce the final one."""
    found = [(m.start(), m.end(), True) for m in _HEADING.finditer(text)]
    for cue in _CUE.finditer(text):
        if _ONLY_SUPPOSED.search(text[max(0, cue.start() - 60) : cue.start()]) is None:
            found.append((cue.start(), cue.end(), "final" in cue[0].lower() or "最终" in cue[0]))
    return sorted(found)


def _after(
    text: str,
    items: Sequence[Found],
    first: int,
    inside: Sequence[tuple[int, int, str]],
    cue: int,
    after: int,
    final: bool,
    value_at: Callable[[str, int, str], Any],
    reach: int,
) -> Claim | None:
    """The claim that a cue makes: of the first item after it, in the same sentence, that is not denied. first: the
    number of the first item after the cue."""
    words = text[cue:after]
    ends_line = _LINE_ENDS.match(text, after)
    begin = ends_line.end() if ends_line and (words[-1] in ":=" or "\n" in words or final) else after
    if _UNSURE.search(words) and "\n" not in words:
        return None
    for i in range(first, len(items)):
        item = items[i]
        between = text[begin : item.start] if item.start >= begin else ""
        if len(between) > reach or _ASIDE.search(between) or re.search(r"[.!?。]\s|\n|[。！]", between):
            return None
        if any(after <= start <= item.start for start, _, _ in inside):
            return None  # the box says it better
        if rejected(text, item):
            continue
        return Claim(item.start, item.end, value_at(text, i, between), final)
    return None
