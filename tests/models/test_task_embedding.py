"""Models of several tasks: labels are checked, saved, and decide what is generated."""

import pytest
import torch
from tiny import tiny_ghn, tiny_transformer

from nnit_diffusers import GraphHyperNetwork, MLPArchitecture
from nnit_diffusers.loading.limits import MAX_TASKS


TASKS = ["reach", "push"]
ARCHITECTURES = [MLPArchitecture(5, (6, 4), 3)] * 2
LATENTS = torch.zeros(2, 4)


def test_a_hypernetwork_makes_other_weights_for_another_task():
    ghn = tiny_ghn(task_names=TASKS)
    with torch.no_grad():
        same, other = (
            ghn(ARCHITECTURES, LATENTS, torch.tensor([0, 0])),
            ghn(ARCHITECTURES, LATENTS, torch.tensor([0, 1])),
        )
    for key, tensor in same[0].items():
        assert torch.equal(tensor, same[1][key]) and torch.equal(tensor, other[0][key])
        assert not torch.allclose(tensor, other[1][key])


def test_the_names_are_part_of_the_model(tmp_path):
    ghn = tiny_ghn(task_names=TASKS)
    ghn.save_pretrained(tmp_path)
    loaded = GraphHyperNetwork.from_pretrained(tmp_path)
    assert loaded.config.task_names == TASKS
    labels = torch.tensor([1, 0])
    for network, other in zip(*(each.generate(ARCHITECTURES, None, LATENTS, labels) for each in (ghn, loaded))):
        torch.testing.assert_close(network.state_dict(), other.state_dict(), atol=0, rtol=0)


def test_a_model_of_one_task_has_no_embedding_and_takes_no_labels():
    ghn = tiny_ghn()
    assert not any("task" in name for name in ghn.state_dict())
    assert not any("task" in name for name in tiny_transformer().state_dict())
    with pytest.raises(ValueError, match="`task_labels` must be None, for the model has no tasks"):
        ghn(ARCHITECTURES, LATENTS, torch.tensor([0, 0]))


@pytest.mark.parametrize("labels", [None, [0], [0, 2], [-1, 0], [0.0, 1.0], [[0, 1]], [True, False]])
def test_a_hypernetwork_needs_a_task_for_every_network(labels):
    with pytest.raises(ValueError, match="`task_labels` must be 2 integers of 0 to 1"):
        tiny_ghn(task_names=TASKS)(ARCHITECTURES, LATENTS, None if labels is None else torch.tensor(labels))


def test_a_transformer_without_labels_predicts_for_any_task():
    transformer = tiny_transformer(task_names=TASKS)
    inputs = (torch.randn(2, 3, 16), torch.full((2,), 500.0), torch.tensor([[6, 1, 1, 1]] * 2), torch.zeros(2))
    positions = torch.zeros(2, 3, 5, dtype=torch.long)

    def predict(labels):
        with torch.no_grad():
            return transformer(*inputs, positions, task_labels=labels).sample

    assert torch.equal(predict(None), predict(torch.tensor([2, 2])))
    mixed = predict(torch.tensor([0, 2]))
    assert torch.allclose(mixed[1], predict(None)[1], atol=1e-6) and not torch.allclose(mixed[0], predict(None)[0])
    with pytest.raises(ValueError, match="2 integers of 0 to 2"):
        predict(torch.tensor([0, 3]))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "list of 1 to"),
        ("reach", "list of 1 to"),
        (["reach", ""], "list of 1 to"),
        (["a b"], "list of 1 to"),
        (["../x"], "list of 1 to"),
        ([1], "list of 1 to"),
        ([str(number) for number in range(MAX_TASKS + 1)], "list of 1 to"),
        (["reach", "reach"], "distinct"),
    ],
)
@pytest.mark.parametrize("make", [tiny_ghn, tiny_transformer])
def test_names_that_are_none_are_refused_before_anything_is_made(make, names, message):
    with pytest.raises(ValueError, match=message):
        make(task_names=names)
