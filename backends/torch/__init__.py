"""A plan as one differentiable PyTorch module: `build.py` makes a `Program` (`program.py`) of a plan, `engine` runs
it.
"""
