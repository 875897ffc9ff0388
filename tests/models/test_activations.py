"""Models generate networks of every activation, and none with a bounded output."""

import pytest
from tiny import IN_FEATURES, OUT_FEATURES, tiny_components, tiny_tokenizer

from nnit_diffusers import MLP, GraphHyperNetwork, MLPArchitecture, NestedMLP, NNiTPipeline
from nnit_diffusers.architecture import ACTIVATIONS
from nnit_diffusers.data import WeightDatasetWriter


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_pipeline_generates_networks_of_its_activation(activation):
    pipeline = NNiTPipeline(**{**tiny_components(), "tokenizer": tiny_tokenizer(activation=activation)})
    pipeline.set_progress_bar_config(disable=True)
    (network,) = pipeline([[9, 7]], num_inference_steps=1).networks
    assert network.architecture == MLPArchitecture(IN_FEATURES, (9, 7), OUT_FEATURES, activation)


BOUNDED = MLPArchitecture(5, (6,), 3, "elu", "tanh")


def test_no_model_takes_a_network_with_a_bounded_output(tmp_path):
    message = "must have no output activation, but received 5-6-3-tanh"
    with pytest.raises(ValueError, match=f"`networks` {message}"):
        tiny_tokenizer(activation="elu").encode([MLP.from_architecture(BOUNDED)])
    with pytest.raises(ValueError, match=f"`network` {message}"):
        WeightDatasetWriter(tmp_path).add(MLP.from_architecture(BOUNDED), task="toy")
    for kind in (GraphHyperNetwork, NestedMLP):
        with pytest.raises(ValueError, match=f"`architectures` {message}"):
            kind(IN_FEATURES, OUT_FEATURES, "elu", max_width=12).generate([BOUNDED])
