#!/usr/bin/env bash
# All commands behind nnit/stackcube-easy, in order, with their seeds. On two CPU cores, the training runs take about
# two hours, and the rollouts of the evaluation take several more.
# If interrupted, run the script again: every stage resumes where it stopped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH="$PWD/.venv/bin:$PATH" # the environment of `make setup`, if it exists

# 1. All stages of training, then evaluation, pictures and model card, with the settings in nnit/stackcube-easy/recipe.json.
nnit train stackcube-easy --recipe nnit/stackcube-easy --output outputs/stackcube-easy

# 2. Time and memory of generating a network, beside training one.
python benchmarks/benchmark_generation.py \
    --task stackcube-easy \
    --pretrained_model_name_or_path outputs/stackcube-easy \
    --data_dir outputs/stackcube-easy/training/demonstrations \
    --output_path outputs/stackcube-easy/benchmark.json \
    --hidden_sizes 128 256 \
    --num_scored 4 \
    --num_episodes 50 \
    --learning_rate 1e-3 \
    --train_batch_size 256 \
    --max_train_steps 6000 \
    --validation_steps 100 \
    --validation_growth 1.3

# 3. A film that includes failures.
python examples/figures/film_rollouts.py \
    --task stackcube-easy \
    --pretrained_model_name_or_path outputs/stackcube-easy \
    --architectures 64-64 128-256 61-102 64-48-96-80 32-32 \
    --output_dir outputs/stackcube-easy/training/film

# 4. The folder of this repository, without checkpoints, and its card.
rm -rf nnit/stackcube-easy
cp -r outputs/stackcube-easy nnit/stackcube-easy
rm -rf nnit/stackcube-easy/training
python examples/build_hub_repo.py \
    --task stackcube-easy \
    --repo_dir nnit/stackcube-easy \
    --film_dir outputs/stackcube-easy/training/film
