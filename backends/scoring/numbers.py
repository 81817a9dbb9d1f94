"""Numbers as people and models write them, and the one that an answer gives."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

from masc.backends.scoring.claims import Found, answer_in, rejected
from masc.backends.scoring.markup import readable
from masc.backends.scoring.reasoning import turns, without_reasoning


@dataclass(frozen=True)
class Number:
    """An exact value. percent: as written, `50%` is 50."""

    value: Fraction
    percent: bool = False


@dataclass(frozen=True)
class Other:
    """Digits that are no number: a range, a date, a time, a ratio, a sum that is not worked out, `2√3`."""

    text: str


_LAST = 50
"""Numbers, from the end, among which the one is sought that is the answer where the text does not say which is."""
_LARGEST_POWER = 10_000
_SCALES = {
    "thousand": 10**3, "million": 10**6, "millions": 10**6, "billion": 10**9, "trillion": 10**12, "k": 10**3,
    "mn": 10**6, "bn": 10**9, "m": 10**6, "lakh": 10**5, "crore": 10**7, "万": 10**4, "亿": 10**8, "億": 10**8,
    "dozen": 12,
}  # fmt: skip
# Longer forms first: grouped in the ways of several countries, then plain.
_DIGITS = r"""(?:
    (?<![\d,])0,\d+(?![\d,])                               # 0,001
  | \d{1,3}(?:\.\d{3})+,\d{1,2}(?![\d,])                    # 1.200,50
  | \d{1,3}(?:\.\d{3}){2,}(?![\d.])                         # 1.200.300
  | \d{1,3}(?:,\d{3})+(?![\d])(?:\.\d+)?                    # 1,200.50
  | \d{1,2}(?:,\d{2})+,\d{3}(?!\d)(?:\.\d+)?                # 12,34,567
  | \d{1,3}(?:[ '’_]\d{3})+[.,]\d+(?!\d)
  | \d{1,3}(?:[ '’_]\d{3})+(?![\d,]|\.\d)                   # 1 200
  | (?<![\d,])\d+,\d+(?![\d,])                              # 1,5
  | \d+(?:_\d{3})*(?:\.\d+)?(?!\d)
  | \.\d+
)"""
_NUMBER = re.compile(
    rf"""(?<![A-Za-z_\d^])(?<!\^[(-])(?<!\^\([-+])(?<!\d\.)
    (?P<digits>{_DIGITS})
    (?P<exponent>[eE][-+\u2212]?\d+(?!\w) | \s*[×x*⋅·]\s*10\s*(?:\^|\*\*)\s*\(?\s*(?P<ten>[-+\u2212]?\s*\d+)\s*\)?)?
    (?P<power>\s*(?:\^|\*\*)\s*\(?\s*(?P<by>[-+\u2212]?\d+)\s*\)?)?
    (?P<below>\s*/\s*(?P<under>\d+(?:,\d{{3}})*(?:\.\d+)?)(?![\d]*\s*/))?
    (?P<percent>\s*(?:%|percent\b|per\s+cent\b|pct\b|percentage\s+points?\b))?
    (?P<scale>(?:\s*(?:thousand|millions?|billion|trillion|dozen|lakh|crore|bn|mn)\b|[kKM](?![A-Za-z])|\s*[万亿億]))?""",
    re.VERBOSE,
)
_OTHER = re.compile(
    r"""(?<![\w.])(?:
    \d{4}-\d{1,2}-\d{1,2} | \d{1,2}/\d{1,2}/\d{2,4} | \d{1,2}\.\d{1,2}\.\d{4}        # dates
  | \d+(?:\.\d+)?[ ]?:[ ]?\d+(?:\.\d+)?(?::\d+)*                                      # times, ratios
  | \d+(?:[.,]\d+){0,4}%?\s?[-\u2013]\s?\d+(?:[.,]\d+){0,4}%?(?=\s*(?:$|[.;,)]|\s[A-Za-z]))(?<!\d-\s\d)  # ranges
  | v?\d{1,3}(?:\.\d{1,2}){2,}                                                       # versions
  | \d+/\d+/\d+
    )(?![\w%])""",
    re.VERBOSE,
)
_MIXED = re.compile(r"(?<![\w./])(\d+)(?:\s+|\s*&\s*|\s+and\s+|-)(\d+)\s*/\s*(\d+)(?![\d/])")
_SIGN = re.compile(
    r"(?:(?P<word>\b(?:minus|negative|moins|menos))\s+|(?P<dash>[-\u2212\u2010-\u2013])(?P<gap>\s*))\(?\s*$", re.I
)
_MAY_BE_SIGNED = re.compile(
    r"(?:^|[=:(\[{,<>≈±;→×÷*/+]|\b(?:is|are|be|was|equals?|of|than|by|to|at|and|or|es|est|ist|yields|gives|get|obtain"
    r"|approximately|about))\s*$",
    re.IGNORECASE,
)
# Of these a digit is only a part: roots, functions (`log2(8)`, `f(3)`), what is between bars, inequalities.
_STRANGE_BEFORE = re.compile(
    r"""[√±]\s*[({]?\s*$ | \\sqrt\s*(?:\[\d+\])?\s*\{?\s*$
  | \b(?:log|ln|lg|a?sin|a?cos|a?tan|exp)(?:\d{1,3}|_\{?\w{1,3}\}?)?(?:\s*[({][^\d()=\n]*|\s+)$
  | \\(?:log|ln|sin|cos|tan|cot|lfloor|lceil|l?vert|[dt]?binom|max|min|gcd|sum|prod|int|overline|bar|phi|bmod|p?mod)\b
    (?:(?!\b[A-Za-z]{2})[^=\n])*$
  | \b(?:sqrt|cbrt|root|abs|max|min|gcd|lcm|hcf|floor|ceil|round|factorial|fact|mod|pow|sum|binom|comb|choose|sgn|cot
    |sec|csc|[A-Za-z])\([^()=\n]*$
  | [⌊⌈∛]\s*$ | (?<![^\s({$:])\|$
  | \S[ ]*(?:(?<![-=<>])[<>]|<=|(?<!=)>=|[≤≥≠≮≯]|(?<![\d)])!=)[ ]*$
  | \\(?:[lg]eq?q?|[lg]eqslant|neq?|[lg]t|in|equiv)\s*$ | \d[A-Za-z]\s*[-+*\u2212]\s*$""",
    re.VERBOSE,
)
_STRANGE_AFTER = re.compile(
    r"""\s*(?:√|π|pi\b|\\sqrt|\\pi|\\factorial|!(?=\s*[}=.]\s*\S)|!(?![=\s.]|$)|[xyzin](?![\w'’-])|±|÷\s*\(|\\[a-z]+\{)
  | [abefijnoqruvwxyz](?![\w'’-]) | [cdghklmpst](?=\s*(?:[+*]|[-\u2212]\s)\s*[\w(])
  | \)?_\s*\{?\s*(?!10\b)\w | [₀-₉] | \|(?!\s*\S)""",
    re.VERBOSE,
)
_VARIABLE = re.compile(r"\b(?:[Ll]et|where|terms of|function of|variable) ([a-z])\b")  # else `5m` has a unit
_FACTORIAL = re.compile(r"\s*\d+!\.?\s*")  # alone; after words the mark is a cry: The answer is 42!
_NOT_THE_ANSWER = re.compile(
    r"\b(?:step|question|problem|part|figure|example|equation|option|choice|page|section|method|chapter|line|case|no\."
    r"|version|gpt-?|nearest|rounded\s+to|round\s+to|out\s+of)\s*[#(]?\s*$",
    re.IGNORECASE,
)
_BESIDE = re.compile(
    r"\d[^.\n=]*(?:,\s*which|\bbecause|\bsince|,\s*not|\brather than|\binstead of|\bcompared (?:to|with))\b[^.\n=]*$",
    re.I,
)
_BRACKET = re.compile(r"\d[^()]*\([^()]*$")  # a number before, then one in brackets
_WITHIN = re.compile(r"\d(?:\s+[a-z]+){0,2}\s+(?:in|over|within|during|for|every)\s+(?:the\s+\w+\s+)?$")
_TIME = re.compile(r"\s*(?:seconds?|minutes?|hours?|days?|weeks?|months?|years?)\b")  # earns 460 in 45 hours
_REMARK = re.compile(  # x = 5 > 0
    r"((?<![<>!=])=\s*(?:[-\u2212]\s*)?[\d.,/]+)\s*(?:<=|>=|!=|[<>≤≥≠]|\\[lg]eq?q?|\\neq?)\s*[-\u2212]?[\d.,/]*\d"
)
_IN_TOTAL = re.compile(
    r"\s+(?:[a-z]+\s+)?(?:in total|altogether|in all|all together)\b"
)  # 2 here and 3 there, 5 in all
_PLACES = re.compile(r"[\s-]*(?:decimal|significant|d\.?p\.?\b|s\.?f\.?\b|sig\.?\s*figs?)", re.IGNORECASE)
_LINK = re.compile(r"\s*(?:[-+*×÷/\u2212\u2013]|x(?=\s*\d))\s*\(?\s*")
_EQUALS = re.compile(r"=|≈|→|⇒|=>|\bequals\b|\bor about\b")
_ASIDE = re.compile(
    r"^[ \t#>*]*(?:check|checking|verification|verify|note|p\.?\s?s|explanation|proof|remark|hint)\b[^\n]{0,20}?:"
    r"|(?<=\S)[ \t]*\n\s*\n(?=[ \t]*1[.)]\s)|\blet me know\b|\bfeel free\b|\bif you (?:have|need|want)\b",
    re.IGNORECASE | re.MULTILINE,
)


@lru_cache(maxsize=8)
def find_numbers(text: str) -> tuple[Found, ...]:
    """All numbers of a readable text, in order."""
    found: list[Found] = []
    taken = 0
    variables = set(_VARIABLE.findall(text))
    for match in _tokens(text):
        if match.start() < taken:
            continue
        taken = match.end()
        found.append(_read(text, match, variables))
    return tuple(found)


def _tokens(text: str) -> list[re.Match[str]]:
    """What begins first wins, of those that begin together the longer."""
    every = [m for pattern in (_OTHER, _MIXED, _NUMBER) for m in pattern.finditer(text)]
    return sorted(every, key=lambda m: (m.start(), -m.end()))


def _read(text: str, match: re.Match[str], variables: set[str]) -> Found:
    start, end = match.span()
    if match.re is _OTHER:
        return Found(start, end, Other(re.sub(r"\s|\u2013", lambda m: "-" if m[0] == "\u2013" else "", match[0])))
    if match.re is _MIXED:
        below = int(match[3])
        value = Fraction(int(match[1])) + Fraction(int(match[2]), below) if below else None
        percent = False
    else:
        value, percent = _value(match), bool(match["percent"])
    start, negative = _sign(text, start)
    before = text[max(0, start - 24) : start].rpartition("\n")[2]
    strange = _STRANGE_BEFORE.search(before) or _STRANGE_AFTER.match(text[end : end + 12])
    variable = text[end : end + 1] in variables and re.match(r"\w(?!\w)", text[end : end + 2]) is not None
    if value is None or strange or variable or _FACTORIAL.fullmatch(text):
        return Found(start, end, Other(text[max(0, start - 8) : end + 8].strip()))
    return Found(start, end, Number(-value if negative else value, percent))


def _value(match: re.Match[str]) -> Fraction | None:
    digits = re.sub(r"[ '’_]", "", match["digits"])
    if re.fullmatch(r"\d{1,3}(\.\d{3})+,\d{1,2}|\d{1,3}(\.\d{3}){2,}", digits):
        digits = digits.replace(".", "").replace(",", ".")
    elif digits[:2] != "0," and re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?|\d{1,2}(,\d{2})+,\d{3}(\.\d+)?", digits):
        digits = digits.replace(",", "")
    else:
        digits = digits.replace(",", ".")
    whole, _, part = digits.partition(".")
    value = Fraction(_int(whole + part), 10 ** len(part))
    exponent = match["ten"] or (match["exponent"] or "")[1:]
    try:
        if exponent:
            value *= Fraction(10) ** _power(exponent)
        if match["by"]:
            value = value ** _power(match["by"])
        if match["under"]:
            value /= Fraction(match["under"].replace(",", ""))
    except (ValueError, ZeroDivisionError, OverflowError):
        return None
    scale = (match["scale"] or "").strip()
    return value * _SCALES.get(scale if scale == "M" else scale.lower(), _SCALES["m"] if scale == "M" else 1)


def _int(digits: str) -> int:
    """Of any length: Python refuses more than some thousand digits at once."""
    if len(digits) <= 4000:
        return int(digits or "0")
    middle = len(digits) // 2
    above: int = _int(digits[:middle]) * 10 ** (len(digits) - middle)
    return above + _int(digits[middle:])


def _power(text: str) -> int:
    power = int(text.replace("\u2212", "-").replace(" ", ""))
    if abs(power) > _LARGEST_POWER:
        raise ValueError("nobody means such a number")
    return power


def _sign(text: str, start: int) -> tuple[int, bool]:
    """Where a number begins with its sign, and whether that is a minus: not the dash of `5-7`, `GPT-4`, `total - 3`."""
    found = _SIGN.search(text, max(0, start - 16), start)
    if found is None:
        return start, False
    before = text[max(0, found.start() - 200) : found.start()]
    if found["word"]:
        if found["word"].lower() in {"minus", "moins", "menos"} and re.search(r"\d\s*$", before):
            return start, False
        return found.start(), True
    if not found["gap"]:
        signed = re.search(r"[A-Za-z0-9_)\]}\u00c0-\u024f]$|\d\s+$", before) is None
    else:
        lines = before.rstrip(" ")
        bullet = "\n" in found["gap"] or (lines.endswith("\n") and lines.strip() != "")
        signed = not bullet and _MAY_BE_SIGNED.search(before.strip("\n") if before.strip() else "") is not None
    return (found.start(), True) if signed else (start, False)


_UP_TO_19 = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen"""
_FROM_20 = "twenty thirty forty fifty sixty seventy eighty ninety"
_UNITS = {word: i for i, word in enumerate(_UP_TO_19.split())}
_TENS = {word: 10 * i for i, word in enumerate(_FROM_20.split(), start=2)}
_BIG = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_WORD = "|".join(sorted([*_UNITS, *_TENS, *_BIG], key=len, reverse=True))
_MANY = rf"(?:{_WORD})(?:(?:[\s-]+(?:and[\s-]+)?)(?:{_WORD}))*"
_ONE = "|".join(sorted(_UNITS, key=len, reverse=True))
_PARTS = {
    "half": 2, "halve": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8,
    "ninth": 9, "tenth": 10,
}  # fmt: skip
_PART = "|".join(_PARTS)
_FRACTION = rf"(?P<above>an?|{_ONE})[\s-]+(?P<below>{_PART})s?|(?<!first\s)(?<!second\s)(?<!other\s)(?P<half>half)"
_IN_WORDS = re.compile(
    rf"""(?<![\w-])(?P<minus>(?:negative|minus)\s+)?
    (?: (?:(?P<whole>{_MANY})\s+and\s+)?(?:{_FRACTION}) | (?P<many>{_MANY}) | an?(?=\s+dozen\b) )
    (?:\s+(?:an?\s+)?(?P<scale>dozen|hundred|thousand|million|billion))?(?![\w-])""",
    re.IGNORECASE | re.VERBOSE,
)
_AND_A_PART = re.compile(rf"(?<=\d)\s+and\s+(an?|{_ONE})[\s-]+({_PART})s?\b", re.IGNORECASE)


def in_words(text: str) -> list[Found]:
    """Numbers in English words, fractions and dozens too: `two and a half`, `three quarters`, `half a dozen`."""
    found = []
    for match in _IN_WORDS.finditer(text):
        whole, above, many = match["whole"], match["above"], match["many"]
        value = Fraction(_counted(many)) if many else Fraction(0)
        if above or match["half"]:
            value = Fraction(_counted(whole) if whole else 0) + _part(above or "a", match["below"] or "half")
        elif not many:
            value = Fraction(1)  # a dozen
        scale = (match["scale"] or "").lower()
        value *= _SCALES.get(scale, _BIG.get(scale, 1))
        found.append(Found(*match.span(), Number(-value if match["minus"] else value)))
    return found


def _counted(words: str) -> int:
    total = part = 0
    for word in re.split(r"[\s-]+", words.lower()):
        if word == "hundred":
            part = (part or 1) * 100
        elif word in _BIG:
            total, part = total + (part or 1) * _BIG[word], 0
        else:
            part += _UNITS.get(word, _TENS.get(word, 0))
    return total + part


def _part(above: str, below: str) -> Fraction:
    return Fraction(_UNITS.get(above.lower(), 1), _PARTS[below.lower()])


def _whole(text: str) -> Number | Other | None:
    """The value of a text that is nothing but an answer: after its last sign of equality, `x = 5 apples`."""
    parts = [part for part in _EQUALS.split(text) if re.search(r"\d", part)]
    if any(re.search(r"\d[^()]*(?:[,;]|\b(?:or|and)\b)\s*[A-Za-z]\w?\s*$", part) for part in parts[:-1]):
        return Other(text.strip())  # x = 3 or x = 4
    if not parts:
        words = in_words(text)
        return words[0].value if len(words) == 1 else None
    told = parts[-1]
    items = find_numbers(told)
    if not items:
        return Other(told.strip())
    rest = told[items[0].end :]
    if len(items) > 1 and re.match(r"\s*(?:[-+*×÷/\u2212&;]|,|and\b|or\b|x\b)", rest):
        return Other(re.sub(r"\s", "", told))
    alone = re.fullmatch(r"\s*\\?[)}]\s*", rest)  # {5}, (5)
    if (
        rest.startswith("!")
        or re.search(r"\\sqrt|√|π" + ("" if alone else r"|[({]\s*$"), told[: items[0].start])
        or re.match(r"\s*[-+*×÷/\u2212^]", rest)
    ):
        return Other(re.sub(r"\s", "", told))
    return items[0].value  # type: ignore[no-any-return]


def _value_at(text: str, at: int, between: str, items: Sequence[Found]) -> Any:
    """The value that begins with an item: `3 + 4 = 7 apples` is 7, `3 + 4` none that is worked out."""
    item = items[at]
    sentence = re.split(r"(?<=[^\d\s])[.!?]\s|(?<=\d)[.!?](?:\s|$)|\n", text[item.end :], maxsplit=1)[0]
    if re.match(r"\s*(?:because|since|as\b|for\b|,\s*(?:because|since|as|which|where|not)|\()", sentence):
        return item.value
    total = (i for i in items[at + 1 : at + 9] if i.end <= item.end + len(sentence) and _IN_TOTAL.match(text, i.end))
    if (summed := next(total, None)) is not None:
        return summed.value
    apart = re.search(r"[,;]\s*[A-Za-z]\w?\s*=", sentence)  # x = 7, y = 3: the first
    equal = list(_EQUALS.finditer(sentence[: apart.start()] if apart else sentence))
    linked = _LINK.match(sentence) or re.match(r"\s*(?:%|percent)?\s*(?:of|times|plus|minus)\s+[\d(]", sentence)
    if equal and (linked or equal[0].start() < 12):
        first = item.end + equal[-1].end()
        return next((i.value for i in items if i.start >= first and i.start - first < 20), item.value)
    following = items[at + 1] if at + 1 < len(items) else None
    if following is not None and _hedge(text, between, item, following):
        return Other(text[item.start : following.end])
    if linked and following is not None and _LINK.fullmatch(text[item.end : following.start]):
        return Other(text[item.start : following.end])
    return item.value


def _hedge(text: str, before: str, left: Found, right: Found) -> bool:
    """`3 or 5`, `between 5 and 7`."""
    link = text[left.end : right.start].lower()
    open_range = re.search(r"\b(?:between|from|either)\s*$", before, re.IGNORECASE)
    if re.fullmatch(r"\s*,?\s*or\s*", link):
        return not same(left.value, right.value)  # `0.25 or 25%` is one
    return open_range is not None and re.fullmatch(r"\s*(?:and|to|or)\s*", link) is not None


def _unclaimed(text: str, items: Sequence[Found]) -> Any:
    """The last number, but for such as count steps or places."""
    aside = next((m.start() for m in _ASIDE.finditer(text) if any(i.end <= m.start() for i in items)), len(text))
    items = [item for item in items if item.start < aside][-_LAST:]
    likely = [i for i in items if not _NOT_THE_ANSWER.search(text[max(0, i.start - 24) : i.start])
              and not _PLACES.match(text[i.end : i.end + 16])]  # fmt: skip
    likely = [i for i in likely if not rejected(text, i)] or likely or list(items)
    likely = [i for i in likely if not _BESIDE.search(text[max(0, i.start - 80) : i.start])] or likely
    if not likely:
        return None
    likely = [i for i in likely if not _BRACKET.search(text[max(0, i.start - 60) : i.start])] or likely
    apart = [
        i for i in likely if not _WITHIN.search(text[max(0, i.start - 60) : i.start]) or not _TIME.match(text, i.end)
    ]
    last = (apart or likely)[-1]
    if len(items) > 1 and last in items and (at := items.index(last)) > 0:
        between = text[items[at - 1].end : last.start]
        before = text[max(0, items[at - 1].start - 12) : items[at - 1].start]
        if (_LINK.fullmatch(between) and between.strip()) or _hedge(text, before, items[at - 1], last):
            return Other(text[items[at - 1].start : last.end])
    return last.value


def without_remarks(text: str) -> str:
    """`x = 5 > 0` as `x = 5`: what else holds of a number is not the number."""
    return _REMARK.sub(r"\1", text)


def number_of(said: str) -> Number | Other | None:
    """The number that an answer gives, None where it gives none."""
    for part in turns(without_reasoning(said)):
        text = without_remarks(_AND_A_PART.sub(lambda m: f" {_part(m[1], m[2])}", readable(part)))
        items = find_numbers(text)
        if not items:
            words = in_words(text)
            if not words:
                continue
            found = answer_in(text, words, _whole, lambda t, i, b, w=words: w[i].value, lambda t, i: None)  # type: ignore[misc]
            if (
                found is None
                and len(words) == 1
                and len(text[: words[0].start].split() + text[words[0].end :].split()) < 4
            ):
                found = words[0].value
        else:
            found = answer_in(text, items, _whole, lambda t, i, b: _value_at(t, i, b, find_numbers(t)), _unclaimed)
        if found is not None:
            return found  # type: ignore[no-any-return]
    return None


def same(mine: Number | Other | None, right: Number | Other | None) -> bool:
    """Of two numbers of which one is in per cent, both ways to read it count: 50% is 50 and 0.5."""
    if not isinstance(mine, Number) or not isinstance(right, Number):
        return isinstance(mine, Other) and mine == right
    if mine.value == right.value:
        return True
    if mine.percent == right.percent:
        return False
    return mine.value == right.value * (100 if mine.percent else Fraction(1, 100))


def number(said: str, gold: str) -> bool:
    """The same number, exactly, however it is written. Of `1/6 ≈ 0.167` either will do."""
    right = number_of(gold)
    return same(number_of(said), right) or (
        ("≈" in said or "approx" in said) and same(number_of(_exactly(said)), right)
    )


def _exactly(said: str) -> str:
    """Without the rounded value beside the exact one."""
    return re.sub(r"(?<=[\d}$)])\s*(?:≈|\\approx)\s*-?[$\d.,]+\d", " ", said)
