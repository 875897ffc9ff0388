#!/usr/bin/env bash
# All commands behind nnit/mnist, in order, with their seeds: two to three hours on two CPU cores.
# `data` is where MNIST is, or is downloaded to. If interrupted, run the script again: every stage resumes where it
# stopped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH="$PWD/.venv/bin:$PATH" # the environment of `make setup`, if it exists

# 1. All stages of training, then evaluation, pictures and model card, with the settings in nnit/mnist/recipe.json.
nnit train mnist --recipe nnit/mnist --output outputs/mnist --widths 16 256 --depths 1 6 --data-dir data

# 2. The folder of this repository, without checkpoints, and its card. Hypernetwork and nested slices stay out: with them,
# it would have more than 12 MiB.
rm -rf nnit/mnist
cp -r outputs/mnist nnit/mnist
rm -rf nnit/mnist/training
python examples/build_hub_repo.py \
    --task mnist \
    --repo_dir nnit/mnist \
    --leave_out ghn nested
