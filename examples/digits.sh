#!/usr/bin/env bash
# All commands behind nnit/digits, in order, with their seeds: about two hours on two CPU cores.
# If interrupted, run the script again: every stage resumes where it stopped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH="$PWD/.venv/bin:$PATH" # the environment of `make setup`, if it exists

launch() {
    accelerate launch --cpu --num_processes 1 --num_cpu_threads_per_process 2 "$@"
}

# 1. The hypernetwork: an endless source of distinct, aligned and working networks.
launch examples/train_ghn.py \
    --task digits \
    --output_dir outputs/digits/ghn \
    --max_train_steps 3000 \
    --num_architectures 6 \
    --latents_per_architecture 4 \
    --diversity_target 0.85 \
    --diversity_weight 1.0 \
    --node_dim 96 \
    --num_templates 32 \
    --map_channels 32 \
    --learning_rate 3e-3 \
    --seed 0 \
    --resume_from_checkpoint latest

# 2. A weight dataset of some of its networks, to exchange. Stage 3 does not need it: it samples the hypernetwork.
launch examples/build_weight_dataset.py \
    --task digits \
    --ghn_name_or_path outputs/digits/ghn/ghn \
    --output_dir outputs/digits/weights \
    --num_networks 1024 \
    --score \
    --seed 0

# 3. The transformer.
launch examples/train_nnit.py \
    --task digits \
    --ghn_name_or_path outputs/digits/ghn/ghn \
    --output_dir outputs/digits/nnit \
    --max_train_steps 2000 \
    --train_batch_size 16 \
    --latents_per_architecture 2 \
    --checkpointing_steps 500 \
    --validation_steps 500 \
    --seed 0 \
    --resume_from_checkpoint latest

# 4. The published pipeline in half precision, and its evaluation in that form. The evaluation is written to outputs/
#    until it is complete, because publishing again starts with an empty folder.
python examples/build_hub_repo.py \
    --task digits \
    --pipeline_dir outputs/digits/nnit/pipeline \
    --repo_dir nnit/digits
python examples/evaluate_nnit.py \
    --task digits \
    --pretrained_model_name_or_path nnit/digits \
    --output_path outputs/digits/evaluation.json \
    --seed 1234
cp outputs/digits/evaluation.json nnit/digits/evaluation.json
python benchmarks/benchmark_generation.py \
    --task digits \
    --pretrained_model_name_or_path nnit/digits \
    --output_path nnit/digits/benchmark.json

# 5. Pictures of the evaluation, the model card, and a picture for the README.
python examples/figures/plot_evaluation.py \
    --evaluation_path nnit/digits/evaluation.json
python examples/build_hub_repo.py \
    --task digits \
    --repo_dir nnit/digits
python examples/figures/plot_weights.py \
    --task digits \
    --pretrained_model_name_or_path nnit/digits \
    --output_dir docs/images
