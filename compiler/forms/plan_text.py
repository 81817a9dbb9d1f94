r"""The plan as text: stable, complete, and it parses back to an equal plan.

    plan relay(question) -> answer
      model small = "smollm2-135m" revision="main" load=nf4 device="cuda:1"
      agent planner on small
        adapter lora(rank=8, alpha=16, targets=all, dropout=0)
        template depth=3 enable_thinking=false tone="dry"
        system "You plan before you compute."
        user "{question}\nWrite a short plan."
      agent solver on small
        adapter none
        user "{question}"
      agent tutor on small
        adapter as planner
        user "{question}"
      turn planner#1 at 0
        think 10 align=ridge
        keeps cache for critic#1
      turn critic#1 at end(planner#1)
        sees [planner#1]
        keeps cache for solver#1
      turn solver#1 at max(end(critic#1), end(maths#1)+len(critic#1))
        sees [trace(critic#1), maths#1.latents layers=0..9 stop shift=len(critic#1) until=40]
        reads [tutor#1]
        splices [guide#1.latents shape=mlp stop]
        fuses [coach#1 layers=0..9 width=256]
        answer max_tokens=128 temperature=0 top_p=1 seed=0 stop=[] -> answer
      loss answer column=solution reaches planner, critic.kv(29), solver
      train
        data "train.jsonl"
        batch 8

One line a thing; indentation and the spaces between words mean nothing. Texts are JSON strings; in prompts `{name}` is
an input and a brace stands twice. Numbers without a point are read as the field's type.

turn      one activation of an agent. `at`: the position of its first token, `0`, `end(x)` or `max(end(x),
          end(y.latents)+len(z))`; `no gradient`: no loss is behind it
sees      views in order. `.latents`: only the latent positions; `trace(a#1)`: all that `a#1` sees, and its segment;
          `layers=0..9+12..14`: ranges; `stop`: no gradient; `shift=len(a#1)+len(b#1)`: keys rotated by these lengths;
          `until=40`: only in the first 40 steps of training; `gate=kv(a, b)`: as far as this gate is open; `cut`:
          nothing is seen, positions stay
think     `stop`: no gradient passes from a latent step to the one before
reads, splices, fuses
          what its prompt holds of others; `cut`: nothing comes across; `gated`: as far as its gate is open
answer    `-> answer`: the output; nothing: the text goes to other agents alone
keeps     what later turns need of it: its `cache`, the cache of its `prompt`, `hidden` states, `text`, `length`
loss      of an output, or of an activation whose text is supervised; a column that is no word stands in quotes
reaches   `planner`: all of its adapter; `critic.kv(29)`: of layer 29 only keys and values, all of the layers before it
          (-1: the last layer); `map(planner)`: the matrix behind its latent steps; `hidden(a, b)`: the trained link of
          an edge, `fuse(a, b, layers=0..9)`: in these layers; `kv(a, b)`: its gate. Nothing after the word: nothing
adapter   `targets` is one word, or names of projections joined by `+`; options that are true stand as their names
          alone, behind the others; `from "folder"`: what it begins with; `as planner`: that of `planner`, which has
          one of its own
template  variables of the model's chat template, in the order of their names; a number that is not whole has a point
          or an exponent
column    of an input that files of rows have under another name
train     one entry a line; an entry that is not set is left out. `objective`: `supervised`, or `grpo(reward=number,
          group=8, clip=0.2, kl=0.02, updates=1)`
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from masc.compiler.channels import ARRIVALS, PLAIN
from masc.compiler.ir.adapter import adapter_text
from masc.compiler.ir.model import told_text
from masc.compiler.ir.objective import objective_text
from masc.compiler.ir.plan import (
    Across,
    Answer,
    End,
    Gate,
    Keep,
    LatentMap,
    Loss,
    Plan,
    Reach,
    Slot,
    Template,
    Think,
    TraceOf,
    Turn,
    View,
)
from masc.compiler.ir.ranges import layers_text
from masc.compiler.ir.words import NAME, number_text, quote


def print_plan(plan: Plan) -> str:
    """The text of a plan, with a line end after the last line."""
    return "\n".join([_header(plan), *("  " + line for line in _body(plan))]) + "\n"


def print_turns(plan: Plan) -> str:
    """Only the turns and losses: what most people want to see of a plan."""
    return "\n".join(_steps(plan)) + "\n"


def _header(plan: Plan) -> str:
    outputs = f" -> {', '.join(plan.outputs)}" if plan.outputs else ""
    return f"plan {plan.name}({', '.join(plan.inputs)}){outputs}"


def _body(plan: Plan) -> Iterator[str]:
    for model in plan.models:
        yield f"model {model.name} = {quote(model.target)}{model.loading.text}"
    for agent in plan.agents:
        yield f"agent {agent.name} on {agent.model}"
        yield f"  adapter {adapter_text(agent.lora, agent.shares, 'plan')}"
        if agent.variables:
            yield f"  template {told_text(agent.variables)}"
        if agent.system is not None:
            yield f"  system {template_text(agent.system)}"
        yield f"  user {template_text(agent.user)}"
    yield from _steps(plan)
    for name, column in plan.columns:
        yield f"column {name} = {_word(column)}"
    yield "train"
    for field in fields(plan.train):
        value = getattr(plan.train, field.name)
        if value is not None:
            yield f"  {field.name} {_entry(field.name, value)}"


def _entry(name: str, value: Any) -> str:
    """The value of a train entry."""
    if name == "objective":
        return objective_text(value)
    if isinstance(value, str):
        return value if name in ("dtype", "checkpoint") else quote(value)
    return number_text(value)


def turn_text(turn: Turn) -> str:
    """One turn, its first line and those below it."""
    return "\n".join(_turn(turn))


def _steps(plan: Plan) -> Iterator[str]:
    for turn in plan.turns:
        yield from _turn(turn)
    yield from map(loss_text, plan.losses)


def _turn(turn: Turn) -> Iterator[str]:
    yield f"turn {turn.activation} at {place_text(turn.at)}" + " no gradient" * (not turn.gradient)
    if turn.sees:
        yield f"  sees [{', '.join(map(view_text, turn.sees))}]"
    for word, kind in ARRIVALS.items():
        if arriving := [arrival.text for arrival in turn.arrives if isinstance(arrival, kind)]:
            yield f"  {word} [{', '.join(arriving)}]"
    if turn.think is not None:
        yield f"  {think_text(turn.think)}"
    if turn.answer is not None:
        yield f"  {answer_text(turn.answer)}"
    yield from (f"  {_keep(keep)}" for keep in turn.keeps)


def think_text(think: Think) -> str:
    return f"think {think.steps} align={think.align}" + " stop" * think.stop


def answer_text(answer: Answer) -> str:
    s = answer.sampling
    sampling = f"max_tokens={s.max_tokens} temperature={number_text(s.temperature)} top_p={number_text(s.top_p)}"
    sampling += f" seed={s.seed} stop=[{', '.join(quote(stop) for stop in s.stop)}]"
    return f"answer {sampling}" + (f" -> {answer.output}" if answer.output else "")


def _keep(keep: Keep) -> str:
    return f"keeps {keep.what} for {', '.join(keep.to)}"


def loss_text(loss: Loss) -> str:
    reaches = ", ".join(reach_text(reach) for reach in loss.reaches)
    return f"loss {loss.output} column={_word(loss.column)} reaches {reaches}".rstrip()


def view_text(view: View | TraceOf) -> str:
    """One view as it stands in `sees [...]`."""
    name = view.segment
    words = [f"trace({name})" if isinstance(view, TraceOf) else name if view.part == "all" else f"{name}.latents"]
    if view.layers is not None:
        words.append(layers_text(view.layers))
    if view.stop:
        words.append("stop")
    if view.shift:
        words.append("shift=" + "+".join(f"len({segment})" for segment in view.shift))
    if view.until is not None:
        words.append(f"until={view.until}")
    if view.gates:
        words.append("gate=" + "+".join(map(gate_text, view.gates)))
    if view.cut:
        words.append("cut")
    return " ".join(words)


def gate_text(gate: Gate) -> str:
    """What the gate of an edge by which keys and values are seen is called: `kv(a, b)`."""
    return reach_text(Across(PLAIN.kind, *gate))


def reach_text(reach: Reach | LatentMap | Across) -> str:
    if isinstance(reach, Across):
        where = "" if reach.layers is None else f", {layers_text(reach.layers)}"
        return f"{reach.edge}({reach.sender}, {reach.receiver}{where})"
    if isinstance(reach, LatentMap):
        return f"map({reach.agent})"
    return reach.agent if reach.layer is None else f"{reach.agent}.kv({reach.layer})"


def place_text(ends: tuple[End, ...]) -> str:
    shown = [
        f"end({end.segment}{'' if end.part == 'all' else '.latents'})" + "".join(f"+len({s})" for s in end.shift)
        for end in ends
    ]
    return "0" if not shown else shown[0] if len(shown) == 1 else f"max({', '.join(shown)})"


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
