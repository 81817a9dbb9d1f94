"""One look at a model folder before anything runs (`look_at`): config, quantisation, tokenizer, chat template, headers
of the weights. Without torch and transformers."""

from masc.compiler.model_folder.examine import Look
from masc.compiler.model_folder.remember import look_at

__all__ = ["Look", "look_at"]
