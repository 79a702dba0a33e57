"""How much memory a model needs in each mode, told before it is loaded, and which mode fits."""

from ms_core.device.memory.choice import choose_mode, first_that_fits
from ms_core.device.memory.estimate import Estimate, Job, estimate_memory, estimate_modes
from ms_core.device.memory.sizes import ModelSizes, Precision

__all__ = [
    "Estimate",
    "Job",
    "ModelSizes",
    "Precision",
    "choose_mode",
    "estimate_memory",
    "estimate_modes",
    "first_that_fits",
]
