#!/usr/bin/env bash
# Everything behind nnit/pushcube, in order, with its seeds: about eight hours on two CPU cores, most of it rollouts.
# When it was interrupted, run it again: every stage goes on where it stopped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH="$PWD/.venv/bin:$PATH" # the environment of `make setup`, if there is one

launch() {
    accelerate launch --cpu --num_processes 1 --num_cpu_threads_per_process 2 "$@"
}

# 0. The scripted expert, disturbed, with its undisturbed actions as labels.
python examples/collect_demonstrations.py \
    --task pushcube \
    --output_dir outputs/pushcube/demonstrations \
    --num_episodes 400 \
    --seed 0

# 1. The hypernetwork, by imitation; twice its own policies act and the expert labels their states.
launch examples/train_ghn.py \
    --task pushcube \
    --data_dir outputs/pushcube/demonstrations \
    --output_dir outputs/pushcube/ghn \
    --max_train_steps 6000 \
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
    --dagger_steps 2000 3500 \
    --dagger_policies 60 \
    --dagger_episodes 1 \
    --checkpointing_steps 500 \
    --validation_steps 2000 \
    --validation_architectures 4 \
    --validation_episodes 20 \
    --seed 0 \
    --resume_from_checkpoint latest

# 2. The transformer, on networks that the hypernetwork writes while it trains.
launch examples/train_nnit.py \
    --task pushcube \
    --data_dir outputs/pushcube/demonstrations \
    --ghn_name_or_path outputs/pushcube/ghn/ghn \
    --output_dir outputs/pushcube/nnit \
    --patch_size 16 \
    --max_train_steps 3000 \
    --train_batch_size 8 \
    --latents_per_architecture 2 \
    --checkpointing_steps 250 \
    --validation_steps 1000 \
    --validation_architectures 4 \
    --validation_episodes 20 \
    --seed 0 \
    --resume_from_checkpoint latest
