"""An exported checkpoint acts the same in ManiSkill's vector environment as the network in our rollouts."""

import numpy as np
import torch
from ppo_agents import ManiSkillAgent

from nnit_diffusers import MLP, export_network
from nnit_diffusers.tasks.maniskill.environments import ManiSkillEnvironment, make_environment
from nnit_diffusers.tasks.simulation.portable_networks import network_policy
from nnit_diffusers.tasks.simulation.rollouts import run_episodes


def test_an_exported_checkpoint_scores_the_same_as_the_network(simulator, tmp_path):
    from mani_skill.vector.wrappers.gymnasium import ManiSkillVectorEnv

    network = MLP(42, (256, 256, 256), 8, "tanh").requires_grad_(False)
    envs = ManiSkillVectorEnv(make_environment("PickCube-v1"), ignore_terminations=True, record_metrics=True)
    spaces = envs.single_observation_space, envs.single_action_space
    agent = ManiSkillAgent(*(int(np.prod(space.shape)) for space in spaces)).eval()
    agent.load_state_dict(torch.load(export_network(network, tmp_path / "checkpoint.pt", "maniskill-ppo")))

    # The evaluation loop of ppo.py.
    observations, _ = envs.reset(seed=7, options={"reconfigure": True})
    infos = {}
    while "final_info" not in infos:
        with torch.no_grad():
            observations, *_, infos = envs.step(agent.get_action(observations, deterministic=True))
    measured = infos["final_info"]["episode"]
    envs.close()

    environment = ManiSkillEnvironment(make_environment("PickCube-v1"))
    (episode,) = run_episodes(environment, [7], network_policy(network))
    environment.close()
    assert bool(measured["success_once"]) == episode.success_once
    np.testing.assert_allclose(float(measured["return"]), episode.episode_return, rtol=1e-5)
