"""Imports the large libraries that the model is built on, so that the tests begin sooner.

While pytest's import hook for shapes loads a module of ours, Python finds no compiled code: whatever that module imports
for the first time is compiled from its source, thousands of files. So these libraries must have been imported before.
"""

from importlib import import_module

for _name in ("pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl", "models.controlnets.controlnet"):
    import_module(f"diffusers.{_name}")
