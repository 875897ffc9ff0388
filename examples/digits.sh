#!/usr/bin/env bash
# All commands behind nnit/digits, in order, with their seeds: less than two hours on two CPU cores.
# If interrupted, run the script again: every stage resumes where it stopped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH="$PWD/.venv/bin:$PATH" # the environment of `make setup`, if it exists

# 1. All stages of training, then evaluation, pictures and model card, with the settings in nnit/digits/recipe.json.
nnit train digits --recipe nnit/digits --output outputs/digits --widths 16 256 --depths 1 6

# 2. A weight dataset of some of the hypernetwork's networks, to exchange. Training does not need it.
python examples/build_weight_dataset.py \
    --task digits \
    --ghn_name_or_path outputs/digits/ghn \
    --output_dir outputs/digits-weights \
    --num_networks 1024 \
    --score \
    --seed 0

# 3. Time and memory of generating a network, beside training one.
python benchmarks/benchmark_generation.py \
    --task digits \
    --pretrained_model_name_or_path outputs/digits \
    --output_path outputs/digits/benchmark.json

# 4. The folder of this repository, without checkpoints, and its card. Nested slices stay out: with them, it would have
# more than 12 MiB.
rm -rf nnit/digits
cp -r outputs/digits nnit/digits
rm -rf nnit/digits/training
python examples/build_hub_repo.py \
    --task digits \
    --repo_dir nnit/digits \
    --leave_out nested

# 5. A picture for the README.
python examples/figures/plot_weights.py \
    --task digits \
    --pretrained_model_name_or_path nnit/digits \
    --output_dir docs/images
