"""A frozen base model: loading it, prompts to tokens, adapters, alignment of latent steps (`align.py`). What agents see
of each other's segments (`segments.py`), and the attention mask that hides padding (`attention.py`).
"""
