"""Runs a plan for a batch of rows, differentiably: which columns of whom an agent sees, how it writes its own
(`rollout.py`), one pass over all agents (`walk.py`).
"""
