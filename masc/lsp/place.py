"""Where in a text somebody is typing, and what could stand there.

Which keywords fit is asked of the parser's own automaton; which names fit is told by the tokens before, since what is
being typed is seldom a whole statement.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from lark import Token
from lark.exceptions import UnexpectedToken

from masc.compiler.channels import CHANNELS
from masc.compiler.language.adapters import ADAPTERS
from masc.compiler.language.train import TRAIN
from masc.dsl.excerpt import Excerpt
from masc.dsl.source import Source
from masc.dsl.tokens import KEYWORDS, Tokens, grammar, tokenize

Wanted = Literal[
    "nothing",
    "model",  # on ...
    "target",  # model small = "..."
    "path",  # import "..."
    "import",  # import "roles.mas" (...)
    "type",
    "truth",  # of a param: true or false
    "number",  # a param or a field
    "adapter",
    "option",
    "variable",  # template (...)
    "value",
    "sender",  # an agent that begins a statement, or stands in brackets
    "receiver",  # an agent or an output
    "channel",
    "template",
    "entry",
    "file",  # data "..."
    "folder",  # adapt lora(...) from "..."
    "column",  # answer <- ..., answer <- "..."
    "placeholder",
]
_DECLARATIONS = ("IMPORT", "MODEL", "PARAM", "AGENT", "GRAPH", "TRAIN")
_CLOSES = {"RPAR": "LPAR", "RSQB": "LSQB", "RBRACE": "LBRACE"}
_PLACEHOLDER = re.compile(r"(?<!\{)(?:\{\{)*\{(\w*)\Z")


@dataclass(frozen=True)
class Place:
    """What is typed from `start` to `end` is what a completion replaces.

    `keywords`: those that fit; `wanted`: what names fit; `owner`, `option`: whose option or value; `agent`: the agent
    that it stands in; `taken`: the options that are given already.
    """

    start: int
    end: int
    wanted: Wanted = "nothing"
    keywords: frozenset[str] = frozenset()
    owner: str = ""
    option: str = ""
    agent: str = ""
    taken: frozenset[str] = frozenset()


def place(source: Source, offset: int) -> Place:
    """The place at an offset."""
    tokens = tokenize(Excerpt(source, source.text))
    if any(c.start < offset <= _line_end(source.text, c.start) for c in tokens.comments):
        return Place(offset, offset)
    before = [token for token in tokens.tokens if _end(token) < offset and token.type != "$END"]
    touching = next((t for t in tokens.tokens if _start(t) < offset <= _end(t)), None)
    if touching is not None and touching.type == "STRING" and not _after_string(touching, offset):
        return _in_string(source.text, _declaration(source.text, before), touching, offset)
    start, end = offset, offset
    if touching is not None and (touching.type in ("NAME", "TRUE", "FALSE") or touching.type in KEYWORDS):
        start, end = _start(touching), _end(touching)
    elif touching is not None:
        before.append(touching)
    declaration = _declaration(source.text, before)
    keywords = _keywords(source.text, tokens, before, declaration)
    found = _names(source.text, declaration, start)
    option = CHANNELS[found.owner].options.get(found.option) if found.owner in CHANNELS else None
    if option is None or option.qualifier is None:
        keywords -= {"as"}
    return Place(start, end, found.wanted, keywords, found.owner, found.option, found.agent, found.taken)


def _start(token: Token) -> int:
    return token.start_pos or 0


def _end(token: Token) -> int:
    return token.end_pos or 0


def _line_end(text: str, offset: int) -> int:
    return text.find("\n", offset) % (len(text) + 1)


def _after_string(token: Token, offset: int) -> bool:
    quotes = '"""' if token.startswith('"""') else '"'
    return offset == _end(token) and len(token) >= 2 * len(quotes) and token.endswith(quotes)


def _first_on_line(text: str, token: Token) -> bool:
    return not text[text.rfind("\n", 0, _start(token)) + 1 : _start(token)].strip()


def _declaration(text: str, before: Sequence[Token]) -> list[Token]:
    """The tokens since the declaration began that the last of them stands in; none outside of declarations."""
    found: list[Token] = []
    depth = 0
    for token in before:
        column = _start(token) - text.rfind("\n", 0, _start(token)) - 1
        if token.type in _DECLARATIONS and (depth == 0 or column == 0) and _first_on_line(text, token):
            found, depth = [], 0
        depth += (token.type == "LBRACE") - (token.type == "RBRACE")
        found.append(token)
        if depth <= 0 and token.type == "RBRACE":
            found, depth = [], 0
    return found if found and found[0].type in _DECLARATIONS else []


# Keywords


def _keywords(text: str, tokens: Tokens, before: Sequence[Token], declaration: Sequence[Token]) -> frozenset[str]:
    """The keywords that the grammar takes after these tokens. What does not fit is skipped, up to the next line."""
    if not before:
        return frozenset(["mas"])
    parser = grammar().parse_interactive(start="file")
    parser.feed_token(Token("MAS", "mas"))
    parser.feed_token(Token("NUMBER", "1"))
    if len(before) <= 2 and before[0].type == "MAS":
        return frozenset() if len(before) == 1 else frozenset(KEYWORDS[k] for k in parser.accepts() if k in KEYWORDS)
    sound = parser.copy(deepcopy_values=False)
    skipping = False
    for token in declaration:
        if skipping and not _first_on_line(text, token) and token.type != "RBRACE":
            continue
        skipping = False
        kind = token.type
        if kind in KEYWORDS and kind not in parser.accepts():
            kind = "NAME"
        if "ERROR" in parser.choices() and "ERROR" in parser.accepts():  # a choice may come to nothing
            sound = parser.copy(deepcopy_values=False)
        try:
            parser.feed_token(Token.new_borrow_pos(kind, str(token), token))
        except UnexpectedToken:
            parser = sound.copy(deepcopy_values=False)
            parser.feed_token(Token("ERROR", ""))
            skipping = True
    return frozenset(KEYWORDS[kind] for kind in parser.accepts() if kind in KEYWORDS)


# Names


def _in_string(text: str, declaration: Sequence[Token], string: Token, offset: int) -> Place:
    head = declaration[0].type if declaration else ""
    last = declaration[-1] if declaration else None
    width = 3 if string.startswith('"""') else 1
    inner = _start(string) + width
    end = _end(string) - width if _after_string(string, _end(string)) else _end(string)
    agent = str(declaration[1]) if head == "AGENT" and len(declaration) > 1 else ""
    if last is not None and last.type in ("SYSTEM", "USER") and head == "AGENT":
        match = _PLACEHOLDER.search(text, inner, offset)
        if match is None:
            return Place(offset, offset)
        word = re.compile(r"\w*").match(text, match.start(1))
        return Place(match.start(1), word.end() if word else offset, "placeholder", agent=agent)
    if last is not None and last.type == "IMPORT":
        return Place(inner, end, "path")
    if last is not None and last.type == "FROM" and head == "AGENT":
        return Place(inner, end, "folder", agent=agent)
    if last is not None and head == "MODEL" and last.type == "EQUAL":
        return Place(inner, end, "target")
    if last is not None and head == "TRAIN" and str(last) in ("data", "eval_data"):
        return Place(inner, end, "file", option=str(last))
    if last is not None and head == "TRAIN" and last.type == "FEEDS":
        return Place(inner, end, "column")
    return Place(offset, offset)


def _names(text: str, tokens: Sequence[Token], start: int) -> Place:
    """What names could stand after the tokens of a declaration. (`start` and `end` mean nothing in what is given.)"""
    if not tokens:
        return Place(0, 0)
    opened = _opened(tokens)
    last, inner = tokens[-1], tokens[opened] if opened is not None else None
    agent = str(tokens[1]) if tokens[0].type == "AGENT" and len(tokens) > 1 else ""
    alone = "\n" in text[_end(last) : start] or last.type == "LBRACE"
    if inner is not None and inner.type == "LPAR" and opened is not None:
        return _in_brackets(tokens, opened, agent)
    if inner is not None and inner.type == "LSQB" and opened is not None:
        return _in_list(tokens, opened, agent)
    match tokens[0].type:
        case "PARAM" if last.type == "COLON":
            return Place(0, 0, "type")
        case "PARAM" if last.type == "EQUAL" and str(tokens[-2]) == "bool":
            return Place(0, 0, "truth")
        case "AGENT" if last.type == "ON" and inner is None:
            return Place(0, 0, "model")
        case "AGENT" if last.type == "THINK" and inner is not None:
            return Place(0, 0, "number", agent=agent)
        case "AGENT" if last.type == "ADAPT" and inner is not None:
            return Place(0, 0, "adapter", agent=agent)
        case "AGENT" if last.type == "AS" and tokens[-2].type == "ADAPT":
            return Place(0, 0, "sender", agent=agent)
        case "GRAPH" if inner is not None:
            wanted: dict[str, Wanted] = {"COLON": "channel", "ARROW": "receiver", "EQUAL": "template"}
            if last.type in wanted:
                return Place(0, 0, wanted[last.type])
            if str(last) == "repeat" and not alone:
                return Place(0, 0, "number")
            return Place(0, 0, "sender") if alone else Place(0, 0)
        case "TRAIN" if inner is not None:
            if str(last) in TRAIN and not alone:
                return Place(0, 0, "value", owner="train", option=str(last))
            return Place(0, 0, "column" if last.type == "FEEDS" else "entry")
    return Place(0, 0, agent=agent)


def _opened(tokens: Sequence[Token]) -> int | None:
    """The place of the innermost bracket that is open."""
    stack: list[int] = []
    for i, token in enumerate(tokens):
        if token.type in _CLOSES.values():
            stack.append(i)
        elif token.type in _CLOSES and stack and tokens[stack[-1]].type == _CLOSES[token.type]:
            stack.pop()
    return stack[-1] if stack else None


def _in_brackets(tokens: Sequence[Token], opened: int, agent: str) -> Place:
    """Options, arguments, fields, or names to import."""
    head, last = tokens[0].type, tokens[-1]
    before, further = tokens[opened - 1], tokens[opened - 2] if opened > 1 else None
    if head == "IMPORT":
        return Place(0, 0, "import", option=str(tokens[1]).strip('"'), taken=_texts(tokens[opened + 1 :]))
    if str(before) == "template" or (before.type == "EQUAL" and further is not None and str(further) == "template"):
        return _in_table(tokens, opened, agent)
    if head == "MODEL":
        return _in_options(tokens, opened, "model", agent)
    if not any(token.type == "LBRACE" for token in tokens[:opened]):
        return Place(0, 0, "type", owner="fields") if head == "AGENT" and last.type == "COLON" else Place(0, 0)
    if head == "GRAPH" and further is not None and further.type == "EQUAL":
        return Place(0, 0, "number", owner="arguments") if last.type in ("LPAR", "COMMA") else Place(0, 0)
    owner = str(before)
    if head == "AGENT" and owner not in (*ADAPTERS, "answer"):
        owner = "think"
    return _in_options(tokens, opened, owner, agent)


def _in_table(tokens: Sequence[Token], opened: int, agent: str) -> Place:
    """Variables of a chat template, of a model or of an agent; `option`: the model, where it is one's."""
    model = str(tokens[1]) if tokens[0].type == "MODEL" else ""
    if tokens[-1].type in ("LPAR", "COMMA"):
        return Place(0, 0, "variable", option=model, agent=agent, taken=_given(tokens[opened + 1 :]))
    return Place(0, 0, "number" if tokens[-1].type == "EQUAL" else "nothing", agent=agent)


def _in_options(tokens: Sequence[Token], opened: int, owner: str, agent: str) -> Place:
    last, given = tokens[-1], _given(tokens[opened + 1 :])
    if last.type in ("LPAR", "COMMA"):
        return Place(0, 0, "option", owner=owner, agent=agent, taken=given)
    if last.type == "EQUAL":
        return Place(0, 0, "value", owner=owner, option=str(tokens[-2]), agent=agent)
    if str(last) == "as":
        return Place(0, 0, "value", owner=owner, option="carry", agent=agent)
    option = str(tokens[-3]) if tokens[-2].type == "EQUAL" else ""
    return Place(0, 0, owner=owner, option=option, agent=agent)


def _in_list(tokens: Sequence[Token], opened: int, agent: str) -> Place:
    """Members of a group, or the items of a list of words."""
    taken = _texts(tokens[opened + 1 :])
    if tokens[-1].type not in ("LSQB", "COMMA"):
        return Place(0, 0)
    if tokens[opened - 1].type != "EQUAL":
        wanted: Wanted = "receiver" if tokens[opened - 1].type == "ARROW" else "sender"
        return Place(0, 0, wanted if tokens[0].type == "GRAPH" else "nothing", taken=taken)
    outer = _opened(tokens[:opened])
    owner = str(tokens[outer - 1]) if outer else ""
    return Place(0, 0, "value", owner=f"{owner}[]", option=str(tokens[opened - 2]), agent=agent, taken=taken)


def _texts(tokens: Sequence[Token]) -> frozenset[str]:
    return frozenset(str(token) for token in tokens if token.type == "NAME" or token.type in KEYWORDS)


def _given(tokens: Sequence[Token]) -> frozenset[str]:
    """The options that stand before `=`."""
    return frozenset(str(a) for a, b in pairwise(tokens) if b.type == "EQUAL")
