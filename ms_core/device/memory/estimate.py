"""Peak memory of a model in each mode.

The peak is the largest sum of any phase: weights that are on the device, what the phase computes, and workspaces.

- Weights are counted from the headers of the files, in the dtype they are loaded in.
- What a phase computes was counted on full-size SDXL without values ("meta" tensors, fused attention) and is linear in
  the sizes; a test counts again. UNet: 15.8 numbers for each latent cell, channel of its first level and row, so 165 MB a
  row at 1024 x 1024 in 16 bits. VAE: 3 numbers for each pixel and channel of its second level, so 1.6 GB. Image encoder:
  its hidden states, 51 MB.
- Workspaces of cuBLAS and cuDNN and the allocator's rounding are not counted but taken as 1 GB on a GPU: published peaks of
  SDXL (diffusers' "fast diffusion" tables: 8.96 in bfloat16 and 16.8 in float32, if those are GiB) lie 0.9 to 1.1 GB above
  these sums. They have not been measured here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ms_core.device.memory.sizes import ModelSizes, Precision
from ms_core.device.modes import DEVICE_MODES, TILE_SIDE, MemoryMode, Part, is_tiled, resident_parts

UNET_FACTOR = 15.9
VAE_FACTOR = 3.01
# Beside the hidden states that are handed out, one for each layer: those of the layer at work.
ENCODER_FACTOR = 13
# Far above what both text encoders compute, which is little.
TEXT_FACTOR = 60

DEVICE_WORKSPACE = 1_000_000_000
HOST_WORKSPACE = 300_000_000

TEXT_TOKENS = 77
LATENT_SIDE = 8

_PHASES: dict[str, Part] = {
    "text": "text_encoders",
    "pictures": "image_encoder",
    "subjects": "resampler",
    "projection": "projections",
    "denoise": "unet",
    "decode": "vae",
}


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be made, as far as memory goes.

    Attributes:
        height, width: of the pictures, in pixels.
        num_images: in one UNet batch, each with its unconditional row.
        num_subjects: of each picture, with one reference picture each.
    """

    height: int = 1024
    width: int = 1024
    num_images: int = 1
    num_subjects: int = 4


@dataclass(frozen=True, slots=True)
class Estimate:
    """Memory in one mode, in bytes.

    Attributes:
        resident: weights that stay on the device between the phases.
        phases: peak of each phase, by name, in their order.
    """

    mode: MemoryMode
    resident: int
    phases: Mapping[str, int]

    @property
    def peak(self) -> int:
        """Of the largest phase."""
        return self.phases[self.largest_phase]

    @property
    def largest_phase(self) -> str:
        """Name of the phase with the peak."""
        return max(self.phases, key=self.phases.__getitem__)


def estimate_memory(sizes: ModelSizes, mode: MemoryMode, job: Job, precision: Precision) -> Estimate:
    """What a model needs in one mode; ControlNets and LoRAs come on top, as they are asked for."""
    workspace = HOST_WORKSPACE if mode == "cpu" else DEVICE_WORKSPACE
    resident = resident_parts(mode)
    computed = _computed(sizes, job, precision)
    phases = {
        phase: sizes.weights({*resident, part}, precision) + computed[phase] + workspace
        for phase, part in _PHASES.items()
    }
    return Estimate(mode, sizes.weights(resident, precision), phases)


def estimate_modes(sizes: ModelSizes | None = None, job: Job | None = None) -> tuple[Estimate, ...]:
    """The table of modes: 16 bits on a GPU, largest first, then float32 on the CPU.

    Args:
        sizes: of the model; ``None``: SDXL with the released adapter.
        job: ``None``: one picture of 1024 x 1024 with four subjects.
    """
    sizes, job = sizes or ModelSizes(), job or Job()
    on_device = (estimate_memory(sizes, mode, job, Precision()) for mode in DEVICE_MODES)
    return (*on_device, estimate_memory(sizes, "cpu", job, Precision(models=4, vae=4)))


def _computed(sizes: ModelSizes, job: Job, precision: Precision) -> dict[str, int]:
    """Bytes that each phase computes; what it must keep for later phases is in theirs, too."""
    rows, subjects = 2 * job.num_images, job.num_subjects * job.num_images
    pixels = job.height * job.width
    image_numbers = sizes.image_tokens * sizes.image_width
    # Keys and values of one token in all layers: half of the projections make the text's, half the subjects'.
    per_token = sizes.projections // 2 // max(sizes.text_width, 1)
    kept = precision.models * per_token * (rows * TEXT_TOKENS + subjects * sizes.subject_tokens)
    unet_numbers = rows * pixels // LATENT_SIDE**2 * sizes.unet_channels
    decoded = TILE_SIDE**2 if is_tiled(job.height, job.width, precision.vae) else pixels
    return {
        "text": precision.models * rows * TEXT_TOKENS * sizes.text_width * TEXT_FACTOR,
        # One picture after the other; what was read of each stays.
        "pictures": precision.models * image_numbers * (sizes.image_layers + ENCODER_FACTOR + subjects),
        "subjects": precision.models * image_numbers * subjects * ENCODER_FACTOR,
        "projection": kept,
        "denoise": kept + int(precision.models * unet_numbers * UNET_FACTOR),
        "decode": kept + int(precision.vae * decoded * sizes.vae_channels * VAE_FACTOR),
    }
