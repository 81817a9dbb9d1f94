"""`.mas` text to syntax tree, with recovery: one mistake is one message, and what follows it is read all the same.

The driver feeds tokens to Lark's LALR automaton one by one. Where a token does not fit it tries, in this order:

1. a block that was not closed: a declaration begins on this line, so feed the missing `}`;
2. a misspelt keyword: take it as the keyword;
3. a forgotten mark: feed it if the next tokens then fit;
4. give up on this item: unwind to where items stand, feed ERROR, skip to what looks like the next item.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from copy import copy
from dataclasses import replace
from difflib import get_close_matches
from functools import cached_property

from lark import Token, Tree
from lark.exceptions import UnexpectedToken
from lark.parsers.lalr_analysis import Shift
from lark.parsers.lalr_parser_state import ParserState

from masc.dsl.build import Builder
from masc.dsl.comments import Comment, attach
from masc.dsl.diagnostics import Diagnostic, Label, did_you_mean, errors
from masc.dsl.excerpt import Excerpt
from masc.dsl.forms import form_of_line
from masc.dsl.source import Source, Span
from masc.dsl.syntax import File, Statement
from masc.dsl.tokens import FIXED, KEYWORDS, Tokens, grammar, tokenize

VERSION = 1
MOST_ERRORS = 20

# Looks at one line only: nothing that can stand in a block looks so, even where its names are keywords.
_DECLARES = re.compile(
    r'import *"[^"\n]*" *\(|model +\w+ *=|param +\w+ *:|agent +\w+ *(\(|on\b)|graph +\w+ *\(|train *\{', re.ASCII
)
_FORGOTTEN = ("COMMA", "RPAR", "RSQB", "EQUAL", "COLON", "ARROW", "ON", "LBRACE", "LPAR")
_PHRASES = (
    ({"IMPORT", "MODEL", "PARAM", "AGENT", "GRAPH", "TRAIN"}, "a declaration"),
    ({"NAME", "LSQB", "REPEAT"}, "a statement"),
    ({"NAME", "NUMBER", "STRING", "TRUE", "FALSE", "LSQB"}, "a value"),
    ({"NAME"}, "a name"),
    ({"NUMBER"}, "a number"),
    ({"STRING"}, "a string"),
    ({"TRUE", "FALSE"}, "`true` or `false`"),
)


def parse(source: Source) -> tuple[File | None, list[Diagnostic]]:
    """The tree of a `.mas` file and what is wrong with it. After errors it holds what could be read, or is None."""
    return parse_excerpt(Excerpt(source, source.text))


def parse_excerpt(excerpt: Excerpt) -> tuple[File | None, list[Diagnostic]]:
    """The same of a text that stands in a source in another form."""
    tokens = tokenize(excerpt)
    if tokens.unreadable:
        return None, list(tokens.diagnostics)
    run = _Run(excerpt, tokens, "file")
    tree = run.parse(run.version())
    builder = Builder(excerpt)
    file = builder.file(tree)
    swallowed = _place(tokens.tokens[-2])[0] if tokens.open_string else len(excerpt.text)
    built = [d for d in builder.diagnostics if d.span is None or d.span.start < swallowed]
    diagnostics = _in_order([*run.hinted(tokens), *run.diagnostics, *built])
    if errors(diagnostics) and not file.declarations:
        return None, diagnostics
    return attach(file, tokens.comments), diagnostics


def parse_statements(excerpt: Excerpt) -> tuple[tuple[Statement, ...], tuple[Comment, ...], list[Diagnostic]]:
    """The statements of a graph in a text that holds nothing else (a YAML scalar), and the comments among them."""
    tokens = tokenize(excerpt)
    if tokens.unreadable:
        return (), tokens.comments, list(tokens.diagnostics)
    run = _Run(excerpt, tokens, "body")
    builder = Builder(excerpt)
    statements = builder.body(run.parse(0))
    return statements, tokens.comments, _in_order([*run.hinted(tokens), *run.diagnostics, *builder.diagnostics])


def _in_order(diagnostics: list[Diagnostic]) -> list[Diagnostic]:
    """By place; on a line with a stray character only the first one counts, what does not fit there follows from it."""
    ordered = sorted(dict.fromkeys(diagnostics), key=lambda d: d.span.start if d.span else 0)
    spoiled: dict[int, Diagnostic] = {}
    for d in ordered:
        if d.span and d.code == "E0110":
            spoiled.setdefault(d.span.line, d)
    return [d for d in ordered if d.code not in ("E0103", "E0110") or not d.span or spoiled.get(d.span.line, d) is d]


def _alike(token: str, words: list[str]) -> list[str]:
    """The keyword that a word is a misspelling of, if any: not one of quite another length (`temperature`)."""
    near = get_close_matches(token, words, n=1)
    return [word for word in near if abs(len(word) - len(token)) <= 2 or token.startswith(word)]


class _Run:
    """One pass over the tokens of a text."""

    def __init__(self, excerpt: Excerpt, tokens: Tokens, start: str) -> None:
        self.excerpt = excerpt
        self.tokens = tokens.tokens
        self.base = "graph" if start == "body" else ""  # what the text is a part of
        self.parenthesis_fed = False
        self.open_string = tokens.open_string
        self.diagnostics: list[Diagnostic] = []
        self.state: ParserState[int] = grammar().parse_interactive(start=start).parser_state
        self.open: list[Token] = []  # the braces that are open
        self.choices_before: Iterable[str] = ()  # kinds of tokens that would have fitted instead of the last one

    def version(self) -> int:
        """Read the version line; return the position after it. The automaton always gets one."""
        first, second, *_ = (*self.tokens, self.tokens[-1])
        length, complaint = 2, None  # how many tokens the line has, and what is wrong with it
        if first.type == "MAS" and second.type == "NUMBER":
            if second != str(VERSION):
                hint = f"this masc reads version {VERSION}: write `mas {VERSION}`"
                message = f"version {second[:20]} of the language is unknown"
                complaint = Diagnostic("E0102", message, self._span(second), hint=hint)
        else:
            length = 2 if first.type == "NAME" and second.type == "NUMBER" else int(first.type == "MAS")
            if first.type == "MAS" or re.fullmatch(r"masc?\d*|version", first):
                length = next(i for i, t in enumerate(self.tokens) if i and self._ends_version(first, t))
            near = did_you_mean(first, ["mas"]) if length else None
            hint = near or f"write `mas {VERSION}` on the first line"
            complaint = Diagnostic("E0101", "the version line is missing", self._span(first), hint=hint)
        self.diagnostics += [complaint] if complaint else []
        for kind, token, text in (("MAS", first, "mas"), ("NUMBER", second if length == 2 else first, str(VERSION))):
            start, end = _place(token)
            self.state.feed_token(Token(kind, text, start_pos=start, end_pos=end if length else start))
        return length

    def _ends_version(self, first: Token, token: Token) -> bool:
        """Whether a token belongs to the version line no more."""
        between = self.excerpt.text[_place(first)[0] : _place(token)[0]]
        return token.type == "$END" or token.type in KEYWORDS or "\n" in between

    def parse(self, position: int) -> Tree[Token]:
        """The whole text from a position on. ERROR tokens stand in the tree where items could not be read."""
        stuck = -1
        while True:
            token = self.tokens[position]
            if self._feed(token):
                if token.type == "$END":
                    tree: Tree[Token] = self.state.value_stack[-1]
                    return tree
                position += 1
                continue
            if len(self.diagnostics) >= MOST_ERRORS:
                position = len(self.tokens) - 1
            elif position == stuck:
                position += token.type != "$END"
            stuck = position
            position = self._recover(position)

    # feeding

    def _feed(self, token: Token) -> bool:
        """Feed a token, a keyword as a NAME where the grammar takes none; say whether it fitted."""
        choices = self.state.parse_conf.states[self.state.position]
        kind = _kind(self.state, token)
        if kind != token.type and self._declares(token):
            return False
        fed = token if kind == token.type else Token.new_borrow_pos(kind, str(token), token)
        if kind == "$END":
            if not _fits(self.state, [token]):
                return False
            tree = self.state.feed_token(fed, is_end=True)
            self.state.value_stack[-1] = tree
            return True
        try:
            self.state.feed_token(fed)
        except UnexpectedToken:
            return False
        self.choices_before = choices
        if kind == "LBRACE":
            self.open.append(token)
        elif kind == "RBRACE":
            self.open.pop()
        return True

    def _expected(self) -> set[str]:
        choices = self.state.parse_conf.states[self.state.position]
        return {
            kind
            for kind in choices
            if kind.lstrip("$").isupper() and kind != "ERROR" and _fits(self.state, [Token(kind, "")])
        }

    # recovering

    def _recover(self, position: int) -> int:
        """Report the token that does not fit and bring the automaton to where parsing can go on; return from where."""
        token = self.tokens[position]
        expected = self._expected()
        if token.type == "$END" or (self.open and self._declares(token) and "RBRACE" in expected):
            return self._unclosed(position, expected)
        if token.type == "$END" or self._declares(token):
            self._report_unexpected(position, expected)
            self._unwind(position)
            while self.open and self._declares(token):
                self._close()
            return position
        words = sorted(KEYWORDS[kind] for kind in expected if kind in KEYWORDS)
        near = _alike(token, words) if token.type == "NAME" or token.type in KEYWORDS else []
        if near:
            self._report("E0104", f"unknown keyword `{token}`", token, did_you_mean(token, near))
            self._feed(Token.new_borrow_pos(near[0].upper(), near[0], token))
            return position + 1
        ahead = [each for each in self.tokens[position : position + 3] if each.type != "$END"]
        for kind in _FORGOTTEN:
            if kind in expected and _fits(self.state, [Token(kind, ""), *ahead]):
                mark = FIXED[kind]
                if not (kind == "RPAR" and self.parenthesis_fed):  # the one that opens was missing: that has been said
                    hint = form_of_line(*self._line(position, expected)) if kind == "LPAR" else None
                    self._report("E0103", f"`{mark}` is missing before {_quoted(token)}", token, hint)
                self.parenthesis_fed = kind == "LPAR"
                start, _ = _place(token)
                self._feed(Token(kind, mark, start_pos=start, end_pos=start))
                return position
        self._report_unexpected(position, expected)
        self._unwind(position)
        return self._skip(position)

    def _unclosed(self, position: int, expected: set[str]) -> int:
        """The text ends, or the next declaration begins, where something is still to come."""
        token = self.tokens[position]
        where = "the file ends" if token.type == "$END" else f"`{token}` begins"
        complete = not self.open or "RBRACE" in expected
        wanted = "`}` is" if self.open and complete else f"{_phrase(expected)} is"
        if not (self.open_string and token.type == "$END"):
            labels = (Label(self._span(self.open[-1]), "this block is open"),) if self.open else ()
            message = f"{where} where {wanted} expected"
            self.diagnostics.append(Diagnostic("E0105", message, self._span(token), labels))
        self._unwind(position)
        while self.open:
            self._close()
        return position

    def _close(self) -> None:
        start, _ = _place(self.tokens[-1])
        if not self._feed(Token("RBRACE", "}", start_pos=start, end_pos=start)):
            raise AssertionError("an unwound block can be closed")

    def _unwind(self, position: int) -> None:
        """Drop what was begun until the automaton is among items again, and feed ERROR as one."""
        state = self.state
        while not _fits(state, [Token("ERROR", "")]):
            state.state_stack.pop()
            state.value_stack.pop()
        start, _ = _place(self.tokens[position])
        self._feed(Token("ERROR", "", start_pos=start, end_pos=start))

    def _skip(self, position: int) -> int:
        """The next position from which it makes sense to go on: a declaration, the next line's item, a `}`."""
        depth = 0
        while (token := self.tokens[position]).type != "$END":
            if self._declares(token) or (depth == 0 and self._begins_item(token)):
                return position
            if token.type == "LBRACE":
                depth += 1
            elif token.type == "RBRACE":
                depth = max(0, depth - 1)
            position += 1
        return position

    def _begins_item(self, token: Token) -> bool:
        if token.type == "RBRACE":
            return bool(self.open)
        choices = self.state.parse_conf.states[self.state.position]
        if token.type in KEYWORDS and token.type in choices:
            return True
        return self._first_on_line(token) and (token.type in choices or (token.type in KEYWORDS and "NAME" in choices))

    def _first_on_line(self, token: Token) -> bool:
        text, (start, _) = self.excerpt.text, _place(token)
        while start and text[start - 1].isspace() and text[start - 1] != "\n":
            start -= 1
        return start == 0 or text[start - 1] == "\n"

    def _declares(self, token: Token) -> bool:
        """Whether a declaration begins here, whatever the automaton waits for."""
        return (
            token.type in KEYWORDS
            and _DECLARES.match(self.excerpt.text, _place(token)[0]) is not None
            and self._first_on_line(token)
        )

    # messages

    def _report_unexpected(self, position: int, expected: set[str]) -> None:
        token, hint = self.tokens[position], None
        before = self.tokens[position - 1] if position else token
        words = sorted(KEYWORDS[kind] for kind in self.choices_before if kind in KEYWORDS)
        if token.type == "MAS":
            hint = f"`mas {VERSION}` stands on the first line and nowhere else"
        elif token.type == "RBRACE" and not self.open:
            hint = "there is no open block here"
        elif before.type == "NAME" and (near := did_you_mean(before, words)):
            self._report("E0104", f"unknown keyword `{before}`", before, near)
            return
        elif token.type == "LPAR" and before.type == "NAME" and "ARROW" in expected:
            hint = f"a channel stands after a colon: `: {before}(...)`"
        elif (token.type in KEYWORDS or token.type in ("TRUE", "FALSE")) and not self._first_on_line(token):
            hint = f"`{token}` is a word of the language here"
        hint = hint or form_of_line(*self._line(position, expected))
        self._report("E0103", f"expected {_phrase(expected)}, found {_quoted(token)}", token, hint)

    def _line(self, position: int, expected: set[str]) -> tuple[str, str]:
        """The line that could not be read, and the block that it is in. A token at the start of a line is not to blame
        where what stands before it is not complete."""
        complete = expected & {"$END", "RBRACE", "AGENT"}
        at = position - 1 if position and not complete and self._first_on_line(self.tokens[position]) else position
        return self.excerpt.line(_place(self.tokens[at])[0]), self.block(_place(self.tokens[at])[0])

    def hinted(self, tokens: Tokens) -> list[Diagnostic]:
        """What was found wrong with the tokens, with a hint for each stray character."""
        strays = {_place(token)[0]: token for token in tokens.strays}
        hints = {at: form_of_line(self.excerpt.line(at), self.block(at)) for at in strays}
        found = {self.excerpt.span(*_place(token)): hints[at] for at, token in strays.items()}
        return [replace(d, hint=d.hint or found.get(d.span)) if d.span else d for d in tokens.diagnostics]

    def block(self, offset: int) -> str:
        """The kind of the block that a place is in, "" outside of all of them."""
        starts, kinds = self._blocks
        return kinds[bisect_right(starts, offset) - 1]

    @cached_property
    def _blocks(self) -> tuple[list[int], list[str]]:
        """Where a block begins or ends, and what stands from there on."""
        starts, kinds = [0], [self.base]
        declared, depth = self.base, 0
        for token in self.tokens:
            kind = kinds[-1]
            if self._declares(token):
                declared, depth, kind = str(token), 0, self.base
            elif token.type == "LBRACE":
                depth, kind = depth + 1, declared
            elif token.type == "RBRACE":
                depth = max(0, depth - 1)
                kind = kind if depth else self.base
            if kind != kinds[-1]:
                starts.append(_place(token)[0])
                kinds.append(kind)
        return starts, kinds

    def _report(self, code: str, message: str, token: Token, hint: str | None = None) -> None:
        self.diagnostics.append(Diagnostic(code, message, self._span(token), hint=hint))

    def _span(self, token: Token) -> Span:
        return self.excerpt.span(*_place(token))


def _try(state: ParserState[int], kind: str) -> ParserState[int] | None:
    """The automaton after one more token, or None where it does not fit. Nothing is built, the state stays as it is."""
    trial = state.copy(deepcopy_values=False)
    trial.parse_conf = copy(state.parse_conf)
    trial.parse_conf.callbacks = {}
    try:
        trial.feed_token(Token(kind, ""), is_end=kind == "$END")
    except UnexpectedToken:
        return None
    return trial


def _kind(state: ParserState[int], token: Token) -> str:
    """What a token is here: a keyword is a NAME where the grammar takes no such keyword."""
    if token.type not in KEYWORDS:
        return token.type
    action, _ = state.parse_conf.states[state.position].get(token.type, (None, None))
    # What can be shifted fits; whether what is reduced before it fits then, only a trial shows.
    fits = action is Shift or (action is not None and _try(state, token.type))
    return token.type if fits else "NAME"


def _fits(state: ParserState[int], tokens: list[Token]) -> bool:
    """Whether the automaton would take these tokens."""
    for token in tokens:
        trial = _try(state, _kind(state, token))
        if not trial:
            return False
        state = trial
    return True


def _place(token: Token) -> tuple[int, int]:
    return token.start_pos or 0, token.end_pos or 0


def _quoted(token: Token) -> str:
    if token.type == "STRING":
        return "a string"
    return "the end" if token.type == "$END" else f"`{token[:40]}`"


def _phrase(expected: set[str]) -> str:
    """What would have fitted, in words: "`->`, `:` or a statement"."""
    rest, words = set(expected) - {"$END"}, []
    for kinds, phrase in _PHRASES:
        if kinds <= rest:
            rest -= kinds
            words.append(phrase)
    words = [f"`{FIXED[kind]}`" for kind in FIXED if kind in rest] + words
    words = words or ["the end"]
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
