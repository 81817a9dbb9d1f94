"""The graph trainer, and what keeps its runs whole."""
