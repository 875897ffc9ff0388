import pytest
import torch

from nnit_diffusers import MLP, GraphHyperNetwork, MLPArchitecture
from nnit_diffusers.models.graph_hypernetwork import ROLES, layer_role
from nnit_diffusers.network_batch import batched_forward, stack_state_dicts


MEAN, STD = [0.5, -20.0, 3.0], [2.0, 0.1, 30.0]


def tiny_ghn(**kwargs):
    torch.manual_seed(0)
    sizes = {"max_width": 16, "latent_dim": 4, "node_dim": 16, "map_channels": 8, "num_templates": 4, "upsampling": 4}
    return GraphHyperNetwork(**{"in_features": 3, "out_features": 2, **sizes, **kwargs})


def architecture(*hidden_sizes, activation="relu"):
    return MLPArchitecture(3, hidden_sizes, 2, activation)


MIXED = [architecture(8), architecture(5, 9), architecture(8), architecture(7, 7, 7), architecture(1, 16, 3, 8)]


def latents(num_networks, seed=1):
    return torch.randn(num_networks, 4, generator=torch.Generator().manual_seed(seed))


def flat(state_dict):
    return torch.cat([tensor.flatten() for tensor in state_dict.values()])


# Networks


def test_networks_of_one_batch_can_be_changed_and_saved_separately(tmp_path):
    first, second = tiny_ghn().generate([architecture(8, 8)] * 2, latents=latents(2))
    before = {key: tensor.clone() for key, tensor in second.state_dict().items()}
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.zero_()
    torch.testing.assert_close(second.state_dict(), before)
    second.save_pretrained(tmp_path)
    torch.testing.assert_close(MLP.from_pretrained(tmp_path).state_dict(), before)


# Forward pass


def test_weights_have_the_keys_and_shapes_of_their_networks():
    for network, state_dict in zip(MIXED, tiny_ghn()(MIXED, latents(5)), strict=True):
        expected = {}
        for layer, (rows, columns) in enumerate(network.layer_shapes):
            expected |= {f"{2 * layer}.weight": (rows, columns), f"{2 * layer}.bias": (rows,)}
        assert {key: tuple(tensor.shape) for key, tensor in state_dict.items()} == expected
        assert list(state_dict) == list(expected)


def test_a_batch_of_architectures_gives_the_same_weights_as_each_alone():
    ghn, drawn = tiny_ghn(), latents(5)
    together = ghn(MIXED, drawn)
    for index, network in enumerate(MIXED):
        (alone,) = ghn([network], drawn[index : index + 1])
        torch.testing.assert_close(together[index], alone, atol=1e-5, rtol=1e-4)


def test_layers_of_very_different_widths_do_not_change_each_other():
    ghn, drawn = tiny_ghn(max_width=64), latents(3)
    mixed = [architecture(64, 37), architecture(5, 60), architecture(2)]
    together = ghn(mixed, drawn)
    for index, network in enumerate(mixed):
        (alone,) = ghn([network], drawn[index : index + 1])
        torch.testing.assert_close(together[index], alone, atol=1e-5, rtol=1e-4)


def test_a_latent_determines_the_network():
    ghn = tiny_ghn()
    first, again = ghn([architecture(8, 8)] * 2, latents(1).expand(2, -1))
    other = ghn([architecture(8, 8)], latents(1, seed=2))[0]
    torch.testing.assert_close(first, again)
    for key in first:
        assert (first[key] - other[key]).abs().max() > 1e-3


def test_a_layer_depends_on_its_neighbours():
    ghn = tiny_ghn()
    narrow, wide = (ghn([architecture(8, width)], latents(1))[0]["0.weight"] for width in (4, 16))
    assert (narrow - wide).abs().max() > 1e-4


def test_the_loss_of_the_networks_trains_every_parameter():
    ghn = tiny_ghn(num_message_passes=2)
    loss = sum(
        batched_forward(stack_state_dicts([state_dict]), torch.randn(6, 3)).square().mean()
        for state_dict in ghn(MIXED, latents(5))
    )
    loss.backward()
    assert [name for name, p in ghn.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_weights_are_differentiable_in_their_own_latents():
    ghn, drawn = tiny_ghn(), latents(2).requires_grad_()
    flat(ghn([architecture(8), architecture(5, 5)], drawn)[1]).square().sum().backward()
    assert drawn.grad[1].abs().sum() > 0
    assert drawn.grad[0].abs().sum() == 0


def test_the_rms_of_a_matrix_is_its_learned_gain():
    ghn = tiny_ghn()
    for network, state_dict in zip(MIXED, ghn(MIXED, latents(5))):
        for layer, (_, fan_in) in enumerate(network.layer_shapes):
            rms = state_dict[f"{2 * layer}.weight"].square().mean().sqrt()
            assert rms.item() == pytest.approx((2 / fan_in) ** 0.5, rel=1e-3)
    torch.nn.init.constant_(ghn.decoder.to_gain.bias, 1.0)
    # a gain of e instead of 1
    (state_dict,) = ghn([architecture(8)], latents(1))
    assert state_dict["2.weight"].square().mean().sqrt().item() == pytest.approx(2.718 * 0.5, rel=1e-3)


# Alignment across architectures


@pytest.mark.parametrize("hidden_sizes", [(17,), (40, 5), (5, 40), (33, 50, 20)])
def test_networks_wider_than_the_templates_have_distinct_units(hidden_sizes):
    network = architecture(*hidden_sizes)
    (state_dict,) = tiny_ghn()([network], latents(1))
    for layer, shape in enumerate(network.layer_shapes):
        weight = state_dict[f"{2 * layer}.weight"]
        assert tuple(weight.shape) == shape
        assert weight.isfinite().all()
    # Templates repeat in wider layers, but convolutions do not, so all units are distinct.
    rows = state_dict["0.weight"]
    assert torch.cdist(rows, rows).fill_diagonal_(1).min() > 1e-4


def test_units_of_a_layer_keep_their_meaning_across_widths():
    ghn, drawn = tiny_ghn(), latents(1)
    narrow, wide = (ghn([architecture(width)], drawn)[0]["0.weight"][:12] for width in (12, 13))
    shuffled = wide[torch.randperm(12, generator=torch.Generator().manual_seed(0))]
    aligned, unaligned = (torch.cosine_similarity(narrow.flatten(), w.flatten(), dim=0) for w in (wide, shuffled))
    assert aligned > 0.9
    assert unaligned < 0.5


# Generation


def test_generated_networks_take_raw_inputs():
    ghn = tiny_ghn(observation_mean=MEAN, observation_std=STD)
    inputs = torch.tensor(MEAN) + torch.randn(20, 3) * torch.tensor(STD)
    standardised = (inputs - torch.tensor(MEAN)) / torch.tensor(STD)
    for index, network in enumerate(ghn.generate(MIXED, latents=latents(5))):
        state_dict = ghn([MIXED[index]], latents(5)[index : index + 1])[0]
        expected = batched_forward(stack_state_dicts([state_dict]), standardised)[0]
        assert network.architecture == MIXED[index]
        torch.testing.assert_close(network(inputs), expected, atol=1e-4, rtol=1e-4)


def test_generated_networks_are_ready_to_be_saved_and_trained(tmp_path):
    (network,) = tiny_ghn().generate([architecture(8, 8)])
    assert all(p.is_leaf and p.requires_grad and p.dtype == torch.float32 for p in network.parameters())
    network.save_pretrained(tmp_path)
    assert torch.equal(type(network).from_pretrained(tmp_path)[0].weight, network[0].weight)


def test_generation_is_reproducible_with_one_generator_or_one_per_network():
    ghn, architectures = tiny_ghn(), [architecture(8), architecture(5, 5), architecture(8)]

    def generators():
        return [torch.Generator().manual_seed(seed) for seed in (1, 2, 3)]

    first, again = (ghn.generate(architectures, torch.Generator().manual_seed(0)) for _ in range(2))
    for network, same in zip(first, again):
        torch.testing.assert_close(dict(network.state_dict()), dict(same.state_dict()))
    # a network with its own generator does not depend on the others
    together = ghn.generate(architectures, generators())
    (alone,) = ghn.generate(architectures[1:2], generators()[1])
    torch.testing.assert_close(dict(together[1].state_dict()), dict(alone.state_dict()), atol=1e-5, rtol=1e-4)


def test_a_saved_ghn_gives_the_same_networks(tmp_path):
    ghn = tiny_ghn(observation_mean=[1 / 3, 0.1, 2**-30], observation_std=STD)
    ghn.save_pretrained(tmp_path)
    loaded, again = (GraphHyperNetwork.from_pretrained(tmp_path) for _ in range(2))
    assert loaded.config.observation_mean == [1 / 3, 0.1, 2**-30]
    assert all(torch.equal(tensor, loaded.state_dict()[key]) for key, tensor in ghn.state_dict().items())
    networks, same, identical = (model.generate(MIXED, latents=latents(5)) for model in (ghn, loaded, again))
    for index in range(5):
        # equal up to rounding: the memory layout of parameters can change the order of sums
        expected = dict(networks[index].state_dict())
        torch.testing.assert_close(dict(same[index].state_dict()), expected, atol=1e-5, rtol=1e-5)
        assert torch.equal(flat(same[index].state_dict()), flat(identical[index].state_dict()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_half_precision_ghn_generates_float32_networks(tmp_path, dtype):
    tiny_ghn().save_pretrained(tmp_path)
    ghn = GraphHyperNetwork.from_pretrained(tmp_path, torch_dtype=dtype)
    (network,) = ghn.generate([architecture(8)], torch.Generator().manual_seed(0))
    assert network(torch.randn(4, 3)).dtype == torch.float32


# Errors


def test_architectures_of_another_task_are_refused():
    ghn = tiny_ghn()
    wanted = r"= \(3, 2, 'relu'\), but received"
    with pytest.raises(ValueError, match=rf"{wanted} \(4, 2, 'relu'\)"):
        ghn([MLPArchitecture(4, (8,), 2)], latents(1))
    with pytest.raises(ValueError, match=rf"{wanted} \(3, 2, 'tanh'\)"):
        ghn([architecture(8), architecture(8, activation="tanh")], latents(2))
    with pytest.raises(ValueError, match="at least one `MLPArchitecture`, but received none"):
        ghn([], latents(0))


@pytest.mark.parametrize("shape", [(1, 4), (2, 3), (2, 4, 1)])
def test_latents_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"of shape \(2, 4\) \(networks, latent_dim\), but received"):
        tiny_ghn()([architecture(8)] * 2, torch.zeros(shape))


def test_layer_roles_are_first_hidden_and_last():
    assert [ROLES[layer_role(layer, 4)] for layer in range(4)] == ["first", "hidden", "hidden", "last"]
    assert [ROLES[layer_role(layer, 2)] for layer in range(2)] == ["first", "last"]
