import shutil

import pytest
import torch
from launching import assert_same_files, fresh_accelerate, logged

from nnit_diffusers import get_task
from nnit_diffusers.tasks.base import Score
from nnit_diffusers.tasks.imitation import ImitationTask, read_demonstrations
from nnit_diffusers.training import GHNTrainingConfig
from nnit_diffusers.training.hypernetwork import GHNTrainer


# diffusers' own `EMAModel.from_pretrained` triggers a deprecation warning of diffusers.
pytestmark = pytest.mark.filterwarnings("ignore:It is deprecated to pass a pretrained model name:FutureWarning")

NUM_STEPS = 5
SETTINGS = {
    "latent_dim": 4,
    "node_dim": 8,
    "map_channels": 4,
    "num_templates": 2,
    "num_architectures": 2,
    "latents_per_architecture": 2,
    "train_batch_size": 16,
    "validation_architectures": 1,
    "max_train_steps": 6,
    "checkpointing_steps": 4,
    "dagger_steps": (2, 3),
    "dagger_policies": 3,
    "dagger_episodes": 2,
}


class FollowThePointTask(ImitationTask):
    """A point on a line moves by the policy's action; its goal is 0."""

    name = "follow-the-point"

    in_features, out_features = 2, 1

    def run(self, policy, starts):
        positions, observations = starts, []
        for _ in range(NUM_STEPS):
            observations.append(torch.stack([positions, positions.abs()], dim=1))
            positions = positions + policy(observations[-1])[:, 0]
        return torch.cat(observations), positions

    def expert(self, observations):
        return -0.5 * observations[:, :1]

    @property
    def _collected(self):
        observations, _ = self.run(self.expert, torch.linspace(-1, 1, 40))
        return observations, self.expert(observations)

    @torch.no_grad()
    def collect(self, networks, *, seed=0, num_episodes=1, num_workers=None):
        generator = torch.Generator().manual_seed(seed)
        episodes = [self.run(network, torch.randn(num_episodes, generator=generator))[0] for network in networks]
        return torch.cat(episodes), self.expert(torch.cat(episodes))

    def score(self, networks, **kwargs):
        return [Score(0, 1)] * len(networks)


def train(output_dir, **settings):
    """The training run, after its last step."""
    with fresh_accelerate():
        trainer = GHNTrainer(FollowThePointTask(), GHNTrainingConfig(**{**SETTINGS, **settings}), output_dir)
        trainer.run()
    return trainer


def test_states_of_the_ghns_own_policies_join_the_demonstrations(tmp_path):
    task = train(tmp_path).task
    rounds = [read_demonstrations(tmp_path / f"dagger-{step}.safetensors") for step in (2, 3)]
    assert [len(observations) for observations, _ in rounds] == [3 * 2 * NUM_STEPS] * 2
    fresh = FollowThePointTask()
    for added, (observations, actions) in zip(task._added, rounds, strict=True):
        assert torch.equal(added[0], observations)
        torch.testing.assert_close(actions, fresh.expert(observations))
    assert len(task.demonstrations[0]) == len(fresh.demonstrations[0]) + 60
    # the rounds have different GHNs and episodes
    assert not torch.equal(rounds[0][0], rounds[1][0])


@pytest.mark.parametrize("kept", [(2, 3), (2, 3, "unfinished")])
def test_a_resumed_training_run_learns_from_the_same_rounds(tmp_path, kept):
    complete, resumed = tmp_path / "complete", tmp_path / "resumed"
    train(complete, dagger_steps=(2, 3, 5))
    shutil.copytree(complete / "checkpoint-4", resumed / "checkpoint-4")
    for step in (2, 3):
        shutil.copy(complete / f"dagger-{step}.safetensors", resumed)
    if "unfinished" in kept:
        # killed while writing the round after step 5
        (resumed / ".dagger-5.safetensors.1.tmp").mkdir()
        (resumed / ".dagger-5.safetensors.1.tmp" / "dagger-5.safetensors").write_bytes(b"half")
    train(resumed, resume_from_checkpoint="latest", dagger_steps=(2, 3, 5))
    assert_same_files(resumed / "ghn", complete / "ghn")
    expected = logged(complete, "loss")
    assert logged(resumed, "loss") == pytest.approx({step: expected[step] for step in (5, 6)}, rel=1e-3)


def test_a_missing_round_is_refused_when_the_training_run_resumes(tmp_path):
    train(tmp_path)
    (tmp_path / "dagger-2.safetensors").unlink()
    with pytest.raises(ValueError, match=r"dagger-2\.safetensors.* to resume"):
        train(tmp_path, resume_from_checkpoint="latest")


def test_dagger_on_a_task_without_an_expert_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`dagger_steps` must be empty for task 'digits'.*but received \(2, 3\)"):
        GHNTrainer(get_task("digits"), GHNTrainingConfig(dagger_steps=(2, 3)), tmp_path)


def test_a_new_training_run_in_the_folder_of_an_old_one_collects_its_own_rounds(tmp_path):
    train(tmp_path)
    earlier = read_demonstrations(tmp_path / "dagger-2.safetensors")[0]
    train(tmp_path, overwrite=True, seed=1)
    assert not torch.equal(read_demonstrations(tmp_path / "dagger-2.safetensors")[0], earlier)
