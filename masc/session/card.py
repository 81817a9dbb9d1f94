"""The model card of a pushed artifact: `README.md`, as the Hugging Face hub reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from masc.compiler.artifact import Artifact, base_of, portable
from masc.compiler.files.reading import read_regular
from masc.compiler.ir.adapter import adapter_text
from masc.compiler.ir.graph import Graph
from masc.compiler.models.locate import Location, locate_model
from masc.compiler.models.registry import REGISTRY
from masc.version import __version__

CARD, PICTURE = "README.md", "graph.svg"
_MOST = 1 << 20  # bytes of the largest card of a base model that is read
_WORDS = {
    "eval_accuracy": "accuracy",
    "eval_loss": "loss (nats a token)",
    "eval_gold_perplexity": "perplexity of the gold answers",
    "eval_decoded_perplexity": "perplexity of the decoded answers",
    "eval_items": "rows",
}
Licence = dict[str, str]


def card(artifact: Artifact, graph: Graph, repository: str) -> str:
    """Markdown with a YAML head: bases and their licence, the graph, agents, training, results, how to load it."""
    places = [(model, locate_model(model.target, base_of(artifact))) for model in graph.models]
    named = f"{repository.rpartition('/')[2].removesuffix('.masc')}.masc"
    inputs = " ".join(f'--input {name}="..."' for name in graph.inputs)
    parts = [
        f"# {graph.name}",
        "A team of language-model agents that talk in latent space, made with masc "
        f"{__version__}. Its program is [`{artifact.manifest.source}`]({artifact.manifest.source}).",
        f"![the graph]({PICTURE})",
        "## Agents",
        _table(("agent", "on", "latent steps", "adapter"), _agents(graph)),
        "## Base models",
        "They are not in this repository.",
        _table(("name", "model", "licence"), [_base(m.name, m.target, place) for m, place in places]),
        "## Training",
        _training(artifact),
        *_results(artifact),
        "## Use",
        f"```sh\nmasc pull {repository}\nmasc run {named} {inputs}\n```",
        f'```python\nimport masc\n\nprogram = masc.load("{named}")\n```',
    ]
    head = yaml.safe_dump(_head([place for _, place in places]), sort_keys=False, allow_unicode=True)
    return f"---\n{head}---\n\n" + "\n\n".join(parts) + "\n"


def _head(places: Sequence[Location | None]) -> dict[str, Any]:
    head: dict[str, Any] = {"library_name": "masc", "tags": ["masc", "multi-agent", "latent-communication"]}
    on_hub = list(dict.fromkeys(place.target for place in places if place is not None and place.kind == "hub"))
    if on_hub:
        head |= {"base_model": on_hub, "base_model_relation": "adapter"}
    licences = [licence_of(place) for place in places]
    # Bases under several licences, or under one that nobody knows: the table says so, and the head says nothing.
    if licences and licences[0] is not None and all(each == licences[0] for each in licences):
        head |= licences[0]
    return head


def licence_of(place: Location | None) -> Licence | None:
    """The entries of a card that say a base's licence: of the registry, else of the card in the base's own folder.
    None: nothing says it."""
    if place is None:
        return None
    if place.kind == "registry":
        entry = REGISTRY[place.target]
        if entry.terms is None:
            return {"license": entry.licence.lower()}
        return {
            "license": "other",
            "license_name": entry.licence.lower().replace(" ", "-"),
            "license_link": entry.terms,
        }
    if place.folder is None:
        return None
    try:
        _, head, _ = read_regular(place.folder / CARD, _MOST).decode("utf-8").split("---\n", 2)
        found = yaml.safe_load(head)
    except (OSError, ValueError, yaml.YAMLError):
        return None
    names = ("license", "license_name", "license_link")
    said = {name: found[name] for name in names if isinstance(found.get(name), str)} if isinstance(found, dict) else {}
    return said if "license" in said else None


def _base(name: str, target: str, place: Location | None) -> tuple[str, str, str]:
    shown = f"`{target}`"
    if place is not None and place.kind == "hub":
        shown = f"[{target}](https://huggingface.co/{target})"
    elif place is None or place.kind == "local":
        shown = f"a folder `{Path(target).name}` of those who made it"
    licence = licence_of(place) or {}
    words = licence.get("license_name", licence.get("license", "not known"))
    return name, shown, f"[{words}]({licence['license_link']})" if "license_link" in licence else words


def _agents(graph: Graph) -> Iterator[tuple[str, ...]]:
    for agent in graph.agents:
        yield agent.name, agent.model, str(agent.steps), adapter_text(agent.lora, agent.shares, "graph")


def _training(artifact: Artifact) -> str:
    training = portable(artifact.manifest).training
    if not artifact.manifest.trained:
        return "It is not trained: its adapters begin with the seed of its manifest."
    if training is None:
        return "How it was trained is not known."
    rows = f"On {training.rows} rows" + (f" of `{training.data}`" if training.data else "")
    began = f", beginning with the adapters of `{training.init_from}`" if training.init_from else ""
    return f"{rows}{began}.\n\n" + _table(("setting", "value"), training.settings)


def _results(artifact: Artifact) -> Iterator[str]:
    """What the last evaluation during training found, as `metrics.jsonl` has it."""
    if not artifact.manifest.trained:
        return
    try:
        lines = artifact.layout.metrics.read_text(encoding="utf-8").splitlines()
        found = [line for line in map(_object, lines) if any(name.startswith("eval_") for name in line)]
    except (OSError, ValueError):
        return
    if found:
        last = found[-1]
        figures = [
            (words, f"{last[name]:.4g}") for name, words in _WORDS.items() if isinstance(last.get(name), int | float)
        ]
        yield "## Results"
        yield f"After step {last.get('step')} of training, on the rows held out for evaluation:"
        yield _table(("figure", "value"), figures)


def _object(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:  # a last line that a kill cut off
        return {}
    return found if isinstance(found, dict) else {}


def _table(head: Sequence[str], rows: Any) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
