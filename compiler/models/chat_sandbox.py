"""The sandbox that chat templates run in: jinja as transformers sets it up, less chance, and with an end to everything
that goes on. (Imported where a template is first used: jinja takes its time.)

jinja's own sandbox lets a template do nothing but compute; it may still compute for ever, for loops in loops multiply.
So each template is rewritten as it is compiled: every run of a loop or macro and every call and filter takes a step of
the Meter, and what they make is measured. Powers and products are refused before they are worked out. Nothing runs
beside the caller, so nothing is left behind. Not bounded is what one filter or method makes at once of texts that are
long already (`replace`, `join`, a width in a format): it costs memory, and is refused after it was made.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Sized
from typing import Any

from jinja2 import meta, nodes, pass_context
from jinja2.environment import Template
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from masc.compiler.models.refusal import RefusalError

STEPS = 100_000
"""Runs of loops and macros, calls and filters in one rendering, in addition to four for each character that a template
is told. For a few messages templates take some hundred."""
SECONDS = 3.0
"""Processor time of one rendering, which takes milliseconds: for steps that are long themselves."""
ROOM = 1_000_000
"""Characters or items that a template may make of its own, in addition to what it is told."""
_METER = " meter"  # no template can name what begins with a blank
_STEP, _HELD = " step", " held"


class Meter:
    """What one rendering has used up. told: characters of all messages."""

    def __init__(self, told: int) -> None:
        self.most = ROOM + 4 * told
        self.steps = STEPS + 4 * told
        self.written = 0
        self.until = time.thread_time() + SECONDS

    def step(self, line: int) -> None:
        """RefusalError where there were too many."""
        self.steps -= 1
        if self.steps < 0:
            raise RefusalError(f"does not come to an end: at line {line} it has taken more than {STEPS:,} steps")
        if time.thread_time() > self.until:
            raise RefusalError(f"does not come to an end: at line {line} it has run for {SECONDS:.0f} seconds")

    def hold(self, value: object, line: int) -> None:
        """RefusalError where a value is too long."""
        if isinstance(value, Sized) and len(value) > self.most:
            raise RefusalError(f"makes too much: at line {line} more than {self.most:,} characters or items at once")

    def write(self, piece: str) -> str:
        """The piece; RefusalError where all pieces together are too long."""
        self.written += len(piece)
        if self.written > self.most:
            raise RefusalError(f"writes too much: more than {self.most:,} characters")
        return piece


@functools.cache
def environment() -> Sandbox:
    """The one that all templates share: it holds nothing of them."""
    return Sandbox()


def compiled(text: str) -> Template:
    """A template that takes steps. jinja's TemplateSyntaxError where the text is none."""
    sandbox = environment()
    tree = _Metered().visit(sandbox.parse(text))
    tree.set_environment(sandbox)
    return Template.from_code(sandbox, sandbox.compile(tree), sandbox.make_globals(None))


def asked(text: str) -> set[str]:
    """The names that a template reads and does not set itself."""
    sandbox = environment()
    return meta.find_undeclared_variables(sandbox.parse(text)) - sandbox.globals.keys()


def rendered(template: Template, variables: dict[str, Any], told: int) -> str:
    """The template's text. Whatever Python raises in it, RefusalError where it goes on for too long."""
    meter = Meter(told)
    return "".join(map(meter.write, template.generate({**variables, _METER: meter})))


class Sandbox(ImmutableSandboxedEnvironment):
    """As in transformers' `utils/chat_template_utils.py`. Nothing is drawn at random."""

    intercepted_binops = frozenset(("*", "**"))

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
        self.filters |= {"tojson": _as_json, "random": _no_chance}
        self.filters = {name: _modest(each) for name, each in self.filters.items()}
        self.filters |= {_STEP: _step, _HELD: _held}
        self.globals |= {"raise_exception": _refuse, "lipsum": _no_chance, "dict": _dict, "namespace": _Inner}

    def call(self, context: Context, function: Any, *args: Any, **named: Any) -> Any:
        """A function that a template calls; `range` has bounds of its own."""
        _small(args, named)
        return super().call(context, function, *args, **named)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """A power or a product, refused before it is worked out."""
        most = context.parent[_METER].most
        if operator == "**":
            if isinstance(left, int) and isinstance(right, int) and left.bit_length() * right > 4096:
                raise TemplateError("a power has more than a thousand digits")
        elif operator == "*":
            for many, count in ((left, right), (right, left)):
                if isinstance(many, Sized) and isinstance(count, int) and len(many) * count > most:
                    raise RefusalError(f"makes too much: more than {most:,} characters or items at once")
                if isinstance(many, int) and many.bit_length() > 4096:
                    raise TemplateError("a number has more than a thousand digits")
        return super().call_binop(context, operator, left, right)


class _Metered(NodeTransformer):
    """Puts steps into a template's tree."""

    def visit(self, node: nodes.Node, *args: Any, **named: Any) -> Any:
        if isinstance(node, nodes.CallBlock):  # jinja compiles its call itself, which must stay one
            self.generic_visit(node.call)
            for field in ("args", "defaults", "body"):
                setattr(node, field, [self.visit(each) for each in getattr(node, field)])
            return _stepping(node)
        self.generic_visit(node)
        match node:
            case nodes.For():
                if node.test is not None:  # it is asked before the body is run
                    node.test = nodes.And(_true(node.lineno), node.test, lineno=node.lineno)
                return _stepping(node)
            case nodes.Macro():
                return _stepping(node)
            case nodes.AssignBlock():
                node.filter = _filtered(_HELD, node.filter, node.lineno)
            case nodes.Call() | nodes.Filter() | nodes.Concat() | nodes.Add():
                return _filtered(_HELD, node, node.lineno)
        return node


def _stepping(node: Any) -> nodes.Node:
    node.body = [nodes.ExprStmt(_true(node.lineno), lineno=node.lineno), *node.body]
    return node  # type: ignore[no-any-return]


def _true(line: int) -> nodes.Filter:
    """What is true, and a step."""
    return _filtered(_STEP, nodes.Const(True), line)


def _filtered(name: str, value: Any, line: int) -> nodes.Filter:
    return nodes.Filter(value, name, [nodes.Const(line)], [], None, None, lineno=line)


@pass_context
def _step(context: Context, value: object, line: int) -> object:
    context.parent[_METER].step(line)
    return value


@pass_context
def _held(context: Context, value: object, line: int) -> object:
    meter: Meter = context.parent[_METER]
    meter.step(line)
    meter.hold(value, line)
    return value


def _modest(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that takes no great numbers, which would be widths and counts."""

    told = 2 if hasattr(function, "jinja_pass_arg") else 1  # jinja's own argument and what is filtered

    @functools.wraps(function)
    def filtered(*args: Any, **named: Any) -> Any:
        _small(args[told:], named)
        return function(*args, **named)

    return filtered


def _small(args: tuple[Any, ...], named: dict[str, Any]) -> None:
    if any(isinstance(each, int) and abs(each) > ROOM for each in (*args, *named.values())):
        raise TemplateError(f"it asks for a number beyond {ROOM:,}")


class _Generation(Extension):
    """`{% generation %}` marks what an assistant says: nothing to a prompt."""

    tags = {"generation"}  # noqa: RUF012 - jinja's own name for it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _refuse(message: object = "") -> None:
    raise TemplateError(str(message))


def _no_chance(*_: object, **__: object) -> None:
    raise TemplateError("it draws at random, so that no two prompts would be the same")


def _as_json(item: object, ensure_ascii: bool = False, **options: Any) -> str:
    return json.dumps(item, ensure_ascii=ensure_ascii, **options)


def _dict(*pairs: Any, **named: Any) -> dict[Any, Any]:
    return dict(*pairs, **named)


class _Inner(Namespace):
    """As in transformers: no way from it to what Python keeps behind underscores."""

    def __init__(self, **values: object) -> None:
        for name in values:
            _plain_name(name)
        super().__init__(**values)

    def __setitem__(self, name: str, value: object) -> None:
        super().__setitem__(_plain_name(name), value)


def _plain_name(name: str) -> str:
    if str(name).startswith("_"):
        raise ValueError(f"the name {name!r} may not be set")
    return name
