"""What comes to an agent from others, as tensors."""
