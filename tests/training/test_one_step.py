"""Generation in one step: what is minimised, and that it is learned."""

import pytest
import torch
from launching import TINY_NNIT, fresh_accelerate
from tiny import PATCH_SIZE, tiny_ghn, tiny_tokenizer, tiny_transformer
from tiny_tasks import TinyDataTask

from nnit_diffusers import MLP
from nnit_diffusers.data import WeightDatasetWriter
from nnit_diffusers.training import NNiTTrainingConfig
from nnit_diffusers.training.one_step import OneStepTeacher, predict_in_one_step
from nnit_diffusers.training.transformer import NNiTTrainer
from nnit_diffusers.training.transformer_losses import element_weights, function_errors, task_losses


# diffusers' own way to load averaged weights.
pytestmark = pytest.mark.filterwarnings("ignore:It is deprecated to pass a pretrained model name:FutureWarning")
NNIT = {**TINY_NNIT, "patch_size": PATCH_SIZE, "report_to": "none", "validation_steps": 10**6}
# Two networks of one architecture, which the mean of both is far from.
SIZES = [8]


@pytest.fixture(autouse=True)
def accelerate_of_this_test():
    with fresh_accelerate():
        yield


def trainer_of(folder, source=None, pretrained=None, **settings):
    config = NNiTTrainingConfig(**{**NNIT, **settings})
    return NNiTTrainer(TinyDataTask(), source or tiny_ghn(), config, folder, pretrained)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_transformer_without_pretraining_has_nothing_to_do_in_one_step(tmp_path):
    with pytest.raises(ValueError, match="`one_step_loss_weight` must be 0 for a transformer that is not pretrained"):
        trainer_of(tmp_path, one_step_loss_weight=0.5)


def test_the_loss_is_that_of_networks_predicted_from_noise_where_the_frozen_copy_gets_in_two_steps(tmp_path):
    weights = {"one_step_loss_weight": 0.5, "function_loss_weight": 0.25, "task_loss_weight": 2.0}
    trainer = trainer_of(tmp_path, pretrained=tiny_transformer(), train_batch_size=4, **weights)
    frozen = OneStepTeacher(trainer.pipeline)
    with torch.no_grad():
        for parameter in trainer.trained.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator()))
    batch = trainer.prepare_batch(generator())
    losses = trainer.losses(batch, trainer.counts(batch))
    # where the transformer before training gets in two steps, and the one that is trained in one
    clean, (inputs, targets) = batch.noised.clean, batch.samples.of(None)
    assert batch.noise[clean.element_mask].std() == pytest.approx(1, abs=0.2)
    assert (batch.noise[~clean.element_mask] == 0).all()
    taught = frozen(batch.noise, clean)
    patches = predict_in_one_step(trainer.model, batch.noise, clean)
    # the parts
    errors = (patches - taught).square() * element_weights(clean, trainer.config.bias_loss_weight)
    arguments = (clean.architectures, trainer.tokenizer)
    function = function_errors(patches, taught, *arguments, inputs)
    task = task_losses(patches, *arguments, trainer.task, inputs, targets)
    expected = (errors.sum() + 0.25 * function.sum() + 2 * task.sum()) / 4
    torch.testing.assert_close(losses["one_step"], expected)
    others = {name: loss for name, loss in losses.items() if name != "one_step"}
    torch.testing.assert_close(trainer.total_loss(losses), trainer.total_loss(others) + 0.5 * expected)


def test_a_resumed_run_has_the_teacher_that_it_began_with(tmp_path):
    settings = {"one_step_loss_weight": 1.0, "max_train_steps": 4, "checkpointing_steps": 2}
    settings |= {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8}
    transformers = []
    for folder, num_steps in (("whole", None), ("parts", 3), ("parts", None)):
        resumed = {"resume_from_checkpoint": "latest" if num_steps is None else None}
        # what the run began with is not needed again
        pretrained = None if (tmp_path / folder).exists() else tiny_transformer()
        trainer = trainer_of(tmp_path / folder, pretrained=pretrained, **settings, **resumed)
        if num_steps is not None:
            trainer.on_step = interrupt_after(num_steps)
            with pytest.raises(KeyboardInterrupt):
                trainer.run()
            continue
        trainer.run()
        transformers.append(trainer.trained.state_dict())
    whole, parts = transformers
    for key, tensor in whole.items():
        torch.testing.assert_close(parts[key], tensor)


def interrupt_after(num_steps):
    def on_step(step, metrics):
        if step == num_steps:
            raise KeyboardInterrupt

    return on_step


def test_without_it_the_noise_of_a_batch_is_what_it_was(tmp_path):
    with_it = trainer_of(tmp_path / "with", pretrained=tiny_transformer(), one_step_loss_weight=1.0)
    without = trainer_of(tmp_path / "without", pretrained=tiny_transformer())
    batches = [trainer.prepare_batch(generator()) for trainer in (with_it, without)]
    assert torch.equal(batches[0].noised.patches, batches[1].noised.patches) and batches[1].noise is None


def train(trainer, num_steps):
    batches = trainer.batches()
    for _ in range(num_steps):
        trainer.train_step([next(batches)])
    trainer.pipeline.set_progress_bar_config(disable=True)
    return trainer.pipeline


def distances(pipe, networks, num_steps):
    """Distance of generated networks from the nearer of the two, in distances between these."""
    output = pipe(arch=SIZES, num_networks=12, num_inference_steps=num_steps, generator=generator())
    found, known = (
        torch.stack([torch.nn.utils.parameters_to_vector(each.parameters()).detach() for each in group])
        for group in (output.networks, networks)
    )
    return torch.cdist(found, known).amin(dim=1) / torch.dist(*known), torch.cdist(found, known).argmin(dim=1)


def test_a_transformer_learns_to_generate_one_of_two_networks_in_one_step(tmp_path):
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    networks = [MLP.from_architecture(tokenizer.architecture(SIZES)) for _ in range(2)]
    with WeightDatasetWriter(tmp_path / "dataset") as writer:
        for network in networks:
            writer.add(network, task="tiny_data")
    settings = {
        "num_layers": 2,
        "attention_head_dim": 16,
        "train_batch_size": 16,
        "lr_warmup_steps": 10,
        "learning_rate": 5e-3,
        "use_ema": False,
        "masked_architecture_fraction": 0.0,
    }
    first = trainer_of(tmp_path / "first", tmp_path / "dataset", max_train_steps=150, **settings)
    before = train(first, 150)
    # the best prediction from noise alone is the mean of both
    between = distances(before, networks, 1)[0].median()
    assert between > 0.25
    tuned = {"max_train_steps": 120, "one_step_loss_weight": 1.0}
    second = trainer_of(tmp_path / "second", tmp_path / "dataset", before.transformer, **settings, **tuned)
    after = train(second, 120)
    nearest, which = distances(after, networks, 1)
    assert nearest.median() < 0.6 * between and set(which.tolist()) == {0, 1}
    # more steps lead to the same networks
    assert torch.equal(distances(after, networks, 8)[1], which)
