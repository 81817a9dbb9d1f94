"""Scoring: does what was said match the gold answer? Nothing here needs a model or torch."""
