"""The released few-step LoRAs for SDXL, and how their publishers say to use them; free of torch.

Sources: the model cards of the repositories named below. SDXL-Lightning: Euler with "trailing" timesteps, the LoRA of the
number of steps, no guidance. Hyper-SD: DDIM with "trailing" timesteps for the LoRAs of a number of steps, no guidance.
LCM-LoRA: the LCM scheduler, 2 to 8 steps, guidance off or at most 2.
"""

from __future__ import annotations

from dataclasses import dataclass

from ms_core.config import Preset, PresetLora


@dataclass(frozen=True, slots=True)
class LoraSource:
    """Where a LoRA is published: the repository on the model hub, and the file in it."""

    repository: str
    file: str


# By name in a model's ``loras`` folder. LCM's file is named like any diffusers LoRA, so it takes its repository's name.
SDXL_LORAS = {
    "sdxl_lightning_4step_lora": LoraSource("ByteDance/SDXL-Lightning", "sdxl_lightning_4step_lora.safetensors"),
    "sdxl_lightning_8step_lora": LoraSource("ByteDance/SDXL-Lightning", "sdxl_lightning_8step_lora.safetensors"),
    "Hyper-SDXL-8steps-lora": LoraSource("ByteDance/Hyper-SD", "Hyper-SDXL-8steps-lora.safetensors"),
    "lcm-lora-sdxl": LoraSource("latent-consistency/lcm-lora-sdxl", "pytorch_lora_weights.safetensors"),
}

SDXL_PRESETS = {
    "lightning-4": Preset(
        description="SDXL-Lightning in 4 steps, without guidance: the quickest.",
        num_inference_steps=4,
        guidance_scale=1.0,
        scheduler="euler",
        timestep_spacing="trailing",
        loras=(PresetLora("sdxl_lightning_4step_lora"),),
        extra="lightning",
    ),
    "lightning-8": Preset(
        description="SDXL-Lightning in 8 steps, without guidance.",
        num_inference_steps=8,
        guidance_scale=1.0,
        scheduler="euler",
        timestep_spacing="trailing",
        loras=(PresetLora("sdxl_lightning_8step_lora"),),
        extra="lightning",
    ),
    "hyper-8": Preset(
        description="Hyper-SD in 8 steps, without guidance.",
        num_inference_steps=8,
        guidance_scale=1.0,
        scheduler="ddim",
        timestep_spacing="trailing",
        loras=(PresetLora("Hyper-SDXL-8steps-lora"),),
        extra="hyper",
    ),
    "lcm-8": Preset(
        description="LCM-LoRA in 8 steps, without guidance.",
        num_inference_steps=8,
        guidance_scale=1.0,
        scheduler="lcm",
        loras=(PresetLora("lcm-lora-sdxl"),),
        extra="lcm",
    ),
}
