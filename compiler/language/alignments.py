"""The alignments: `think 10 (align = ...)`. Each is declared here, and computed in `backends/torch/model/align.py`."""

from __future__ import annotations

from collections.abc import Mapping

from masc.compiler.language.declare import Alignment, Note

ALIGNMENTS: Mapping[str, Alignment] = {
    alignment.name: alignment
    for alignment in (
        Alignment(
            "norm",
            help="scaled to the embeddings' norm",
            means="h itself (LatentMAS, arXiv 2511.20639); the default",
        ),
        Alignment(
            "ridge",
            help="through the ridge map from output to input embeddings",
            means="h through the map from output to input embeddings that fits best",
            suits="models that do not tie the two",
            applies="matrix",
            tied=Note(
                "I0502",
                "`align = ridge` does nothing for `{agent}`: its model ties its embeddings, so W is the identity",
                "`align = norm` says the same; `align = linear` makes W trainable",
            ),
        ),
        Alignment(
            "linear",
            help="through a trainable matrix",
            means="h through a matrix that is trained and starts at the ridge map",
            suits="the same",
            trained=True,
            applies="matrix",
        ),
        Alignment(
            "procrustes",
            help="through the orthogonal map that fits output to input embeddings best",
            means="h through the orthogonal map from output to input embeddings that fits best (Schönemann 1966): the "
            "angles between hidden states stay",
            suits="models that do not tie the two",
            applies="matrix",
            tied=Note(
                "I0502",
                "`align = procrustes` does nothing for `{agent}`: its model ties its embeddings, so W is the identity",
                "`align = norm` says the same; `align = linear` makes W trainable",
            ),
        ),
        Alignment(
            "soft",
            help="as the mean of all embeddings weighted with their probabilities",
            means="the mean of all embeddings, weighted with the probabilities that the model gives their tokens "
            "(after Soft Thinking, arXiv 2505.15778, unfiltered)",
            suits="a narrow channel (`carry = latents`): where the model is sure, the step is a word that the receiver "
            "can read before any training",
            applies="vocabulary",
        ),
    )
}
"""By name, the default first."""
