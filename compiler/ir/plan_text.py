r"""The plan as text: stable, complete, and it parses back to an equal plan.

    plan relay(question) -> answer
      model small = "smollm2-135m"
      agent planner on small
        adapter lora(rank=8, alpha=16, targets=all, dropout=0)
        system "You plan before you compute."
        user "{question}\nWrite a short plan."
      agent solver on small
        adapter none
        user "{question}"
      prefill planner#1 sees [] at 0
      think planner#1 10 align=ridge
      prefill solver#1 sees [planner#1.latents layers=0..9 stop shift=len(maths#1) until=40] reads [tutor#1] splices
        [guide#1.latents shape=mlp stop] fuses [coach#1 layers=0..9 width=256] at end(planner#1)      (on one line)
      answer solver#1 max_tokens=128 temperature=0 top_p=1 seed=0 stop=[] -> answer
      loss answer column=solution reaches planner, critic.kv(29)
      train
        data "train.jsonl"
        batch 8

One line a thing; indentation and the spaces between words mean nothing (the printer aligns operations). Texts are JSON
strings; in prompts `{name}` is an input and a brace stands twice. Numbers without a point are read as the field's type.

sees      views in order. `.latents`: only the latent positions; `layers=0..9+12..14`: ranges; `stop`: no gradient;
          `shift=len(a#1)+len(b#1)`: keys rotated by these lengths; `until=40`: only in the first 40 steps of training
at        `0`, `end(x)` or `max(end(x), end(y.latents)+len(z))`: the position of the first token
think     `stop`: no gradient passes from a latent step to the one before
reads, splices, fuses
          left out where there are none; `cut`: nothing comes across
answer    `-> answer`: the output; nothing: the text goes to other agents alone
loss      of an output, or of an activation whose text is supervised; a column that is no word stands in quotes
reaches   `planner`: all of its adapter; `critic.kv(29)`: of layer 29 only keys and values, all of the layers before it
          (-1: the last layer); `linear(planner)`: the matrix behind its latent steps; `hidden(a, b)`, `fuse(a, b)`: the
          link or fuser of an edge, `fuse(a, b, layers=0..9)`: that of these layers. Nothing after the word: nothing
adapter   `targets` is one word, or names of projections joined by `+`
train     one entry a line; an entry that is not set is left out
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields

from masc.compiler.ir.plan import (
    Across,
    Answer,
    End,
    Fuse,
    LatentMap,
    Lora,
    Loss,
    Operation,
    Plan,
    Prefill,
    Reach,
    Read,
    Slot,
    Splice,
    Template,
    Think,
    View,
)
from masc.compiler.ir.verify_plan import NAME
from masc.dsl.diagnostics import fail

# What JSON may hold but a line of text had better not: controls, line separators, lone surrogates.
_UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def print_plan(plan: Plan) -> str:
    """The text of a plan, with a line end after the last line."""
    return "\n".join([_header(plan), *("  " + line for line in _body(plan))]) + "\n"


def print_operations(plan: Plan) -> str:
    """Only the operations, aligned: what most people want to see of a plan."""
    return "\n".join(_operations(plan.operations)) + "\n"


def _header(plan: Plan) -> str:
    outputs = f" -> {', '.join(plan.outputs)}" if plan.outputs else ""
    return f"plan {plan.name}({', '.join(plan.inputs)}){outputs}"


def _body(plan: Plan) -> Iterator[str]:
    for model in plan.models:
        yield f"model {model.name} = {quote(model.target)}"
    for agent in plan.agents:
        yield f"agent {agent.name} on {agent.model}"
        yield f"  adapter {_lora(agent.lora)}"
        if agent.system is not None:
            yield f"  system {template_text(agent.system)}"
        yield f"  user {template_text(agent.user)}"
    yield from _operations(plan.operations)
    yield "train"
    for field in fields(plan.train):
        value = getattr(plan.train, field.name)
        if value is not None:
            shown = value if field.name in ("dtype", "checkpoint") else quote(value) if isinstance(value, str) else None
            yield f"  {field.name} {number_text(value) if shown is None else shown}"


def _operations(operations: tuple[Operation, ...]) -> Iterator[str]:
    """Three columns (what, whom, how) and for prefills a fourth (where)."""
    rows = [_row(operation) for operation in operations]
    subject = max((len(row[1]) for row in rows), default=0)
    how = max((len(row[2]) for row in rows if len(row) > 3 and len(row[2]) <= 60), default=0)
    for kind, whom, first, *rest in rows:
        line = f"{kind:<7} {whom:<{subject}} "
        yield (line + (f"{first:<{how}} {rest[0]}" if rest else first)).rstrip()


def _row(operation: Operation) -> tuple[str, ...]:
    if isinstance(operation, Prefill):
        words = [f"sees [{', '.join(map(view_text, operation.sees))}]"]
        words += [f"reads [{', '.join(map(_read, operation.reads))}]"] * bool(operation.reads)
        words += [f"splices [{', '.join(map(_splice, operation.splices))}]"] * bool(operation.splices)
        words += [f"fuses [{', '.join(map(_fuse, operation.fuses))}]"] * bool(operation.fuses)
        return "prefill", operation.activation, " ".join(words), f"at {_at(operation.at)}"
    if isinstance(operation, Think):
        return "think", operation.activation, f"{operation.steps} align={operation.align}" + " stop" * operation.stop
    if isinstance(operation, Answer):
        s = operation.sampling
        sampling = f"max_tokens={s.max_tokens} temperature={number_text(s.temperature)} top_p={number_text(s.top_p)}"
        sampling += f" seed={s.seed} stop=[{', '.join(quote(stop) for stop in s.stop)}]"
        output = f" -> {operation.output}" if operation.output else ""
        return "answer", operation.activation, sampling + output
    assert isinstance(operation, Loss)
    reaches = ", ".join(reach_text(reach) for reach in operation.reaches)
    return "loss", operation.output, f"column={_word(operation.column)} reaches {reaches}"


def view_text(view: View) -> str:
    """One view as it stands in `sees [...]`."""
    words = [view.segment if view.part == "all" else f"{view.segment}.latents"]
    if view.layers is not None:
        words.append(_layers(view.layers))
    if view.stop:
        words.append("stop")
    if view.shift:
        words.append("shift=" + "+".join(f"len({segment})" for segment in view.shift))
    if view.until is not None:
        words.append(f"until={view.until}")
    return " ".join(words)


def _layers(layers: tuple[tuple[int, int], ...]) -> str:
    return "layers=" + "+".join(f"{first}..{last}" for first, last in layers)


def _read(read: Read) -> str:
    return f"{read.segment} cut" if read.cut else read.segment


def _splice(splice: Splice) -> str:
    part = ".latents" if splice.part == "latents" else ""
    return f"{splice.segment}{part} shape={splice.shape}" + " stop" * splice.stop + " cut" * splice.cut


def _fuse(fuse: Fuse) -> str:
    layers = f" {_layers(fuse.layers)}" if fuse.layers is not None else ""
    return f"{fuse.segment}{layers} width={fuse.width}" + " stop" * fuse.stop


def reach_text(reach: Reach | LatentMap | Across) -> str:
    if isinstance(reach, Across):
        where = "" if reach.layers is None else f", {_layers(reach.layers)}"
        return f"{reach.edge}({reach.sender}, {reach.receiver}{where})"
    if isinstance(reach, LatentMap):
        return f"linear({reach.agent})"
    return reach.agent if reach.layer is None else f"{reach.agent}.kv({reach.layer})"


def _at(ends: tuple[End, ...]) -> str:
    shown = [
        f"end({end.segment}{'' if end.part == 'all' else '.latents'})" + "".join(f"+len({s})" for s in end.shift)
        for end in ends
    ]
    return "0" if not shown else shown[0] if len(shown) == 1 else f"max({', '.join(shown)})"


def _lora(lora: Lora | None) -> str:
    if lora is None:
        return "none"
    targets, dropout = "+".join(lora.targets), number_text(lora.dropout)
    return f"lora(rank={lora.rank}, alpha={number_text(lora.alpha)}, targets={targets}, dropout={dropout})"


def template_text(template: Template) -> str:
    """A prompt as a JSON string with `{name}` for inputs and braces doubled."""
    return quote(
        "".join(
            f"{{{part.name}}}" if isinstance(part, Slot) else part.replace("{", "{{").replace("}", "}}")
            for part in template
        )
    )


def _word(text: str) -> str:
    """A name as it is, any other text in quotes."""
    return text if NAME.fullmatch(text) else quote(text)


def quote(text: str) -> str:
    """A JSON string on one line; letters of all alphabets stay readable."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(text, ensure_ascii=False))


def number_text(value: float) -> str:
    """The shortest text that reads back as the same number; whole numbers without a point."""
    return repr(value).removesuffix(".0")


def parse_plan(text: str) -> Plan:
    """The plan that a text describes, verified. Raises MascError: E0520 says where it is not a plan, E0521 in what it
    contradicts itself."""
    from masc.compiler.ir.plan_parse import parse
    from masc.compiler.ir.verify_plan import contradiction

    plan = parse(text)
    if (promise := contradiction(plan)) is not None:
        raise fail("E0521", f"the plan contradicts itself: it is not so that {promise}")
    return plan
