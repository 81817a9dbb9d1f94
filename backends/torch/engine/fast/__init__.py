"""The fast engine: a plan run without gradients, rows flowing through its waves, caches in place, adapters folded."""
