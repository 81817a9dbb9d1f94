"""A frozen base model: loading it, prompts to tokens, adapters, the attention mask that hides padding (`attention.py`),
alignment of latent steps (`align.py`).
"""
