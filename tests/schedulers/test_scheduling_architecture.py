import pytest
import torch

from nnit_diffusers import NNiTArchitectureScheduler
from nnit_diffusers.architecture import MASK_TOKEN


NUM_SLOTS, VOCABULARY = 4, 6


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def all_masked(rows):
    return torch.full((rows, NUM_SLOTS), MASK_TOKEN)


def flat_logits(rows):
    """Logits `[rows, slots, vocabulary]`: all tokens but the mask are equally likely."""
    logits = torch.zeros(rows, NUM_SLOTS, VOCABULARY)
    logits[..., MASK_TOKEN] = float("-inf")
    return logits


def run(scheduler, logits, tokens, num_inference_steps=5, **kwargs):
    scheduler.set_timesteps(num_inference_steps)
    for t in scheduler.timesteps:
        tokens = scheduler.step(logits, t, tokens, **kwargs).prev_sample
    return tokens


# Timesteps


@pytest.mark.parametrize("num_inference_steps", [1, 3, 20, 1000])
def test_timesteps_descend_evenly_from_all_masked(num_inference_steps):
    scheduler = NNiTArchitectureScheduler()
    scheduler.set_timesteps(num_inference_steps)
    assert scheduler.timesteps[0] == 1000
    assert len(scheduler.timesteps) == scheduler.num_inference_steps == num_inference_steps
    ends = torch.cat([scheduler.timesteps, torch.zeros(1)])
    torch.testing.assert_close(-ends.diff(), torch.full((num_inference_steps,), 1000 / num_inference_steps))


@pytest.mark.parametrize("num_inference_steps", [1, 3, 7, 1000])
def test_the_last_step_leaves_no_mask(num_inference_steps):
    tokens = run(NNiTArchitectureScheduler(), flat_logits(20), all_masked(20), num_inference_steps)
    assert (tokens != MASK_TOKEN).all()


# Denoising steps


def test_known_tokens_never_change():
    sample = torch.tensor([[5, MASK_TOKEN, 3, MASK_TOKEN]]).expand(50, -1)
    tokens = run(NNiTArchitectureScheduler(), flat_logits(50), sample)
    assert (tokens[:, 0] == 5).all() and (tokens[:, 2] == 3).all()
    assert sample.tolist() == [[5, MASK_TOKEN, 3, MASK_TOKEN]] * 50


def test_each_step_unmasks_the_scheduled_fraction():
    scheduler = NNiTArchitectureScheduler()
    scheduler.set_timesteps(4)
    tokens = all_masked(1000)
    for t, left in zip(scheduler.timesteps, [0.75, 0.5, 0.25, 0.0], strict=True):
        tokens = scheduler.step(flat_logits(1000), t, tokens, generator=seeded(int(t))).prev_sample
        assert (tokens == MASK_TOKEN).float().mean() == pytest.approx(left, abs=0.03)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_samples_follow_the_predicted_distribution(temperature):
    logits = torch.tensor([float("-inf"), 0.0, 1.0, 2.0, -1.0, 0.5]).expand(1000, NUM_SLOTS, VOCABULARY)
    tokens = run(NNiTArchitectureScheduler(), logits, all_masked(1000), temperature=temperature, generator=seeded())
    frequencies = torch.bincount(tokens.flatten(), minlength=VOCABULARY) / tokens.numel()
    torch.testing.assert_close(frequencies, (logits[0, 0] / temperature).softmax(dim=-1), atol=0.03, rtol=0)


@pytest.mark.parametrize("temperature", [1e-30, 1e-300, 5e-324])
def test_the_lowest_temperatures_draw_the_likeliest_token_that_is_allowed(temperature):
    logits = torch.tensor([float("-inf"), 0.0, 1.0, 2.0, -1.0, 0.5]).expand(20, NUM_SLOTS, VOCABULARY)
    allowed = torch.tensor([False, True, True, False, True, True])
    options = {"temperature": temperature, "generator": seeded()}
    tokens = run(NNiTArchitectureScheduler(), logits, all_masked(20), **options)
    assert (tokens == 3).all()
    tokens = run(NNiTArchitectureScheduler(), logits, all_masked(20), allowed_tokens=lambda *_: allowed, **options)
    assert (tokens == 2).all()


def test_tokens_of_one_step_obey_a_common_constraint():
    def at_most_seven_in_all(row, tokens, slot):
        spent, open_slots = sum(tokens), tokens.count(MASK_TOKEN) - 1
        return torch.arange(VOCABULARY) <= 7 - spent - open_slots

    tokens = run(
        NNiTArchitectureScheduler(), flat_logits(200), all_masked(200), 1, allowed_tokens=at_most_seven_in_all
    )
    assert (tokens.sum(dim=1) <= 7).all() and (tokens >= 1).all()
    assert len(tokens.unique(dim=0)) > 10


def test_a_constraint_receives_its_row():
    tokens = run(
        NNiTArchitectureScheduler(),
        flat_logits(3),
        all_masked(3),
        allowed_tokens=lambda row, tokens, slot: torch.arange(VOCABULARY) == row + 2,
    )
    assert tokens.tolist() == [[2] * NUM_SLOTS, [3] * NUM_SLOTS, [4] * NUM_SLOTS]


def test_a_row_with_its_own_generator_does_not_depend_on_the_others():
    scheduler = NNiTArchitectureScheduler()
    together = run(scheduler, flat_logits(5), all_masked(5), generator=[seeded(seed) for seed in range(5)])
    for row in range(5):
        alone = run(scheduler, flat_logits(1), all_masked(1), generator=[seeded(row)])
        assert alone[0].tolist() == together[row].tolist()
    assert len(together.unique(dim=0)) > 1


def test_the_same_generator_gives_the_same_tokens():
    scheduler = NNiTArchitectureScheduler()
    first, second, third = (
        run(scheduler, flat_logits(10), all_masked(10), generator=seeded(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_the_clean_prediction_fills_masks_with_the_likeliest_token():
    scheduler = NNiTArchitectureScheduler()
    scheduler.set_timesteps(2)
    logits = flat_logits(50)
    logits[..., 4] = 1.0
    output = scheduler.step(logits, scheduler.timesteps[0], all_masked(50), generator=seeded())
    masked = output.prev_sample == MASK_TOKEN
    assert masked.any() and not masked.all()
    assert (output.pred_original_sample[masked] == 4).all()
    assert torch.equal(output.pred_original_sample[~masked], output.prev_sample[~masked])


def test_tuple_and_dataclass_outputs_are_equal():
    scheduler = NNiTArchitectureScheduler()
    scheduler.set_timesteps(2)
    arguments = (flat_logits(6), scheduler.timesteps[0], all_masked(6))
    output = scheduler.step(*arguments, generator=seeded())
    prev_sample, pred_original_sample = scheduler.step(*arguments, generator=seeded(), return_dict=False)
    assert torch.equal(output.prev_sample, prev_sample) and torch.equal(output[0], prev_sample)
    assert torch.equal(output.pred_original_sample, pred_original_sample)


def test_half_precision_logits_are_sampled_from():
    tokens = run(NNiTArchitectureScheduler(), flat_logits(5).to(torch.float16), all_masked(5))
    assert tokens.dtype == torch.long and (tokens > MASK_TOKEN).all()


# Noise


def test_noise_masks_in_proportion_to_the_timestep():
    scheduler = NNiTArchitectureScheduler()
    tokens = torch.full((3, 4000), 3)
    noisy = scheduler.add_noise(tokens, torch.tensor([0.0, 250.0, 1000.0]), generator=seeded())
    masked = (noisy == MASK_TOKEN).float().mean(dim=1)
    assert masked[0] == 0 and masked[1] == pytest.approx(0.25, abs=0.03) and masked[2] == 1
    assert set(noisy.unique().tolist()) == {MASK_TOKEN, 3}


def test_noise_of_a_row_with_its_own_generator_does_not_depend_on_the_others():
    scheduler = NNiTArchitectureScheduler()
    tokens = torch.full((4, 10), 3)
    together = scheduler.add_noise(tokens, torch.tensor(500), generator=[seeded(seed) for seed in range(4)])
    alone = scheduler.add_noise(tokens[2:3], torch.tensor([500]), generator=[seeded(2)])
    assert torch.equal(together[2:3], alone)


# Configuration and errors


def test_another_mask_token_is_used():
    scheduler = NNiTArchitectureScheduler(mask_token_id=5)
    noisy = scheduler.add_noise(torch.zeros(1, 8, dtype=torch.long), torch.tensor([1000]))
    assert (noisy == 5).all()
    logits = torch.zeros(1, 8, VOCABULARY)
    logits[..., 5] = float("-inf")
    assert (run(scheduler, logits, noisy) != 5).all()


def test_a_saved_scheduler_loads_with_its_config(tmp_path):
    NNiTArchitectureScheduler(num_train_timesteps=100).save_pretrained(tmp_path)
    loaded = NNiTArchitectureScheduler.from_pretrained(tmp_path)
    assert loaded.config.num_train_timesteps == len(loaded) == 100
    loaded.set_timesteps(10)
    assert loaded.timesteps[0] == 100
    assert all(compatible is not None for compatible in loaded.compatibles)


def test_invalid_arguments_are_refused():
    scheduler = NNiTArchitectureScheduler()
    with pytest.raises(ValueError, match="call `set_timesteps`"):
        scheduler.step(flat_logits(1), 1000, all_masked(1))
    with pytest.raises(ValueError, match="`num_inference_steps` must be 1 to 1000, but received 0"):
        scheduler.set_timesteps(0)
    with pytest.raises(ValueError, match="`num_inference_steps` must be 1 to 1000, but received 1001"):
        scheduler.set_timesteps(1001)
    scheduler.set_timesteps(2)
    with pytest.raises(ValueError, match="`temperature` must be positive, but received 0"):
        scheduler.step(flat_logits(1), 1000, all_masked(1), temperature=0)
    with pytest.raises(ValueError, match="`generator` must be one or 3 .* but received 2"):
        scheduler.step(flat_logits(3), 1000, all_masked(3), generator=[seeded(), seeded()])
