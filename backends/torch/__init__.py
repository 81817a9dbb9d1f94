"""A plan as one differentiable PyTorch module: `build.py` makes a `Program` (`program.py`) of a plan, `engine` runs
it.
"""

import warnings

warnings.filterwarnings(
    "ignore", "IProgress not found"
)  # tqdm's, in a notebook without ipywidgets: masc's bars need none
