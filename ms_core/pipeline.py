"""The Python API's import path of the pipeline."""

from ms_core.sampling.pipeline import MSDiffusionPipeline

__all__ = ["MSDiffusionPipeline"]
