"""Options as people and models name them, and the one that an answer chooses."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

from masc.backends.scoring.claims import Found, answer_in, rejected
from masc.backends.scoring.exact import plain
from masc.backends.scoring.markup import readable
from masc.backends.scoring.reasoning import turns, without_reasoning

# An option stands alone: not part of a word, a contraction (I'm), a compound (A-level) or an abbreviation (U.S.A.).
_EDGE = r"0-9A-Za-z_\u00c0-\u024f"
_ALONE = rf"(?<![{_EDGE}])(?<![{_EDGE}][.'’-]){{}}(?!['’-]?[{_EDGE}])(?!\.[A-Za-z])"
_BRACKETED = r"[(\[{{<【「]\s*([A-Ja-j])\s*[)\]}}>】」]".replace("{{", "{").replace("}}", "}")
_LETTER = re.compile(rf"{_BRACKETED}|{_ALONE.format('([A-J])')}")
_SMALL_START = re.compile(
    rf"^\s*{_ALONE.format('([a-j])')}(?=[*_\"']*(?:[.):,;]|\s*$|\s+-\s|\s+is\s+(?:correct|right|the)\b))", re.MULTILINE
)
_SMALL = re.compile(
    rf"{_ALONE.format('([a-j])')}(?=[*_\"'’”]*(?:[.):,;!]|\s*$|\s+(?:because|since|is|as|-)(?!\w)))", re.MULTILINE
)
_SMALL_TOLD = re.compile(
    r"(?:\b(?:answers?|option|choice|letter|choose|pick|select|say)\b|(?<=\W)is\b|[’']s\b|go with|:|=)[\s\"'“]*"
    r"(?:the\s+)?(?:option|choice|letter)?[\s\"'“]*$",
    re.IGNORECASE,
)
_AS_A_WORD = re.compile(
    r"\s+(?!(?:is|because|since|as|and|or|but|not|for|seems?|would|must|was|fails?|does|cannot|can|has|should)\b)[a-z0-9]"
)
_I_ALONE = re.compile(r"\s*(?:['’.):,]|$)")
_NAMED_BEFORE = re.compile(
    r"(?:\b(?:option|choice|letter|is|answer|pick|choose|select|say)|[(\[\"'“:=])\s*$", re.IGNORECASE
)
_NUMBERED = re.compile(r"([A-Za-z]+)[\s_#-]*(\d+)")
_JOINED = re.compile(
    r"""[\s)\]."'”]*(?:\b(?:and|or|nor|und|oder|y|o|et|ou|и|или)\b|&|/|\||\+|和|或|,\s*(?:and|or|nor)?)
    \s*(?:maybe|perhaps|possibly|also)?\s*(?:options?|choices?|answers?)?[\s(\["'“]*""",
    re.IGNORECASE | re.VERBOSE,
)
_CONCLUDED = re.compile(
    r"(?:\b(?:so|therefore|thus|hence|consequently|finally|in conclusion|i\s+(?:would\s+|will\s+)?(?:think|believe|say)"
    r"|only(?=\s+(?:(?:option|choice|answer|statement)\s+)?[(\"'*]*[A-J]\b)"
    r"|(?:i['’]d|i['’]ll|let['’]s)\s+say|go(?:ing)?\s+(?:with|for)|it(?:['’]s|\s+is)|must\s+be|should\s+be"
    r"|leaves(?:\s+(?:us\s+with|only))?|remains|choose|choosing|pick|select)\b"
    r"|→|=>|∴|所以|因此|选择?|選)",
    re.IGNORECASE,
)
_FAMILIES = (
    {"yes", "no"},
    {"true", "false"},
    {"entailment", "contradiction", "neutral"},
    {"positive", "negative", "neutral", "mixed"},
    {"supported", "refuted", "supports", "refutes", "not enough info"},
    {"left", "right"},
    {"agree", "disagree"},
)
"""Answers that exclude each other: what else than the gold answer may have been said."""


def choice(said: str, gold: str) -> bool:
    """The option that was chosen is the gold one."""
    kind, right = _gold(gold)
    if kind == "none":
        return not without_reasoning(said)
    return bool(option_of(said, gold) == right)


def option_of(said: str, gold: str) -> Any:
    """The option that an answer chooses, of the kind of the gold answer: a letter, the number after a word, or words in
    lower case; a set of letters where the gold answer is one. None where it chooses none."""
    kind, right = _gold(gold)
    for part in turns(without_reasoning(said)):
        if kind == "letter":
            found = _letter_of(readable(part), isinstance(right, frozenset))
        elif kind == "number":
            found = _number_of(readable(part), gold)
        else:
            found = _words_of(part, right)
        if found is not None:
            return found
    return None


def _gold(gold: str) -> tuple[str, Any]:
    """Of what kind a gold answer is, and which option."""
    text = plain(gold)
    if not text:
        return "none", None
    bare = plain(readable(text))
    if inside := re.fullmatch(r"\\boxed\{(.*)\}", bare):
        bare = inside[1].strip()
    if letter := re.fullmatch(rf"(?:{_BRACKETED}|([A-Ja-j]))(?:\s*[.):]\s*\S.*)?", bare):
        return "letter", (letter[1] or letter[2]).upper()
    letter = re.fullmatch(rf"(?:{_BRACKETED}|([A-J]))\s+\S.*", bare)
    if letter and (letter[1] or letter[2] not in "AI"):
        return "letter", (letter[1] or letter[2]).upper()
    if re.fullmatch(r"[(\[]?[A-J][)\]]?(?:\s*(?:,|and|&|,\s*and|/)\s*[(\[]?[A-J][)\]]?)+|[A-J]{2,5}", bare):
        letters = re.findall(r"[A-J]", bare)
        in_order = letters == sorted(letters) or re.search(r"[A-J]{2}", bare) is None  # `BAD` is a word
        if len(set(letters)) == len(letters) and in_order:
            return "letter", frozenset(letters)
    if word := _NUMBERED.fullmatch(bare):
        return "number", str(int(word[2]))
    if re.fullmatch(r"\(?\d{1,2}\)?", bare):
        return "number", str(int(re.sub(r"\D", "", bare)))
    return "words", bare.casefold()


# -- letters ----------------------------------------------------------------------------------------------------------


def _letter_of(text: str, several: bool) -> Any:
    items = _letters(text)
    whole = partial(_whole_letter, several=several)
    group = partial(_at, items_of=_letters, several=several)
    if several and (letters := re.fullmatch(r"\W*([A-J]{2,5})\W*", text)):
        return frozenset(letters[1])
    return answer_in(text, items, whole, group, partial(_unclaimed, several=several), reach=60)


@lru_cache(maxsize=8)
def _letters(text: str) -> tuple[Found, ...]:
    found = {}
    for match in _LETTER.finditer(text):
        letter = match[match.lastindex or 0]
        if match[1] is None and letter in "AI" and _AS_A_WORD.match(text, match.end()):
            before = _NAMED_BEFORE.search(text[max(0, match.start() - 12) : match.start()])
            if before is None or letter == "I" or before[0].strip() in {":", "=", '"', "'", "“"}:
                continue
        if match[1] is None and letter == "I" and _I_ALONE.match(text, match.end()) is None:
            continue
        found[match.start()] = Found(match.start(), match.end(), letter.upper())
    for pattern in (_SMALL_START, _SMALL):
        for match in pattern.finditer(text):
            start = match.start(1)
            if start not in found and (pattern is _SMALL_START or _SMALL_TOLD.search(text[max(0, start - 30) : start])):
                found[start] = Found(start, match.end(1), match[1].upper())
    return tuple(found[start] for start in sorted(found))


def _whole_letter(text: str, several: bool) -> Any:
    items: Sequence[Found] = _letters(text)
    if not items and (alone := re.match(r"\W*([a-jA-J])(?!\w|\s+[a-z])", text)):
        items = [Found(alone.start(1), alone.end(1), alone[1].upper())]
    if several and (letters := re.fullmatch(r"\W*([A-J]{2,5})\W*", text)):
        return frozenset(letters[1])
    return _grouped(text, items, 0, several) if items else None


def _at(text: str, at: int, between: str, items_of: Any, several: bool) -> Any:
    return _grouped(text, items_of(text), at, several)


def _grouped(text: str, items: Sequence[Found], at: int, several: bool) -> Any:
    """The option at a place, None where it is only one of several that are named together (`A or B`)."""
    first = last = at
    while first > 0 and _joins(text, items[first - 1], items[first]):
        first -= 1
    while last + 1 < len(items) and _joins(text, items[last], items[last + 1]):
        last += 1
    options = {item.value for item in items[first : last + 1]}
    if several:
        return frozenset(options)
    return items[at].value if len(options) == 1 else _SEVERAL


_MOST_JOINED = 12
"""Options in one list."""
_SEVERAL = "several"
"""Options that are named as one answer, of which none was chosen."""


def _joins(text: str, left: Found, right: Found) -> bool:
    beside = not text[left.end : right.start].strip(" ") or _below(text, left, right)
    return (beside or _JOINED.fullmatch(text, left.end, right.start) is not None) and not rejected(text, right)


_BETWEEN_LINES = re.compile(r"[)\].]*[ ]*\n[\s(\[*•-]*")
_LINE_IS_OVER = re.compile(r"[)\].]*[ ]*(?:\n|$)")


def _below(text: str, left: Found, right: Found) -> bool:
    """Whether the next line is nothing but another option."""
    return (
        _BETWEEN_LINES.fullmatch(text, left.end, right.start) is not None
        and _LINE_IS_OVER.match(text, right.end) is not None
    )


_BEGINS_A_LINE = re.compile(r"(?:^|\n)[ >#(\[*•-]*$")
_MARK = re.compile(r"\s*([)\]:.|–—-])")


def _lists(text: str, items: Sequence[Found]) -> list[list[int]]:
    """Lists of options, `A) x` and `B) y` below each other or in one line, by the numbers of their items."""
    first = [_BEGINS_A_LINE.search(text[max(0, item.start - 12) : item.start]) is not None for item in items]
    marks = [_mark(text, item) for item in items]
    below = _runs(items, marks, [i for i in range(len(items)) if first[i]])
    beside = _runs(items, marks, [i for i in range(len(items)) if marks[i] and marks[i] in ")]:."])
    return below or [run for run in beside if first[run[0]] and (marks[run[0]] in ")]" or len(run) > 2)]


def _mark(text: str, item: Found) -> str:
    """What parts an option's letter from its words; nothing where only a blank does."""
    inside = text[item.end - 1]
    found = _MARK.match(text, item.end)
    return inside if inside in ")]" else found[1] if found else ""


def _runs(items: Sequence[Found], marks: Sequence[str], among: Sequence[int]) -> list[list[int]]:
    """Two or more options in the order of their letters or numbers that are marked in the same way."""
    runs: list[list[int]] = []
    for i in among:
        before = runs[-1][-1] if runs else None
        if before is not None and marks[before] == marks[i] and _next(items[before].value) == items[i].value:
            runs[-1].append(i)
        else:
            runs.append([i])
    return [run for run in runs if len(run) > 1]


def _next(option: str) -> str:
    return str(int(option) + 1) if option.isdigit() else chr(ord(option) + 1)


def _unclaimed(text: str, items: Sequence[Found], several: bool = False) -> Any:
    """Where no option is called the answer: what is alone or stands first; else what is concluded last. Options that
    are only listed are none; of several, lines that each name one are."""
    denied = _denied(text, items)
    left = [i for i in range(len(items)) if not denied[i]]
    lines = [line for line in text.splitlines() if line.strip()]
    if several and len(lines) > 1:
        named = [i for i in left if _BEGINS_A_LINE.search(text[max(0, items[i].start - 12) : items[i].start])]
        if len(named) == len(lines):
            return frozenset(items[i].value for i in named)
    listed = {left[k] for run in _lists(text, [items[i] for i in left]) for k in run}
    left = [i for i in left if i not in listed]
    if not left:
        return None
    values = {items[i].value for i in left}
    first = left[0]
    if len(values) == 1:
        return frozenset(values) if several else values.pop()
    if not text[: items[first].start].strip(" \n\t(*\"'#>-["):
        after = text[items[first].end :]
        lines = re.findall(r"^\W{0,3}([A-J])\W{0,2}[.):]\s", text, re.MULTILINE)
        alone = re.match(
            r"[*_\"'’”]*\s*(?:[).:,;!\]}>(|=–—-]|\n|$|because\b|since\b|as\b|is\s+(?:the|correct|right)\b)", after
        )
        if (len(set(lines)) < 3 and (alone or _CONCLUDED.search(after) is None)) or re.match(
            r"[).:\]]?\s*$", after.split("\n")[0]
        ):
            return _grouped(text, items, first, several)
    concluded = None
    for cue in _CONCLUDED.finditer(text):
        at = bisect_left(left, cue.end(), key=lambda i: items[i].start)
        following = left[at] if at < len(left) else None
        if (
            following is not None
            and items[following].start - cue.end() <= 30
            and "\n" not in text[cue.end() : items[following].start]
        ):
            concluded = following
    if concluded is not None:
        return _grouped(text, items, concluded, several)
    return _grouped(text, items, left[-1], several)


def _denied(text: str, items: Sequence[Found]) -> list[bool]:
    """Of each option whether it is rejected, itself or with a list that it is in: `A and C are wrong`."""
    found: list[bool] = []
    ahead = _MOST_JOINED  # options to the next one that is rejected, in the same list
    for at in reversed(range(len(items))):
        joined = found and _JOINED.fullmatch(text, items[at].end, items[at + 1].start) is not None
        ahead = 0 if rejected(text, items[at]) else ahead + 1 if joined else _MOST_JOINED
        found.append(ahead < _MOST_JOINED)
    return found[::-1]


# -- words with a number ----------------------------------------------------------------------------------------------


def _number_of(text: str, gold: str) -> str | None:
    word = _NUMBERED.fullmatch(plain(readable(gold)))
    name = "answer" if word is None else word[1]
    items_of = partial(_numbered, word=name)
    group = partial(_at, items_of=items_of, several=False)
    found = answer_in(
        text, items_of(text), partial(_whole_number, word=name), group, partial(_named, word=name), reach=60
    )
    return None if found is None else str(found)


@lru_cache(maxsize=8)
def _numbered(text: str, word: str) -> tuple[Found, ...]:
    """`answer3`, and bare numbers, which count only where they are called the answer (see `_named`)."""
    named = rf"(?<![{_EDGE}]){re.escape(word)}[\s_#-]*\(?(\d+)\)?(?!\w)"
    prefix = r"(?:(?:option|choice|number|no\.|#|choose|pick|select|go\s+with)\s*)?"
    pattern = rf"{named}|(?<![\w.,]){prefix}\(?(\d{{1,2}})\)?(?![\w%]|[.,]\d)"
    return tuple(
        Found(m.start(), m.end(), str(int(m[1] or m[2])))
        for m in re.finditer(pattern, text, re.IGNORECASE)
        if m[1] or not re.search(r"[-+*/×^]\s*$|\d\s*=\s*$", text[max(0, m.start() - 20) : m.start()])
    )


def _whole_number(text: str, word: str) -> str | None:
    items = _numbered(text, word)
    return None if not items else str(_grouped(text, items, 0, False))


def _named(text: str, items: Sequence[Found], word: str) -> Any:
    named = [i for i in items if re.match(rf"{re.escape(word)}|[a-z#]", text[i.start : i.end], re.IGNORECASE)]
    if named:
        return _unclaimed(text, named)
    alone = re.fullmatch(r"\W*(\d{1,2})\W*(?:[.):\n]\s*.*)?", text, re.DOTALL)
    return str(int(alone[1])) if alone and not _lists(text, items) else None


# -- other words ------------------------------------------------------------------------------------------------------


def _words_of(said: str, right: str) -> str | None:
    """The gold answer's words where the answer begins with them or is said to be them; else another answer, or None."""
    text = readable(said).strip()
    family = next((f for f in _FAMILIES if right in f), None)
    if family is None:
        return right if _begins(text, right) or _begins(said, right) or _says(text, right) else None
    pattern = re.compile(
        "|".join(_ALONE.format(re.escape(w).replace(r"\ ", r"\s+")) for w in sorted(family, key=len, reverse=True)),
        re.I,
    )
    items = [Found(m.start(), m.end(), " ".join(m[0].split()).lower()) for m in pattern.finditer(text)]
    if right in {"yes", "no"}:
        items = [i for i in items if i.value != "no" or not re.match(r"\s+[a-z]", text[i.end :]) or i.start == 0
                 or re.match(r"\s+(?:because|since|as|it|they|he|she|the)\b", text[i.end :])]  # fmt: skip
    if len(family) == 2:
        items = [_turned(text, item, family) for item in items]

    def whole(content: str) -> str | None:
        found = pattern.search(content)
        return " ".join(found[0].split()).lower() if found else None

    def at(text: str, number: int, between: str) -> Any:
        return _SEVERAL if _hedged(text, items, number) else items[number].value if number < len(items) else None

    return answer_in(text, items, whole, at, _said_first, reach=60)  # type: ignore[no-any-return]


def _turned(text: str, item: Found, family: set[str]) -> Found:
    """`not true` is false."""
    if re.search(r"\bnot\s+$|n['’]t\s+$", text[max(0, item.start - 20) : item.start], re.IGNORECASE):
        return Found(item.start, item.end, next(iter(family - {item.value})))
    return item


def _hedged(text: str, items: Sequence[Found], at: int) -> bool:
    following = items[at + 1] if at + 1 < len(items) else None
    return (
        following is not None
        and following.value != items[at].value
        and (
            re.fullmatch(r"[\s\"',]*(?:or|and|/|\|)[\s\"']*", text[items[at].end : following.start]) is not None
            or _below(text, items[at], following)
        )
    )


def _said_first(text: str, items: Sequence[Found]) -> Any:
    if not items:
        return None
    begins = not text[: items[0].start].strip(" \n\t(*\"'#>-[")
    at = 0 if begins else len(items) - 1
    return _SEVERAL if _hedged(text, items, at) or (at and _hedged(text, items, at - 1)) else items[at].value


def _begins(text: str, right: str) -> bool:
    head = plain(text).casefold().lstrip("\"'“‘(*")
    return re.match(rf"{re.escape(right)}(?!['’-]?\w)", head) is not None


def _says(text: str, right: str) -> bool:
    """Whether the text calls these words its answer, last."""
    pattern = re.compile(rf"(?<!\w){re.escape(right)}(?!['’-]?\w)", re.IGNORECASE)
    items = [Found(m.start(), m.end(), right) for m in pattern.finditer(text)]

    def whole(content: str) -> str:
        return right if _begins(content, right) else _SEVERAL

    def at(text: str, number: int, between: str) -> str | None:
        return right if len(between.split()) <= 4 else None

    return bool(answer_in(text, items, whole, at, lambda text, items: None) == right)
