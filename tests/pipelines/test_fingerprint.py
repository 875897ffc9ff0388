"""Fingerprints: what changes the networks of a pipeline changes one of them, and saving and loading does not."""

import json
from pathlib import Path

import pytest
from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler
from tiny import tiny_components, tiny_pipeline, tiny_tokenizer, tiny_transformer

from nnit_diffusers import NNiTArchitectureScheduler, NNiTPipeline
from nnit_diffusers.pipelines.fingerprint import fingerprints, sampler_sha256, sources_sha256, weights_sha256


NNIT = Path(__file__).parents[2] / "nnit"


def pipeline(**changed):
    return NNiTPipeline(**{**tiny_components(), **changed})


@pytest.mark.parametrize(
    "changed",
    [
        {"scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0)},
        {"scheduler": FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True)},
        {"scheduler": FlowMatchHeunDiscreteScheduler()},
        {"architecture_scheduler": NNiTArchitectureScheduler(num_train_timesteps=500)},
        {"min_width": 5},
        {"min_depth": 2},
        {"max_depth": 2},
        {"max_depth": None},
    ],
    ids=["shift", "sigmas", "class", "timesteps", "min_width", "min_depth", "max_depth", "every depth"],
)
def test_another_sampler_changes_the_hash_of_the_sampler_alone(changed):
    assert sampler_sha256(pipeline(**changed)) != sampler_sha256(pipeline())
    assert weights_sha256(pipeline(**changed)) == weights_sha256(pipeline())


def test_another_largest_width_changes_the_hash_of_the_sampler():
    assert sampler_sha256(pipeline(transformer=tiny_transformer(max_width=11))) != sampler_sha256(pipeline())


def test_other_weights_change_the_hash_of_the_weights_alone():
    changed = tiny_transformer()
    next(changed.parameters()).data.add_(1e-3)
    for components in ({"transformer": changed}, {"tokenizer": tiny_tokenizer(weight_scale=[0.5, 0.8, 1.6])}):
        assert weights_sha256(pipeline(**components)) != weights_sha256(pipeline())
        assert sampler_sha256(pipeline(**components)) == sampler_sha256(pipeline())


def test_what_is_not_called_changes_neither_hash_but_that_of_the_sources(tmp_path):
    whole, without = tiny_pipeline(ghn=True), tiny_pipeline()
    assert fingerprints(whole) == fingerprints(without)
    changed = tiny_pipeline(ghn=True)
    next(changed.ghn.parameters()).data.add_(1e-3)
    assert fingerprints(changed) == fingerprints(whole)
    assert len({sources_sha256(pipe) for pipe in (whole, without, changed)}) == 3
    changed.save_pretrained(tmp_path)
    assert sources_sha256(NNiTPipeline.from_pretrained(tmp_path)) == sources_sha256(changed)


def test_the_greatest_depth_is_the_same_named_or_left_to_the_tokenizer():
    assert sampler_sha256(pipeline(max_depth=4)) == sampler_sha256(pipeline(max_depth=None))


@pytest.mark.parametrize("shift", [3, 3.0, 1.0])
def test_saving_and_loading_changes_neither_hash(tmp_path, shift):
    saved = tiny_pipeline(ghn=True)
    saved.scheduler = FlowMatchEulerDiscreteScheduler(shift=shift, use_beta_sigmas=False)
    saved.save_pretrained(tmp_path)
    assert fingerprints(NNiTPipeline.from_pretrained(tmp_path)) == fingerprints(saved)


def test_an_entry_that_a_release_of_diffusers_adds_changes_nothing_while_it_has_its_default(tmp_path):
    # the file of an earlier release, which lacks an entry of this one
    saved = tiny_pipeline(ghn=True)
    saved.save_pretrained(tmp_path)
    path = tmp_path / "scheduler" / "scheduler_config.json"
    config = json.loads(path.read_text())
    del config["stochastic_sampling"]
    path.write_text(json.dumps({**config, "_diffusers_version": "0.30.0"}))
    assert fingerprints(NNiTPipeline.from_pretrained(tmp_path)) == fingerprints(saved)


@pytest.mark.parametrize("name", [path.parent.name for path in sorted(NNIT.glob("*/evaluation.json"))])
def test_published_evaluations_are_of_the_published_pipelines(name):
    settings = json.loads((NNIT / name / "evaluation.json").read_text(encoding="utf-8"))["settings"]
    assert settings.items() >= fingerprints(NNiTPipeline.from_pretrained(NNIT / name)).items()
