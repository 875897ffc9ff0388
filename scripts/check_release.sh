#!/usr/bin/env bash
# Builds the sdist and the wheel into dist/, checks their metadata, then uses the wheel as its users do: installed into an
# environment of its own, outside of the checkout. It generates networks, scores them and exports one.
#
#     make release [TORCH_INDEX=...]
#     scripts/check_release.sh [python with the extra `release`]
#
# The wheel has no weights, so the pipeline comes from nnit/digits.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${1:-python3}
torch_index=${TORCH_INDEX:-}
step() { echo "== $*"; }

step "Build dist/: the sdist, and the wheel from it"
cd "$root"
rm -rf dist
PIP_CONSTRAINT=$root/constraints.txt "$python" -m build --outdir dist .
"$python" -m twine check --strict dist/*
wheel=$(echo "$root"/dist/*.whl)

step "Install $(basename "$wheel") into an environment of its own"
clean=$(mktemp -d)
trap 'rm -rf "$clean"' EXIT
"$python" -m venv "$clean/venv"
cd "$clean"
export PATH=$clean/venv/bin:$PATH HF_HUB_OFFLINE=1
pip() { python -m pip --quiet --disable-pip-version-check "$@"; }
# torch first and by itself, as in the Makefile.
pip install --constraint "$root/constraints.txt" ${torch_index:+--index-url "$torch_index"} torch
pip install --constraint "$root/constraints.txt" "$wheel"
pip check

step "Generate networks without any extra"
cp -r "$root/nnit/digits" pipeline
nnit generate pipeline --arch 48 40 --num-networks 4 --output networks

step "Score and export them"
pip install --constraint "$root/constraints.txt" "$wheel[demo,onnx]"
nnit evaluate networks --min-score 0.95
for format in onnx safetensors torch-export; do
    nnit export networks/network-0 --format "$format" --output "digits.$format"
done

step "Load one in Python, from the wheel alone"
python - "$root" <<'PYTHON'
import sys
from importlib import metadata
from pathlib import Path

import torch

import nnit_diffusers
from nnit_diffusers import MLP, NNiTPipeline

checkout, package = Path(sys.argv[1]), Path(nnit_diffusers.__file__)
assert checkout not in package.parents, f"The checkout was imported: {package}"
assert nnit_diffusers.__version__ == metadata.version("nnit-diffusers")
assert (package.parent / "py.typed").is_file(), "The wheel has no py.typed."
network = MLP.from_pretrained("networks/network-0")
(again,) = NNiTPipeline.from_pretrained("pipeline")([20], generator=torch.Generator().manual_seed(0)).networks
print(network(torch.rand(1, 64)).shape, again.architecture)
PYTHON
step "$(basename "$wheel") works"
