"""Many machines: rows and comparisons done by workers of a Ray cluster (`--ray`)."""
