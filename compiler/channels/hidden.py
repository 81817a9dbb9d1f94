"""`hidden`: final hidden states, brought into the receiver's embedding space by a trained link."""

from __future__ import annotations

from masc.compiler.channels.common import GRADIENT, nothing_to_carry
from masc.compiler.channels.declare import Channel, EdgeOption, Snippet, Style
from masc.compiler.ir.graph import Edge
from masc.compiler.language.declare import table
from masc.compiler.language.values import word
from masc.compiler.models.facts import ModelFacts


def _parameters(edge: Edge, sender: ModelFacts, receiver: ModelFacts) -> int:
    """Of a matrix, or of two layers beside a skip (`backends/torch/channels/links.py`)."""
    d, e = sender.hidden, receiver.hidden
    return d * e if edge.shape == "linear" else 2 * d * e + e * e + 2 * d + 4 * e


CHANNEL = Channel(
    kind="hidden",
    help="Final hidden states, through a trainable link into the receiver's prompt. Any two models.",
    crosses="final hidden states through a trained link, placed in the receiver's prompt",
    also="hidden_state hidden_states embedding embeddings activations states",
    in_prompt=True,
    links=_parameters,
    check=nothing_to_carry,
    options=table(
        EdgeOption(
            "carry",
            word("latents", "own"),
            "Which hidden states: of the latent positions, or of the prompt's before them too",
            "latents",
        ),
        EdgeOption(
            "link",
            word("linear", "mlp"),
            "The trainable link: a matrix, or two layers beside a skip",
            "linear",
            field="shape",
            label=lambda shape: f"{shape} link",
            always=True,
        ),
        GRADIENT,
    ),
    styles={"": Style("hidden", "hidden states through a link", "dashed", 2.5, 1.5, ("#1b7f5c", "#46c096"))},
    snippets=(
        Snippet("Hidden edge", "hidden", "hidden(link = ${3|linear,mlp|})", "Hidden states through a trained link"),
    ),
)
