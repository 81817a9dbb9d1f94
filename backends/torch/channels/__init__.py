"""What crosses each channel, as tensors: segments and how they are seen, and what edges bring into a prompt."""
