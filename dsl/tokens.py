"""The grammar, loaded once, and the tokens of a text. What can be no token is reported here; it stops nothing."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import islice
from pathlib import Path

import lark
from lark import Lark, Token

from masc.dsl.cache import cache_folder
from masc.dsl.comments import Comment
from masc.dsl.diagnostics import Diagnostic, Faults
from masc.dsl.excerpt import Excerpt
from masc.dsl.limits import FAULTS, TOKENS
from masc.dsl.strings import HALF, half_alone, is_closed, is_name

DEEPEST = 64
_WORDS = ("mas", "import", "model", "param", "agent", "on", "system", "user", "think", "adapt", "answer", "graph")
KEYWORDS = {word.upper(): word for word in (*_WORDS, "repeat", "train", "as", "from", "template")}
_MARKS = {
    "LPAR": "(",
    "RPAR": ")",
    "LSQB": "[",
    "RSQB": "]",
    "LBRACE": "{",
    "RBRACE": "}",
    "COMMA": ",",
    "COLON": ":",
    "EQUAL": "=",
    "ARROW": "->",
    "FEEDS": "<-",
    "DOTS": "..",
}
FIXED = KEYWORDS | _MARKS
"""How the tokens look that always look the same."""


@cache
def grammar() -> Lark:
    """The parser. Its tables take 60 ms to build, so they are kept in masc's cache; Lark tells those of another grammar
    (or of another Lark) from these, and builds them anew where the file cannot be read."""
    text = files("masc.dsl").joinpath("grammar.lark").read_text(encoding="utf-8")
    try:
        return build_grammar(text, _tables())
    except OSError:
        return build_grammar(text, None)


def build_grammar(text: str, tables: Path | None) -> Lark:
    """The parser of a grammar. `tables`: the file to keep its tables in."""
    options = {"propagate_positions": True, "maybe_placeholders": False}
    kept = str(tables) if tables is not None else False
    return Lark(text, start=["file", "body"], parser="lalr", lexer="basic", cache=kept, **options)


def _tables() -> Path:
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"grammar-{lark.__version__}-{sys.version_info.major}.{sys.version_info.minor}.tables"


@dataclass(frozen=True)
class Tokens:
    """What a text is made of. The last token is `$END`; `open_string` says that a string swallowed the text's end;
    `unreadable`: there are too many tokens, or brackets too deep in each other, to read on."""

    tokens: tuple[Token, ...]
    comments: tuple[Comment, ...]
    diagnostics: tuple[Diagnostic, ...]
    open_string: bool = False
    unreadable: bool = False
    strays: tuple[Token, ...] = ()


def tokenize(excerpt: Excerpt) -> Tokens:
    """The tokens and comments of a text, for any text."""
    tokens: list[Token] = []
    strays: list[Token] = []
    comments: list[Comment] = []
    # Files are UTF-8 and cannot hold halves of characters; a text that an editor or a program gives can.
    diagnostics = Faults(half_alone(excerpt.span(*half.span())) for half in islice(HALF.finditer(excerpt.text), FAULTS))
    count, depth, end, open_string, too_deep, lists = 0, 0, 0, False, False, 0
    for token in grammar().lex(excerpt.text, dont_ignore=True):
        start, stop = token.start_pos or 0, token.end_pos or 0
        span = excerpt.span(start, stop)
        match token.type:
            case "BLANK":
                continue
            case _ if (count := count + 1) > TOKENS:
                message = f"this file is too long: it has more than {TOKENS:,} words, marks and comments"
                return Tokens((), (), (Diagnostic("E0216", message, span),), unreadable=True)
            case "COMMENT":
                comments.append(Comment(span.start, token[1:].strip()))
                continue
            case "STRAY":
                stray = Diagnostic("E0110", f"`{_shown(token)}` means nothing here", span)
                diagnostics.append(_stray(token, stray, lists > 0))
                strays += [token] if len(strays) < FAULTS else []
                continue
            case "STRING" if not is_closed(token):
                quotes = '"""' if token.startswith('"""') else '"'
                open_string = quotes == '"""'
                width = len(token.split("\n", 1)[0].rstrip("\r"))
                hint = f"close it with `{quotes}`" + ("" if open_string else " on the same line")
                diagnostics.append(
                    Diagnostic("E0106", "this string is not closed", excerpt.span(start, start + width), hint=hint)
                )
            case "NAME" if not is_name(token):
                hint = "a name is made of the letters a to z, digits and `_`"
                diagnostics.append(Diagnostic("E0111", f"`{token}` cannot be a name", span, hint=hint))
            case "LPAR" | "LSQB" | "LBRACE":
                depth += 1
                lists = 0 if token.type == "LBRACE" else lists + 1
                if depth > DEEPEST and not too_deep:
                    too_deep = True
                    diagnostics.append(Diagnostic("E0112", f"brackets are nested more than {DEEPEST} deep", span))
            case "RPAR" | "RSQB" | "RBRACE":
                depth -= 1
                lists = 0 if token.type == "RBRACE" else lists - 1
        tokens.append(token)
        end = stop
    tokens.append(Token("$END", "", start_pos=end, end_pos=end))
    return Tokens(tuple(tokens), tuple(comments), tuple(diagnostics), open_string, too_deep, tuple(strays))


def _shown(token: str) -> str:
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in token[:20])


def _stray(token: str, at: Diagnostic, in_list: bool) -> Diagnostic:
    hints = {
        "'": 'strings stand in double quotes, `"..."`',
        "‘": 'strings stand in double quotes, `"..."`',
        "“": 'strings stand in straight double quotes, `"..."`',
        "”": 'strings stand in straight double quotes, `"..."`',
        ";": "commas stand between options and values" if in_list else "nothing separates statements here",
        "%": "a share is a number: 0.05 is five per cent",
        "/*": "a comment starts with `#`",
        "`": 'strings stand in double quotes, `"..."`',
        "//": "a comment starts with `#`",
        "<": "write `output <- column`",
        "→": "write `->`",
        "←": "write `<-`",
    }
    hint = hints.get(token) or hints.get(token[:1])
    return Diagnostic(at.code, at.message, at.span, hint=hint)
