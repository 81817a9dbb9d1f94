"""Bytes that a base model holds by way of loading it, and how long that takes.

python benchmarks/loads.py                      # smollm2-135m, all ways, in bfloat16
python benchmarks/loads.py --only nf4 --dtype float32 --model ./folder
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from masc.backends.torch.build import DTYPES
from masc.backends.torch.model.base import Base
from masc.backends.torch.model.fetch import resolve
from masc.backends.torch.model.loading import bytes_of
from masc.compiler.language.models import LOADS


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default="smollm2-135m")
    options.add_argument("--dtype", default="bfloat16", choices=DTYPES, help="of what is not quantised")
    options.add_argument("--only", nargs="*", default=list(LOADS), choices=list(LOADS))
    said = options.parse_args()
    folder = resolve(said.model, Path())
    plain = bytes_of(Base(folder, DTYPES["bfloat16"]).model)
    print(f"{said.model} in bfloat16: {plain:,} bytes")
    for load in said.only:
        began = time.perf_counter()
        base = Base(folder, DTYPES[said.dtype], load)
        own, seconds = bytes_of(base.model), time.perf_counter() - began
        print(
            f"{load} ({base.held}): {own:,} bytes, {own / plain:.3f} of bfloat16, loaded in {seconds:.0f} s", flush=True
        )


if __name__ == "__main__":
    main()
