"""`plan.json`: the plan as JSON, for other programs. Strict: what is read back is an equal plan or an error.

A dataclass is an object of its fields; where several kinds may stand (operations, the parts of a prompt), `kind` says
which.
"""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, ForwardRef, Literal, Union, get_args, get_origin, get_type_hints

from masc.compiler.analysis.verify_plan import contradiction
from masc.compiler.channels import ARRIVALS
from masc.compiler.files.reading import parse_json
from masc.compiler.ir import plan as plan_module
from masc.compiler.ir.arrival import Arrival
from masc.compiler.ir.model import Loading
from masc.compiler.ir.plan import Plan
from masc.compiler.language.objectives import SUPERVISED
from masc.dsl.diagnostics import fail

FORMAT = 5
_BEFORE = (3, 4)
"""3: without what models are loaded with, and what chat templates are told; both without an objective."""
_HINT = "compile the program again with this version of masc"


def dump_plan(plan: Plan) -> str:
    return json.dumps({"format": FORMAT, "plan": _encode(plan)}, indent=1) + "\n"


def load_plan(text: str, path: str = "plan.json") -> Plan:
    """The plan in a JSON text, verified. Raises MascError (E0511, E0512, E0521)."""
    plan = decode_plan(text, path)
    if (promise := contradiction(plan)) is not None:
        raise fail("E0521", f"`{path}` contradicts itself: it is not so that {promise}", hint=_HINT)
    return plan


def decode_plan(text: str, path: str = "plan.json") -> Plan:
    """The plan in a JSON text as it stands there, which may make no sense. Raises MascError (E0511, E0512)."""
    try:
        data = parse_json(text, unique=True)
    except ValueError as error:
        raise fail("E0511", f"`{path}` is not JSON: {error}") from None
    if not isinstance(data, dict) or "format" not in data:
        raise fail("E0511", f"`{path}` is not a plan: it says no `format`")
    if type(data["format"]) is not int or data["format"] not in (*_BEFORE, FORMAT):
        raise fail(
            "E0512", f"`{path}` has format {_short(data['format'])}, and this version reads {FORMAT}", hint=_HINT
        )
    try:
        if data["format"] in _BEFORE:
            _bring_up(data["plan"])
        plan = _decode(Plan, data.get("plan"), "plan")
    except (KeyError, AttributeError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise fail("E0511", f"`{path}` is not a plan: {error}") from None
    assert isinstance(plan, Plan)
    return plan


def _bring_up(plan: Any) -> None:
    """Put what a plan of a format before does not hold into its JSON: the defaults."""
    for name, key, default in (("models", "loading", _encode(Loading())), ("agents", "variables", [])):
        for each in plan[name]:
            each.setdefault(key, default)
    plan["train"].setdefault("objective", SUPERVISED)


def _short(value: Any) -> str:
    """What stands somewhere, for a message: a file may hold anything of any length."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # ValueError: a whole number of too many digits
        return "something else"
    return text if len(text) <= 60 else text[:57] + "..."


def _encode(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        body = {field.name: _encode(getattr(value, field.name)) for field in fields(value)}
        return {"kind": type(value).__name__.lower()} | body
    return [_encode(item) for item in value] if isinstance(value, tuple) else value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _decode(wanted: Any, value: Any, where: str) -> Any:
    if isinstance(wanted, str | ForwardRef):  # inside the alias Template
        wanted = eval(wanted if isinstance(wanted, str) else wanted.__forward_arg__, vars(plan_module))
    origin, args = get_origin(wanted), get_args(wanted)
    if origin in (Union, UnionType):
        return _union(args, value, where)
    if origin is Literal:
        if value not in args or isinstance(value, bool):
            raise ValueError(f"{where} is {_short(value)}, not one of {', '.join(map(str, args))}")
        return value
    if origin is tuple:
        if not isinstance(value, list) or (args[-1] is not Ellipsis and len(value) != len(args)):
            raise TypeError(f"{where} is not a list of the right length")
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else args
        return tuple(_decode(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
    if wanted is Arrival:
        return _union(tuple(ARRIVALS.values()), value, where)
    if is_dataclass(wanted) and isinstance(wanted, type):
        return _object(wanted, value, where)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not wanted:
        raise TypeError(f"{where} is {_short(value)}, not of type {wanted.__name__}")
    return value


def _union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and NoneType in kinds:
        return None
    kinds = tuple(kind for kind in kinds if kind is not NoneType)
    if isinstance(value, dict):
        named = [kind for kind in kinds if isinstance(kind, type) and kind.__name__.lower() == value.get("kind")]
        if not named:
            raise ValueError(f"{where} has the unknown kind {_short(value.get('kind'))}")
        return _decode(named[0], value, where)
    plain = [kind for kind in kinds if not is_dataclass(kind)]
    if not plain:
        raise TypeError(f"{where} is {_short(value)}, not an object")
    return _decode(type(value) if type(value) in plain else plain[0], value, where)


def _object(wanted: type, value: Any, where: str) -> Any:
    names = [field.name for field in fields(wanted)]
    if not isinstance(value, dict) or value.get("kind") != wanted.__name__.lower():
        raise TypeError(f"{where} is not an object of kind {wanted.__name__.lower()}")
    if set(value) - {"kind"} != set(names):
        wrong = sorted(set(value) - {"kind"} ^ set(names))
        raise ValueError(f"{where} has missing or unknown fields: {_short(', '.join(wrong))}")
    return wanted(**{name: _decode(_hints(wanted)[name], value[name], f"{where}.{name}") for name in names})
