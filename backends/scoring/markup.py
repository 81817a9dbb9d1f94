"""Markup taken off: HTML, markdown, LaTeX, and the many characters that mean the same."""

from __future__ import annotations

import html
import re
import unicodedata

_FRACTIONS = {c: unicodedata.normalize("NFKC", c).replace("\u2044", "/") for c in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞⅐⅑⅒"}
_RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+", strict=True))
_WORDS = (
    "text|textbf|textit|textrm|texttt|textsf|emph|mathrm|mathbf|mathit|mathsf|mathtt|mathbb|mbox|operatorname|underline"
    "|bm|boldsymbol"
)
_WRAPPED = re.compile(rf"\\(?:{_WORDS})\s*\{{([^{{}}]*)\}}")
_MOST_BOXES = 100
_TOGETHER = re.compile(r"[\s$]*(?:\\\))?[\s,]*(\bor\b|\band\b|&|/|,)[\s$]*(?:\\\()?\s*", re.IGNORECASE)
_SIGNS = {
    r"\times": "×", r"\cdot": "×", r"\div": "÷", r"\pi": "π", r"\sqrt": "√", r"\approx": "≈", r"\simeq": "≈",
    r"\circ": "°", r"\degree": "°", r"\pm": "±", r"\infty": "∞", r"\quad": " ", r"\qquad": " ", r"\left": "",
    r"\right": "", r"\displaystyle": "", r"\ldots": "...", r"\dots": "...", r"\to": "→", r"\rightarrow": "→",
    r"\Rightarrow": "→", r"\implies": "→", r"\therefore": "therefore", r"\le": "≤", r"\ge": "≥", r"\ne": "≠",
    r"\euro": "€", r"\pounds": "£",
}  # fmt: skip


def readable(text: str) -> str:
    r"""The same words and numbers without markup. `\boxed{...}` stays, and so does `<answer>`, as `\boxed{...}`; powers
    become `^(...)`, fractions `a/b`, signs of the dollar go."""
    return _latex(_markdown(_characters(_tags(text))))


def _tags(text: str) -> str:
    text = re.sub(r"<answer>\s*(.*?)\s*(?:</answer>|\Z)", _in_box, text, flags=re.IGNORECASE | re.DOTALL)
    text = re.sub(r"<(?:s|del|strike)>.*?</(?:s|del|strike)>|~~[^~\n]+~~", " ", text, flags=re.IGNORECASE)
    text = re.sub(r"<sup>\s*([-+\d]+)\s*</sup>", r"^(\1)", text, flags=re.IGNORECASE)
    text = re.sub(r"<(?:br|/p|/div|/li|/tr|/h\d)\s*/?>", "\n", text, flags=re.IGNORECASE)
    text = re.sub(r"</(?:td|th)>", " ", text, flags=re.IGNORECASE)
    return html.unescape(re.sub(r"<(?![A-J]>)[a-zA-Z][^<>\n]*>|</[a-zA-Z][^<>\n]*>", "", text))


def _in_box(found: re.Match[str]) -> str:
    inside = found[1]
    return inside if "\\boxed" in inside else f"\\boxed{{{inside}}}"


def _characters(text: str) -> str:
    found: list[str] = []
    for c in text:
        if c in _FRACTIONS:
            found.append(" " + _FRACTIONS[c] if found and found[-1].isdigit() else _FRACTIONS[c])
        elif c in _RAISED:
            found.append(c)
        elif "\uff01" <= c <= "\uff5e":  # as wide as a Chinese character
            found.append(chr(ord(c) - 0xFEE0))
        elif c.isdecimal():
            found.append(str(unicodedata.decimal(c)))
        elif c in "\u00a0\u2007\u2009\u202f\u3000\t":
            found.append(" ")
        elif c not in "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\ufe0f\r":
            found.append("\u2212" if c in "\u207b\u208b\ufe63" else c)
    joined = "".join(found)
    raised = "".join(map(re.escape, _RAISED))
    return re.sub(f"[{raised}]+", lambda m: f"^({''.join(_RAISED[c] for c in m[0])})", joined)


def _markdown(text: str) -> str:
    text = re.sub(r"(?<!\d)\*\*|\*\*(?!\d)", "", text).replace("```", "\n").replace("`", "")
    text = re.sub(r"(?<![\d\s)*])\*(?=\S)|(?<=\S)\*(?![\d\s(*])", "", text)
    return re.sub(r"(?<![\w\\])_+(?=\S)|(?<=[^\s\\])_+(?![\w{])", "", text)


def _latex(text: str) -> str:
    text = re.sub(r"\\fbox\b|\\framebox\b", r"\\boxed", text)
    text = re.sub(r"\\boxed\s*([^\s{\\])", r"\\boxed{\1}", text)
    text = re.sub(r"(?<=\d)(?:\{,\}|\\text\{,\})(?=\d)", ",", text)
    text = re.sub(r"(?<=\d)\\[,! ;:]\s?(?=\d{3})", "", text)
    text = re.sub(r"(?<=\d),\\[!,;: ]\s?(?=\d{3})", ",", text)
    text = re.sub(r"(?<=\d)!(?=\s*(?:\$|\\[)\]]))", r"\\factorial ", text)  # in a formula it is no cry
    text = text.replace(r"\%", "%").replace(r"\$", "").replace(r"\\", "\n")
    for _ in range(4):  # one in the other
        text, count = _WRAPPED.subn(lambda m: f" {m[1].strip()} " if m[1].strip() else " ", text)
        if not count:
            break
    text = re.sub(r"\\[dtc]frac\b|\\[dtc]frac(?=\d)", r"\\frac", text)
    text = re.sub(r"(\d)\s*\\frac", r"\1 \\frac", text)
    text = re.sub(r"\\frac\s*\{\s*([^{}]*?)\s*\}\s*\{\s*([^{}]*?)\s*\}", _fraction, text)
    text = re.sub(r"\\frac\s*(\d)\s*(\d)", r"\1/\2", text)
    text = re.sub(r"\\frac\s*\{\s*([^{}]*?)\s*\}\s*(\d)", _fraction, text)
    text = re.sub(r"\d*\.\d*\\overline\s*\{?\d+\}?", _endless, text)
    text = re.sub(r"\^\s*\{\s*([^{}]*)\s*\}", r"^(\1)", text)
    text = re.sub(r"\^\s*\(?\\circ\)?|\\degree|\^\(\\circ\)", "°", text)
    text = re.sub(r"\\([a-zA-Z]+)", lambda m: _SIGNS.get(m[0], m[0]), text)
    text = re.sub(r"\\[()\[\]]|\\[,!;: ]", " ", text)
    text = re.sub(r"(?<!\w)(?:US|HK|NZ|[ARCS])\$(?=\s?\d)|[$€£¥₹₩₽₺₫฿]", "", text)
    return re.sub(r"(?<![A-Za-z])(?:USD|EUR|GBP|INR|CAD|AUD|CHF|JPY|CNY|RMB|RM|Rs\.?)\s?(?=-?\d)", "", text)


def _endless(found: re.Match[str]) -> str:
    """`0.1\\overline{6}` as the fraction that it is."""
    whole, _, rest = found[0].partition(".")
    fixed, _, again = rest.partition("\\overline")
    again = again.strip(" {}")
    nines = int("9" * len(again) + "0" * len(fixed))
    part = int(fixed + again) - int(fixed or "0")
    return f"{int(whole or '0') * nines + part}/{nines}"


def _fraction(found: re.Match[str]) -> str:
    above, below = found[1], found[2]
    simple = re.fullmatch(r"-?\d+(?:\.\d+)?", above) and re.fullmatch(r"\d+(?:\.\d+)?", below)
    if re.fullmatch(r"\d+", above) and re.fullmatch(r"-\d+", below):
        return f"-{above}/{below[1:]}"
    return f"{above}/{below}" if simple else f"({above})÷({below})"


def boxes(text: str) -> list[tuple[int, int, str]]:
    r"""The insides of `\boxed{...}`, with where each begins and ends; an unclosed one reaches to the end. Boxes
    that are named together (`\boxed{3} or \boxed{4}`) are one, in which both stand."""
    found: list[tuple[int, int, str]] = []
    for start in list(re.finditer(r"\\boxed\s*\{", text))[-_MOST_BOXES:]:
        depth, at = 1, start.end()
        while at < len(text) and depth:
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            at += 1
        content = text[start.end() : at - 1 if not depth else at].strip()
        begin = start.start()
        if found and (joint := _TOGETHER.fullmatch(text, found[-1][1], begin)) is not None:
            begin, _, earlier = found.pop()
            word = "or" if joint[1].lower() == "or" else "and"
            content = earlier if earlier == content else f"{earlier} {word} {content}"
        found.append((begin, at, content))
    return found
