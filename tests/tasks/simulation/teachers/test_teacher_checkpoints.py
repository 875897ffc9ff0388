"""Checkpoints of training scripts act as the scripts' deterministic policies do."""

import pytest
import torch
from ppo_agents import CleanRLAgent, ManiSkillAgent
from teacher_files import check_acts_like, prefixed, sequential, stable_baselines_zip
from torch import nn

from nnit_diffusers.tasks.simulation.teachers import load_teacher


@pytest.mark.parametrize("agent_class", [CleanRLAgent, ManiSkillAgent])
@pytest.mark.parametrize("nesting", [None, "agent", "model", "state_dict"])
def test_a_ppo_checkpoint_acts_by_its_mean(tmp_path, agent_class, nesting):
    agent, path = agent_class(5, 3), tmp_path / "checkpoint.pt"
    torch.save(agent.state_dict() if nesting is None else {nesting: agent.state_dict(), "step": 7}, path)
    check_acts_like(load_teacher(path), agent.actor_mean)


class Normalised(nn.Module):
    """A policy behind `EmpiricalNormalization` of RSL-RL."""

    def __init__(self, actor):
        super().__init__()
        self.actor, self.mean, self.std = actor, torch.randn(1, 5), torch.rand(1, 5) + 0.1

    def forward(self, observations):
        return self.actor((observations - self.mean) / (self.std + 1e-2))


def test_a_policy_of_rsl_rl_has_elu_and_its_normaliser_is_folded_into_its_first_layer(tmp_path):
    actor, path = sequential(nn.ELU, 5, 8, 3)[:-1], tmp_path / "model_100.pt"
    state_dict = {"std": torch.ones(3), **prefixed(actor=actor, critic=sequential(nn.ELU, 5, 8, 1))}
    torch.save({"model_state_dict": state_dict, "optimizer_state_dict": {}, "iter": 100, "infos": None}, path)
    check_acts_like(load_teacher(path), actor)
    policy = Normalised(actor)
    statistics = {"_mean": policy.mean, "_var": policy.std**2, "_std": policy.std, "count": torch.tensor(9)}
    of_critic = {"_mean": torch.ones(1, 5), "_std": torch.ones(1, 5)}
    # before 3.0 beside the weights, up to 3.x and since 4.0 among them
    since_4 = prefixed(mlp=actor) | {"distribution.std_param": torch.ones(3)}
    for checkpoint in (
        {
            "model_state_dict": state_dict,
            "obs_norm_state_dict": statistics,
            "privileged_obs_norm_state_dict": of_critic,
        },
        {
            "model_state_dict": state_dict
            | {f"critic_obs_normalizer.{key}": tensor for key, tensor in of_critic.items()}
            | {f"actor_obs_normalizer.{key}": tensor for key, tensor in statistics.items()}
        },
        {"actor_state_dict": since_4 | {f"obs_normalizer.{key}": tensor for key, tensor in statistics.items()}},
    ):
        torch.save(checkpoint, path)
        check_acts_like(load_teacher(path), policy, tolerance=1e-5)


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ({"model_state_dict": {"actor.0.weight": torch.ones(6, 5)}}, "its outputs are more than actions"),
        ({"actor_state_dict": {"mlp.0.weight": torch.ones(6, 5)}}, "its outputs are more than actions"),
        ({"model_state_dict": {"memory_a.rnn.weight_ih_l0": torch.ones(6, 5)}}, "but is recurrent, by `memory_a"),
        ({"actor_state_dict": {"cnns.image.0.weight": torch.ones(6, 5)}}, "but extracts features first, by `cnns"),
        (
            {"model_state_dict": {"actor_obs_rms.mean": torch.ones(5)}},
            "statistics that normalise observations, in a f",
        ),
    ],
)
def test_a_policy_of_rsl_rl_that_is_more_than_an_mlp_of_observations_is_refused(tmp_path, added, message):
    torch.save(added, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=message):
        load_teacher(tmp_path / "model.pt")


def test_a_discrete_policy_of_cleanrl_gives_scores(tmp_path):
    actor, path = sequential(nn.Tanh, 5, 64, 64, 3)[:-1], tmp_path / "ppo.cleanrl_model"
    torch.save(prefixed(actor=actor, critic=sequential(nn.Tanh, 5, 64, 64, 1)), path)
    check_acts_like(load_teacher(path), actor)


@pytest.mark.parametrize("name", ["actor", "actor_mean"])
def test_a_changed_script_of_cleanrl_may_have_another_activation_which_has_to_be_named(tmp_path, name):
    actor, path = sequential(nn.ReLU, 5, 8, 3)[:-1], tmp_path / "ppo.cleanrl_model"
    torch.save(prefixed(**{name: actor}), path)
    with pytest.raises(ValueError, match="`activation` must be given for .*one of"):
        load_teacher(path)
    check_acts_like(load_teacher(path, activation="relu"), actor)


class Squashed(nn.Module):
    def __init__(self, body, mean, scale, offset):
        super().__init__()
        self.body, self.mean = body, mean
        self.scale, self.offset = torch.tensor(scale), torch.tensor(offset)

    def forward(self, observations):
        return torch.tanh(self.mean(self.body(observations))) * self.scale + self.offset


@pytest.mark.parametrize("script", ["cleanrl-sac", "cleanrl-td3", "maniskill-sac"])
def test_a_squashed_policy_gets_the_range_of_its_checkpoint(tmp_path, script):
    body, mean, path = sequential(nn.ReLU, 5, 8, 6), nn.Linear(6, 3), tmp_path / "checkpoint.pt"
    scale = {"action_scale": torch.tensor([[2.0, 1.0, 0.5]]), "action_bias": torch.tensor([[0.5, 0.0, 0.0]])}
    if script == "maniskill-sac":
        state_dict = prefixed(backbone=body, fc_mean=mean, fc_logstd=nn.Linear(6, 3)) | scale
        checkpoint = {"actor": state_dict, "qf1": sequential(nn.ReLU, 8, 4, 1).state_dict()}
    else:
        heads = {"fc_mean": mean, "fc_logstd": nn.Linear(6, 3)} if script == "cleanrl-sac" else {"fc_mu": mean}
        checkpoint = state_dict = prefixed(fc1=body[0], fc2=body[2], **heads) | scale
    torch.save(checkpoint, path)
    check_acts_like(load_teacher(path), Squashed(body, mean, [2.0, 1.0, 0.5], [0.5, 0.0, 0.0]))
    del state_dict["action_scale"]
    torch.save(checkpoint, path)
    with pytest.raises(ValueError, match="must record the range of its 3 actions"):
        load_teacher(path)


@pytest.mark.parametrize(("recorded", "activation"), [(None, nn.Tanh), ("ReLU", nn.ReLU), ("ELU", nn.ELU)])
def test_ppo_of_stable_baselines_has_the_activation_that_its_data_shows(tmp_path, recorded, activation):
    body, head = sequential(activation, 5, 8, 6), nn.Linear(6, 3)
    critic = sequential(activation, 5, 8, 6)
    state_dict = {"log_std": torch.zeros(3)} | {
        key.replace("policy_net_", "mlp_extractor.policy_net").replace("value_net_", "mlp_extractor.value_net"): tensor
        for key, tensor in prefixed(
            policy_net_=body, value_net_=critic, action_net=head, value_net=nn.Linear(6, 1)
        ).items()
    }
    kwargs = {":type:": "<class 'dict'>", ":serialized:": "gAW", "net_arch": [8, 6]}
    if recorded:
        kwargs["activation_fn"] = f"<class 'torch.nn.modules.activation.{recorded}'>"
    path = stable_baselines_zip(tmp_path / "ppo.zip", state_dict, {"policy_kwargs": kwargs})
    check_acts_like(load_teacher(path), nn.Sequential(body, head))


def test_without_readable_data_the_activation_of_stable_baselines_has_to_be_named(tmp_path):
    state_dict = prefixed(action_net=nn.Linear(5, 3))
    for data in ({}, {"policy_kwargs": "gASV"}):
        path = stable_baselines_zip(tmp_path / "ppo.zip", state_dict, data)
        with pytest.raises(ValueError, match="`activation` must be given"):
            load_teacher(path)


def test_ppo_of_stable_baselines_may_have_no_hidden_layer(tmp_path):
    head = nn.Linear(5, 3)
    state_dict = prefixed(action_net=head, value_net=nn.Linear(5, 1))
    path = stable_baselines_zip(tmp_path / "ppo.zip", state_dict, {"policy_kwargs": {}})
    check_acts_like(load_teacher(path), head)


@pytest.mark.parametrize("algorithm", ["sac", "td3"])
def test_a_squashed_policy_of_stable_baselines_gets_the_range_of_its_action_space(tmp_path, algorithm):
    body, mean = sequential(nn.ReLU, 5, 8, 6), nn.Linear(6, 3)
    if algorithm == "sac":
        actor = {"actor.latent_pi": body, "actor.mu": mean, "actor.log_std": nn.Linear(6, 3)}
    else:
        actor = {"actor.mu": nn.Sequential(*body, mean, nn.Tanh()), "actor_target.mu": nn.Sequential(*body, mean)}
    space = {
        ":type:": "<class 'gymnasium.spaces.box.Box'>",
        "low": "[-1.  -0.5 -2. ]",
        "high": "[1.e+00 5.e-01 4.e+00]",
    }
    state_dict = prefixed(**actor, **{"critic.qf0": sequential(nn.ReLU, 8, 4, 1)})
    path = stable_baselines_zip(tmp_path / "model.zip", state_dict, {"policy_kwargs": {}, "action_space": space})
    check_acts_like(load_teacher(path), Squashed(body, mean, [1.0, 0.5, 3.0], [0.0, 0.0, 1.0]))
    stable_baselines_zip(path, state_dict, {"policy_kwargs": {}})
    with pytest.raises(ValueError, match="must record the range of its 3 actions"):
        load_teacher(path)


def test_statistics_of_vec_normalize_beside_a_policy_are_refused(tmp_path):
    path = stable_baselines_zip(tmp_path / "ppo.zip", prefixed(action_net=nn.Linear(5, 3)))
    (tmp_path / "vecnormalize.pkl").write_bytes(b"")
    with pytest.raises(ValueError, match=r"beside 'vecnormalize.pkl'.*observation_mean=v.obs_rms.mean"):
        load_teacher(path)
    with pytest.raises(ValueError, match="is a pickle, which is never loaded"):
        load_teacher(tmp_path / "vecnormalize.pkl")


@pytest.mark.parametrize(
    ("state_dict", "message"),
    [
        ({"encoder.conv.weight": torch.zeros(3)}, "must hold one policy.*holds `encoder.conv.weight`"),
        ({"a.0.weight": torch.zeros(3, 5), "b.0.weight": torch.zeros(3, 5)}, "must hold one policy"),
        ({"step": 3}, "must hold the weights of a policy, but holds `step`"),
        ([torch.zeros(3)], "must hold a state dict, but holds a list"),
        (prefixed(actor=nn.Linear(5, 3, bias=False)) | {"0.weight": torch.zeros(3, 5)}, "`0` has no bias"),
        (prefixed(actor=nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.Linear(4, 3))), "follow each other"),
        (prefixed(actor=nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(3, 3))), "chain.*4 outputs.*3 inputs"),
        (prefixed(actor=nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.LayerNorm(4))), "`actor.2` has shapes"),
        ({"actor.0.weight": torch.zeros(1).expand(3, 2**20), "actor.0.bias": torch.zeros(3)}, "65536 units at most"),
        (
            prefixed(action_net=nn.Linear(5, 3), **{"features_extractor.cnn.0": nn.Conv2d(3, 4, 2)}),
            "extracts features first, by `features_extractor.cnn.0.weight`",
        ),
    ],
)
def test_a_checkpoint_without_a_policy_that_can_be_read_names_what_it_has(tmp_path, state_dict, message):
    path = tmp_path / "checkpoint.pt"
    torch.save(state_dict, path)
    with pytest.raises(ValueError, match=message):
        load_teacher(path, activation="tanh")
