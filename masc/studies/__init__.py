"""Experiments with a team: `masc compare`, `masc audit` and `masc inspect`."""
