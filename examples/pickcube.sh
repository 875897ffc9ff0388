#!/usr/bin/env bash
# All commands behind nnit/pickcube, in order, with their seeds. On two CPU cores, the training runs take about two
# hours, and the rollouts of the evaluation take several more.
# If interrupted, run the script again: every stage resumes where it stopped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH="$PWD/.venv/bin:$PATH" # the environment of `make setup`, if it exists

launch() {
    accelerate launch --cpu --num_processes 1 --num_cpu_threads_per_process 2 "$@"
}

# 0. Demonstrations: the scripted expert under noise, labelled with its actions without noise.
python examples/collect_demonstrations.py \
    --task pickcube \
    --output_dir outputs/pickcube/demonstrations \
    --num_episodes 400 \
    --seed 0

# 1. The hypernetwork, by imitation, with three rounds of DAgger: the expert labels the states of its own policies.
launch examples/train_ghn.py \
    --task pickcube \
    --data_dir outputs/pickcube/demonstrations \
    --output_dir outputs/pickcube/ghn \
    --max_train_steps 9000 \
    --train_batch_size 256 \
    --num_architectures 6 \
    --narrow_fraction 0.34 \
    --latents_per_architecture 4 \
    --diversity_target 0.85 \
    --diversity_weight 0.1 \
    --node_dim 96 \
    --num_templates 16 \
    --map_channels 32 \
    --upsampling 16 \
    --learning_rate 3e-3 \
    --dagger_steps 2000 3500 5000 \
    --dagger_policies 60 \
    --dagger_episodes 1 \
    --checkpointing_steps 500 \
    --validation_steps 3000 \
    --validation_architectures 4 \
    --validation_episodes 20 \
    --seed 0 \
    --resume_from_checkpoint latest

# 2. The transformer, on networks sampled from the hypernetwork during training.
launch examples/train_nnit.py \
    --task pickcube \
    --data_dir outputs/pickcube/demonstrations \
    --ghn_name_or_path outputs/pickcube/ghn/ghn \
    --output_dir outputs/pickcube/nnit \
    --patch_size 16 \
    --max_train_steps 5000 \
    --train_batch_size 8 \
    --latents_per_architecture 2 \
    --narrow_fraction 0.34 \
    --muon_precision bf16 \
    --checkpointing_steps 250 \
    --validation_steps 1000 \
    --validation_architectures 4 \
    --validation_episodes 20 \
    --seed 0 \
    --resume_from_checkpoint latest

# 3. Tuning of the transformer: lower learning rates, and the function loss, which weighs an error in the weights by
#    its effect on the actions.
launch examples/train_nnit.py \
    --task pickcube \
    --data_dir outputs/pickcube/demonstrations \
    --ghn_name_or_path outputs/pickcube/ghn/ghn \
    --pretrained_model_name_or_path outputs/pickcube/nnit/pipeline \
    --output_dir outputs/pickcube/nnit_tuned \
    --patch_size 16 \
    --max_train_steps 2000 \
    --train_batch_size 8 \
    --latents_per_architecture 2 \
    --narrow_fraction 0.34 \
    --learning_rate 5e-4 \
    --muon_learning_rate 0.005 \
    --lr_warmup_steps 100 \
    --mixed_precision bf16 \
    --muon_precision bf16 \
    --bias_loss_weight 1 \
    --logit_mean 0 \
    --function_loss_weight 1 \
    --checkpointing_steps 250 \
    --validation_steps 1000 \
    --validation_architectures 4 \
    --validation_episodes 20 \
    --seed 1 \
    --resume_from_checkpoint latest

# 4. The published pipeline in half precision, and its evaluation in that form. The evaluation is written to outputs/
#    until it is complete, because publishing again starts with an empty folder.
python examples/build_hub_repo.py \
    --task pickcube \
    --pipeline_dir outputs/pickcube/nnit_tuned/pipeline \
    --repo_dir nnit/pickcube
python examples/evaluate_nnit.py \
    --task pickcube \
    --pretrained_model_name_or_path nnit/pickcube \
    --output_path outputs/pickcube/evaluation.json \
    --num_episodes 20 \
    --num_final_episodes 100 \
    --num_ghn_networks 20 \
    --widths 16 20 24 32 48 64 100 128 200 256 300 384 \
    --num_width_networks 10 \
    --num_unconditional_networks 100 \
    --num_budget_networks 20 \
    --max_parameters 20000 \
    --parameter_range 30000 40000 \
    --fill_in_width 128 \
    --fill_in_max_parameters 50000 \
    --documented_architecture 128 256 \
    --num_compared_networks 20 \
    --num_references 128 \
    --steps 1 2 4 8 20 \
    --num_step_networks 8 \
    --seed 1234
cp outputs/pickcube/evaluation.json nnit/pickcube/evaluation.json
python benchmarks/benchmark_generation.py \
    --task pickcube \
    --pretrained_model_name_or_path nnit/pickcube \
    --data_dir outputs/pickcube/demonstrations \
    --output_path nnit/pickcube/benchmark.json \
    --hidden_sizes 128 256 \
    --num_scored 4 \
    --num_episodes 50 \
    --learning_rate 1e-3 \
    --train_batch_size 256 \
    --max_train_steps 6000 \
    --validation_steps 100 \
    --validation_growth 1.3

# 5. A film that includes failures, pictures of the evaluation, and the model card.
python examples/figures/film_rollouts.py \
    --task pickcube \
    --pretrained_model_name_or_path nnit/pickcube \
    --output_dir outputs/pickcube/film
python examples/figures/plot_evaluation.py \
    --evaluation_path nnit/pickcube/evaluation.json
python examples/build_hub_repo.py \
    --task pickcube \
    --repo_dir nnit/pickcube \
    --film_dir outputs/pickcube/film
