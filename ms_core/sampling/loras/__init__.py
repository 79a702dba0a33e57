"""LoRAs: files in kohya's and diffusers' formats, for the UNet and both text encoders, each for one request only."""

from ms_core.sampling.loras.files import LoraFile
from ms_core.sampling.loras.library import MAX_LOADED, NO_LORAS, LoraLibrary, Loras
from ms_core.sampling.loras.names import Target, find_targets

__all__ = ["MAX_LOADED", "NO_LORAS", "LoraFile", "LoraLibrary", "Loras", "Target", "find_targets"]
