"""Experiments with a team: compare, audit."""
