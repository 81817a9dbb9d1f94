"""Runs a plan for a batch of rows. Exactly and differentiably: how an agent writes its segment (`rollout.py`), one pass
over all agents (`walk.py`). Fast, without gradients: `fast`.
"""
