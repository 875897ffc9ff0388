"""Finds, checks and loads files that may come from anyone.

`limits` has the limits of every size, `local` reads JSON and safetensors, `hub` and `pipelines` load components and
pipelines, and `registration` makes diffusers load them by name. `import nnit_diffusers` imports `registration` alone.
"""
