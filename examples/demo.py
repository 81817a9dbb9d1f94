"""The demo: everything that masc does, on `courier`, through the command alone. `make demo` calls it.

Does the receiver learn codes that only the sender sees, and does it still know them when their channel is cut?
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILE = Path("examples/courier/courier.mas")
TRAIN, TEST = FILE.with_name("train.jsonl"), FILE.with_name("test.jsonl")
OUT = Path("out/demo")
TEAM = OUT / "courier.masc"
BEFORE, AFTER, CUT = 0.05, 0.95, 0.05
"""What the demo promises: at most, at least, at most."""


def masc(*arguments: str | Path) -> None:
    """Run one masc command, shown as one would type it. Where it fails, so does the demo."""
    words = [str(argument) for argument in arguments]
    print(f"\n$ masc {shlex.join(words)}", flush=True)
    done = subprocess.run([Path(sys.executable).with_name("masc"), *words], cwd=ROOT)
    if done.returncode:
        sys.exit(done.returncode)


def accuracy(name: str, *options: str) -> float:
    """Evaluate on the test codes; the numbers also go to a file of that name."""
    out = OUT / f"{name}.json"
    masc("eval", TEAM, "--data", TEST, *options, "--out", out)
    return float(json.loads((ROOT / out).read_text(encoding="utf-8"))["accuracy"])


def main() -> int:
    began = time.monotonic()
    shutil.rmtree(ROOT / OUT, ignore_errors=True)
    (ROOT / OUT).mkdir(parents=True)
    code = json.loads((ROOT / TEST).read_text(encoding="utf-8").splitlines()[0])["code"]

    masc("models", "fetch", "smollm2-135m")
    masc("check", FILE)
    masc("compile", FILE, "-o", TEAM)
    before = accuracy("before")
    masc("train", TEAM, "--data", TRAIN)
    after = accuracy("after")
    cut = accuracy("cut", "--cut", "sender:receiver")
    masc("run", TEAM, "--input", f"code={code}")
    masc("draw", FILE, "-o", OUT / "courier.svg")
    masc("draw", FILE, "-o", OUT / "courier.png")

    print("\ncourier: 200 codes that were never trained on   accuracy")
    for what, share in (("before training", before), ("after training", after), ("after, the channel cut", cut)):
        print(f"  {what:<45} {share:>8.1%}")
    print(f"\nthe trained team  {TEAM}\npictures          {OUT / 'courier.svg'}, {OUT / 'courier.png'}")
    print(f"numbers           {OUT / 'before.json'}, {OUT / 'after.json'}, {OUT / 'cut.json'}")
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    print(f"time              {minutes} min {seconds} s")
    if before > BEFORE or after < AFTER or cut > CUT:
        print(f"\nThis is not as it should be: before and cut at most {BEFORE:.0%}, after at least {AFTER:.0%}.")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
