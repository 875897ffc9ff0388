import pandas as pd
import pytest
import torch

from nnit_diffusers import MLP, MLPArchitecture
from nnit_diffusers.tasks.tables import NumberColumn, TableSchema, Target, predict_table


CLASSES = TableSchema(Target("y", "classes", ("no", "yes")), (NumberColumn("x", 0.0, 3.0, False),))
NUMBERS = TableSchema(Target("y", "numbers"), (NumberColumn("x", 0.0, 3.0, False),))
FRAME = pd.DataFrame({"note": "text", "x": [2.0, None, 1.0]})


def network(*rows):
    """A network of one hidden unit, whose outputs are these multiples of a positive input."""
    weights = {"0.weight": torch.ones(1, 1), "0.bias": torch.zeros(1), "2.bias": torch.zeros(len(rows))}
    architecture = MLPArchitecture(1, (1,), len(rows))
    return MLP.from_architecture(architecture, {**weights, "2.weight": torch.tensor(rows)[:, None]})


def test_a_class_comes_with_its_mean_probability():
    networks = [network(0.0, 1.0), network(4.0, 0.0)]
    predicted = predict_table(networks, CLASSES, FRAME)
    assert predicted["y"].tolist() == ["no"] * 3
    logits = torch.tensor([2.0, 3.0, 1.0], dtype=torch.float64)
    expected = ((-logits).sigmoid() + (4 * logits).sigmoid()) / 2
    assert predicted["y_probability"].tolist() == pytest.approx(expected.tolist())
    assert predict_table(networks[:1], CLASSES, FRAME)["y"].tolist() == ["yes"] * 3


def test_numbers_are_the_mean_of_the_networks_for_any_number_of_rows():
    predicted = predict_table([network(1.0), network(2.0)], NUMBERS, pd.concat([FRAME] * 1000))
    assert predicted["y"].tolist() == [3.0, 4.5, 1.5] * 1000
    assert list(predicted) == ["y"]
    assert len(predict_table([network(1.0)], NUMBERS, FRAME.iloc[:0])) == 0


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        ([], r"one network or more, but received none"),
        ([MLP(2, [3], 2)], r"must take 1 inputs and have 2 outputs"),
        ([MLP(1, [3], 3)], r"must have 2 outputs by the schema, but have 3"),
        ([network(float("nan"), 1.0)], r"finite outputs, but have others for row 1"),
        ([lambda inputs: torch.where(inputs > 2.5, torch.inf, inputs).expand(-1, 2)], r"others for row 2"),
    ],
)
def test_networks_that_do_not_fit_are_refused_in_one_line(networks, message):
    with pytest.raises(ValueError, match=message) as raised:
        predict_table(networks, CLASSES, FRAME)
    assert "\n" not in str(raised.value)
