#!/usr/bin/env bash
# All commands behind the hypernetwork of the stock StackCube-v1, in order, with their seeds. On one CPU core, training
# takes 35 minutes, and scoring 15 more. There is no pipeline of this task yet.
# If interrupted, run the script again: every stage resumes where it stopped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH="$PWD/.venv/bin:$PATH" # the environment of `make setup`, if it exists

launch() {
    accelerate launch --cpu --num_processes 1 --num_cpu_threads_per_process 2 "$@"
}

# 0. Demonstrations: the scripted expert under noise, labelled with its actions without noise.
python examples/collect_demonstrations.py \
    --task stackcube \
    --output_dir outputs/stackcube/demonstrations \
    --num_episodes 800 \
    --seed 0

# 1. The hypernetwork, with the settings of stackcube-easy.sh.
launch examples/train_ghn.py \
    --task stackcube \
    --data_dir outputs/stackcube/demonstrations \
    --output_dir outputs/stackcube/ghn \
    --max_train_steps 12000 \
    --train_batch_size 256 \
    --num_architectures 6 \
    --latents_per_architecture 4 \
    --diversity_target 0.85 \
    --diversity_weight 0.1 \
    --node_dim 96 \
    --num_templates 16 \
    --map_channels 32 \
    --upsampling 16 \
    --learning_rate 3e-3 \
    --dagger_steps 1500 3000 5000 7000 \
    --dagger_policies 100 \
    --dagger_episodes 1 \
    --checkpointing_steps 500 \
    --validation_steps 3000 \
    --validation_architectures 4 \
    --validation_episodes 20 \
    --seed 0 \
    --resume_from_checkpoint latest

# 2. Scores of the hypernetwork, and of networks trained one by one on the same demonstrations.
python benchmarks/score_generator.py \
    --task stackcube \
    --model_name_or_path outputs/stackcube/ghn/ghn \
    --num_architectures 10 \
    --num_networks 10 \
    --num_episodes 20 \
    --output_path docs/measurements/stackcube_ghn_scores.json
python benchmarks/train_directly.py \
    --task stackcube \
    --data_dir outputs/stackcube/demonstrations \
    --architectures 64-64 128-256 256-256 \
    --sgd_seeds 0 1 \
    --num_episodes 50 \
    --output_path docs/measurements/stackcube_direct.json
