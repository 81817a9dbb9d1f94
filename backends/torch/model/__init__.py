"""A frozen base model: loading, adapters, attention, alignment of latent steps, prompts."""
