"""One look at a model folder before anything runs (`look_at`): config, quantisation, tokenizer, chat template, headers
of the weights. Without torch and transformers."""

from masc.compiler.models.folder.examine import Look
from masc.compiler.models.folder.remember import look_at

__all__ = ["Look", "look_at"]
