#!/usr/bin/env bash
# All commands behind nnit/pickcube, in order, with their seeds. On two CPU cores, the training runs take about two
# hours, and the rollouts of the evaluation take several more.
# If interrupted, run the script again: every stage resumes where it stopped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH="$PWD/.venv/bin:$PATH" # the environment of `make setup`, if it exists

# 1. All stages of training, then evaluation, pictures and model card, with the settings in nnit/pickcube/recipe.json.
nnit train pickcube --recipe nnit/pickcube --output outputs/pickcube

# 2. Time and memory of generating a network, beside training one.
python benchmarks/benchmark_generation.py \
    --task pickcube \
    --pretrained_model_name_or_path outputs/pickcube \
    --data_dir outputs/pickcube/training/demonstrations \
    --output_path outputs/pickcube/benchmark.json \
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
    --task pickcube \
    --pretrained_model_name_or_path outputs/pickcube \
    --output_dir outputs/pickcube/training/film

# 4. The folder of this repository, without checkpoints, and its card.
rm -rf nnit/pickcube
cp -r outputs/pickcube nnit/pickcube
rm -rf nnit/pickcube/training
python examples/build_hub_repo.py \
    --task pickcube \
    --repo_dir nnit/pickcube \
    --film_dir outputs/pickcube/training/film
