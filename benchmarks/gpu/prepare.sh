#!/bin/sh
# What masc needs beyond torch, transformers, accelerate and peft, as wheels in .whl/ at the root of the project, for a
# machine without a network: sh benchmarks/gpu/prepare.sh. They are pure Python: any version of it will do.
set -eu
cd "$(dirname "$0")/../.."
rm -rf .whl
"${PYTHON:-python3}" -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: -d .whl \
    lark rich markdown-it-py mdurl pygments typer click shellingham annotated-doc
ls -l .whl
