#!/usr/bin/env bash
# All commands behind nnit/pushcube, in order, with their seeds. On two CPU cores, the training runs take about two
# hours, and the rollouts of the evaluation take several more.
# If interrupted, run the script again: every stage resumes where it stopped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH="$PWD/.venv/bin:$PATH" # the environment of `make setup`, if it exists

# 1. All stages of training, then evaluation, pictures and model card, with the settings in nnit/pushcube/recipe.json.
nnit train pushcube --recipe nnit/pushcube --output outputs/pushcube

# 2. Time and memory of generating a network, beside training one.
python benchmarks/benchmark_generation.py \
    --task pushcube \
    --pretrained_model_name_or_path outputs/pushcube \
    --data_dir outputs/pushcube/training/demonstrations \
    --output_path outputs/pushcube/benchmark.json \
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
    --task pushcube \
    --pretrained_model_name_or_path outputs/pushcube \
    --output_dir outputs/pushcube/training/film

# 4. The folder of this repository, without checkpoints, and its card.
rm -rf nnit/pushcube
cp -r outputs/pushcube nnit/pushcube
rm -rf nnit/pushcube/training
python examples/build_hub_repo.py \
    --task pushcube \
    --repo_dir nnit/pushcube \
    --film_dir outputs/pushcube/training/film
