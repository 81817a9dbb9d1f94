"""Syntax tree to graph to plan: one file a pass. Never imports torch."""
