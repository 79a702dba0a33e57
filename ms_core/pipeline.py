"""The Python API's import path of the pipeline."""

import os

# Importing diffusers makes transformers warn about optional packages that nothing here needs.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from ms_core.sampling.pipeline import MSDiffusionPipeline  # noqa: E402 - transformers reads it when it is imported

__all__ = ["MSDiffusionPipeline"]
