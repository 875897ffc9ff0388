import statistics
from dataclasses import replace

import pytest
import torch
from launching import assert_same_files, fresh_accelerate
from test_dagger import NUM_STEPS, FollowThePointTask

from nnit_diffusers import ArchitectureRegions, evaluate
from nnit_diffusers.tasks.imitation import read_demonstrations
from nnit_diffusers.training import NestedTrainingConfig, train_nested
from nnit_diffusers.training.nested import NestedTrainer, outermost


# diffusers' own `EMAModel.from_pretrained` triggers a deprecation warning of diffusers.
pytestmark = pytest.mark.filterwarnings("ignore:It is deprecated to pass a pretrained model name:FutureWarning")

SMALL = {"max_train_steps": 500, "validation_architectures": 1, "report_to": "none", "ema_decay": 0.98}


def train(task, output_dir, **settings):
    with fresh_accelerate():
        return train_nested(task, NestedTrainingConfig(**{**SMALL, **settings}), output_dir)


def test_slices_of_held_out_shapes_are_learned(digits, tmp_path):
    nested = train(digits, tmp_path)
    generator = torch.Generator().manual_seed(3)
    for region in ("held_out_combinations", "held_out_widths"):
        architectures = digits.regions.sample_distinct(region, 8, generator)
        scores = [result.score for result in evaluate(nested.generate(architectures), digits, progress_bar=False)]
        assert statistics.fmean(scores) > 0.93 and min(scores) > 0.85


def test_a_resumed_training_is_the_training(digits, tmp_path):
    settings = {"max_train_steps": 8, "checkpointing_steps": 4, "validation_steps": 8}
    train(digits, tmp_path / "whole", **settings)
    train(digits, tmp_path / "resumed", **settings)
    # as if it had been stopped after the first checkpoint
    for folder in (tmp_path / "resumed").glob("checkpoint-8"):
        for path in sorted(folder.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        folder.rmdir()
    train(digits, tmp_path / "resumed", **settings, resume_from_checkpoint="latest")
    assert_same_files(tmp_path / "whole" / "nested", tmp_path / "resumed" / "nested")


def test_states_of_the_slices_own_policies_join_the_demonstrations(tmp_path):
    task = FollowThePointTask()
    settings = {"dagger_steps": (3, 5), "dagger_policies": 3, "dagger_episodes": 2}
    train(task, tmp_path, max_train_steps=6, **settings)
    rounds = [read_demonstrations(tmp_path / f"dagger-{step}.safetensors") for step in (3, 5)]
    assert [len(observations) for observations, _ in rounds] == [3 * 2 * NUM_STEPS] * 2
    assert len(task.demonstrations[0]) == len(task._collected[0]) + 2 * 3 * 2 * NUM_STEPS


def test_a_step_has_the_widest_and_the_narrowest_network_of_its_depth_besides_random_ones(digits, tmp_path):
    with fresh_accelerate():
        trainer = NestedTrainer(digits, NestedTrainingConfig(**SMALL), tmp_path)
    depths = set()
    for seed in range(12):
        architectures = trainer.prepare_batch(torch.Generator().manual_seed(seed)).architectures
        (depth,) = {architecture.depth for architecture in architectures}
        depths.add(depth)
        assert architectures[:2] == outermost(replace(digits.regions, min_depth=depth, max_depth=depth))
        assert len(architectures) == 2 + trainer.config.num_random_architectures
    assert depths == {1, 2, 3}


def test_dagger_needs_an_expert(digits, tmp_path):
    with pytest.raises(ValueError, match="`dagger_steps` must be empty for task 'digits'"):
        train(digits, tmp_path, dagger_steps=(5,))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_outermost_networks_are_seen_in_training(depth):
    regions = replace(ArchitectureRegions(3, 2, max_width=64), min_depth=depth, max_depth=depth)
    widest, narrowest = (architecture.hidden_sizes for architecture in outermost(regions))
    assert regions.region_of(widest) == regions.region_of(narrowest) == "seen"
    widths = regions.train_widths
    assert set(widest[:-1]) <= {widths[-1]} and set(narrowest[:-1]) <= {widths[0]}
    assert widest[-1] > narrowest[-1]
