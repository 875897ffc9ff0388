#!/usr/bin/env bash
# All commands behind docs/measurements/half_cheetah, in order, with their seeds. On two CPU cores they take about two
# hours. If interrupted, run the script again: every stage resumes where it stopped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH="$PWD/.venv/bin:$PATH" # the environment of `make setup`, if it exists

# 1. All stages of training, and the evaluation. The teacher is in the repository; examples/train_teacher.py trained it.
nnit train --env HalfCheetah-v5 \
    --teacher examples/teachers/half_cheetah.onnx \
    --widths 32 128 \
    --depths 2 3 \
    --recipe docs/measurements/half_cheetah/recipe.json \
    --output outputs/half_cheetah

# 2. The smallest network whose lower bound is at a success rate of 90%.
nnit search outputs/half_cheetah --target 0.9 --output outputs/half_cheetah_search
