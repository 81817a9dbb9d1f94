"""An agent as hover shows it: its prompt as resolved, what it sees, what of it is trained, how long its prompt is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from masc.compiler.analysis.reach import with_reach
from masc.compiler.forms.plan_text import view_text
from masc.compiler.ir.adapter import adapter_text
from masc.compiler.ir.graph import Agent, Graph
from masc.compiler.ir.model import Loading
from masc.compiler.ir.plan import Plan, Reach, Slot, Template, Turn
from masc.compiler.language.alignments import ALIGNMENTS
from masc.compiler.language.models import LOADS
from masc.compiler.models.facts import ModelFacts
from masc.compiler.models.locate import locate_model
from masc.compiler.models.size import linears, lora_size

MOST_ROUNDS = 6


def describe_agent(
    agent: Agent, target: str | None, base: Path, facts: ModelFacts | None, graph: Graph | None, plan: Plan | None
) -> str:
    """Markdown. `target`: of its model (None: unknown); `base`: the folder that it is relative to; `graph` and `plan`:
    of the program that it is in, as far as there is one."""
    folder = _folder(target, base) if target else None
    where = f" ({target})" if target and target != agent.model else ""
    lines = [f"**agent `{agent.name}`** on `{agent.model}`{where}", *_prompts(agent)]
    facts_about = [*_length(agent, folder), _latents(agent), _trained(agent, folder, facts, plan)]
    if agent.answer is not None:
        facts_about.append(f"Answers with up to {agent.answer.max_tokens} tokens.")
    lines += [fact for fact in facts_about if fact]
    if plan is not None:
        lines.append(_seen(agent.name, plan))
    elif graph is not None:
        lines.append("What it sees is known once the program has no errors.")
    return "\n\n".join(lines)


def fence(text: str) -> str:
    """A text as a block of code, whatever backticks are in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    marks = "`" * max(3, longest + 1)
    return f"{marks}text\n{text}\n{marks}"


def plain(template: Template) -> str:
    """A prompt as somebody reads it: placeholders in braces."""
    return "".join(f"{{{part.name}}}" if isinstance(part, Slot) else part for part in template)


def _prompts(agent: Agent) -> Iterator[str]:
    for role, template in (("system", agent.system), ("user", agent.user)):
        if template:
            yield f"*{role}*\n{fence(plain(template))}"


def _length(agent: Agent, folder: Path | None) -> Iterator[str]:
    pieces = [part for part in (*(agent.system or ()), *agent.user) if isinstance(part, str)]
    names = [part.name for part in (*(agent.system or ()), *agent.user) if isinstance(part, Slot)]
    without = f", without {', '.join(f'`{name}`' for name in dict.fromkeys(names))}" if names else ""
    count = tokens_of(folder, pieces) if folder else None
    if count is not None:
        yield f"Prompt: {_tokens(count)} of the model's tokenizer{without} and the chat template."
    elif pieces:
        estimate = _tokens(-(-sum(map(len, pieces)) // 4))
        yield f"Prompt: about {estimate} (an estimate: four characters each){without} and the chat template."


def _tokens(count: int) -> str:
    return f"{count} token{'s' if count != 1 else ''}"


def tokens_of(folder: Path, pieces: list[str]) -> int | None:
    """How many tokens some texts are for the tokenizer in a model's folder; None where that cannot be said."""
    path = folder / "tokenizer.json"
    try:
        tokenizer = _tokenizer(str(path), path.stat().st_mtime_ns)
        return sum(len(tokenizer.encode(piece, add_special_tokens=False).ids) for piece in pieces)
    except Exception:  # the file is missing or broken, or the library: tokenizers raises bare Exceptions
        return None


@lru_cache(maxsize=4)
def _tokenizer(path: str, changed: int) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(path)


def _latents(agent: Agent) -> str:
    if not agent.steps:
        return ""
    return f"Thinks {agent.steps} latent step{'s' if agent.steps > 1 else ''} (`align = {agent.align}`)."


def _trained(agent: Agent, folder: Path | None, facts: ModelFacts | None, plan: Plan | None) -> str:
    linear = facts.hidden**2 if facts and agent.steps and ALIGNMENTS[agent.align].trained else 0
    shapes = linears(folder, facts) if folder and facts else None
    if agent.lora is None:
        return f"Trains its align matrix: {linear:,} parameters." if linear else "Trains nothing: `adapt none`."
    what = adapter_text(agent.lora, None, "hover")
    if shapes is None or facts is None:
        return f"Trains {what}; how many parameters is known once the model is on disk."
    size = lora_size(shapes, facts.layers, agent.lora) + linear
    reached = _when_reached(agent, plan)
    what += f", beginning with `{agent.lora.start}`" if agent.lora.start else ""
    shared = f", together with `{agent.shares}`, whose adapter it is" if agent.shares else ""
    return f"Trains {size:,} parameters: {what}{shared}.{reached}"


def _when_reached(agent: Agent, plan: Plan | None) -> str:
    """What to say where no loss reaches an adapter, or one only while a channel is open."""
    name = agent.shares or agent.name
    if plan is None or name in _reached(plan):
        return ""
    opened = name in _reached(with_reach(plan, {}, step=0))
    return " A loss reaches it only while a channel is open." if opened else " No loss reaches it."


def _reached(plan: Plan) -> set[str]:
    return {reach.agent for loss in plan.losses for reach in loss.reaches if isinstance(reach, Reach)}


def _seen(name: str, plan: Plan) -> str:
    """What each activation of an agent has before it, in the plan's words."""
    turns = [turn for turn in plan.turns if turn.agent == name]
    if not turns:
        return "It is not in the graph."
    lines = [f"- `{turn.activation}`: {', '.join(_arrivals(turn)) or 'nothing but its prompt'}" for turn in turns]
    more = [f"- and so on, {len(turns)} rounds in all"] if len(turns) > MOST_ROUNDS else []
    return "\n".join(["Sees:", *lines[:MOST_ROUNDS], *more])


def _arrivals(turn: Turn) -> Iterator[str]:
    yield from (f"`{view_text(view)}`" for view in turn.sees)
    yield from (arrival.seen for arrival in turn.arrives)


def _folder(target: str, base: Path) -> Path | None:
    location = locate_model(target, base)
    return location.folder if location else None


def describe_model(name: str, target: str, loading: Loading, facts: ModelFacts | None) -> str:
    """Markdown for a base model."""
    head = f"**model `{name}`** = `{target}`"
    if loading.load is not None:
        head += f"\n\nIts weights are held {LOADS[loading.load].help}."
    if facts is None:
        return f"{head}\n\nIt is not on disk, or cannot be read: nothing is known about it yet."
    heads = f"{facts.heads} heads over {facts.kv_heads} of keys and values"
    rows = [f"{facts.model_type}, {facts.layers} layers, {facts.hidden} wide, {heads}"]
    rows.append("tied embeddings" if facts.tied else "untied embeddings")
    rows += [f"up to {facts.max_positions:,} positions"] if facts.max_positions else []
    rows += [f"{len(facts.windowed)} layers see {facts.window:,} positions"] if facts.window else []
    rows += (
        [f"its chat template asks for {', '.join(f'`{one}`' for one in facts.variables)}"] if facts.variables else []
    )
    return f"{head}\n\n{'; '.join(rows)}."


def describe_edge(kind: str, about: str, sizes: Mapping[str, int]) -> str:
    """Markdown for a channel: what it is, and what its links hold by the edge's name."""
    lines = [f"`{edge}` trains {size:,} parameters." for edge, size in sizes.items()]
    return "\n\n".join([f"**{kind}**: {about}", *lines])
