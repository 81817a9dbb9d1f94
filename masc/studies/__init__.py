"""Experiments with a team: `masc compare` and `masc audit`."""
