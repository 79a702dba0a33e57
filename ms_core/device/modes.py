"""Memory modes: which parts of a model stay on the device, and which come only while they work; free of torch.

::

    24gb   everything stays
    12gb   text encoders, image encoder and ControlNets come only while they work
    8gb    every part comes only while it works, the UNet without the projections of text and subjects
    cpu    everything is on the CPU, in float32
"""

from __future__ import annotations

from typing import Literal, get_args

MemoryMode = Literal["24gb", "12gb", "8gb", "cpu"]
MemorySetting = Literal["auto", "24gb", "12gb", "8gb", "cpu"]

# ``projections`` are the keys' and values' weights of all cross-attention layers, for text and for subjects: what they
# give is kept for a whole request, so the UNet runs without them. ``unet`` is the rest of the UNet.
Part = Literal["text_encoders", "image_encoder", "resampler", "projections", "unet", "controlnets", "vae"]

PARTS: tuple[Part, ...] = get_args(Part)
MODES: tuple[MemoryMode, ...] = get_args(MemoryMode)
DEVICE_MODES: tuple[MemoryMode, ...] = ("24gb", "12gb", "8gb")

_RESIDENT: dict[MemoryMode, frozenset[Part]] = {
    "24gb": frozenset(PARTS),
    "12gb": frozenset(PARTS) - {"text_encoders", "image_encoder", "controlnets"},
    "8gb": frozenset(),
    "cpu": frozenset(PARTS),
}

_LARGEST_UNTILED_BYTES = 4 * 1024**2
TILE_SIDE = 1024


def resident_parts(mode: MemoryMode) -> frozenset[Part]:
    """Parts that stay on the device between their phases."""
    return _RESIDENT[mode]


def smaller_mode(mode: MemoryMode) -> MemoryMode:
    """The next mode that needs less memory on the same device; the same one if there is none."""
    later = DEVICE_MODES[DEVICE_MODES.index(mode) + 1 :] if mode in DEVICE_MODES else ()
    return later[0] if later else mode


def is_tiled(height: int, width: int, bytes_per_value: int) -> bool:
    """Whether the VAE takes a picture in tiles of ``TILE_SIDE``: one of more than 2 megapixels in 16 bits, 1 in 32.

    The size alone decides, never the mode: tiles change the picture a little, and every mode gives the same one.

    Args:
        height, width: of the picture, in pixels.
        bytes_per_value: of the VAE's dtype.
    """
    return height * width * bytes_per_value > _LARGEST_UNTILED_BYTES
