"""Plan to a differentiable, trainable, runnable module."""
