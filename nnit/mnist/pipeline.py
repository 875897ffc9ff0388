from nnit_diffusers import NNiTPipeline  # noqa: F401
