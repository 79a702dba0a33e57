"""SDXL with MS-Diffusion's adapter at full size and random weights, without a model directory; and the same classes, tiny.

The sizes are those of the published config files of SDXL base 1.0, its VAE, CLIP-ViT-bigG-14 and the released adapter, so
speed and memory are the real ones; the pictures are noise. ``sdxl_parts(FULL, device="meta")`` takes no memory at all.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from tokenizers import pre_tokenizers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from ms_core.conditions.references import ReferencePreprocessor
from ms_core.config import GenerationDefaults, ModelCard, ResamplerConfig
from ms_core.method.adapter import MSAdapter
from ms_core.sampling.pipeline import ModelParts

START, END = "<|startoftext|>", "<|endoftext|>"
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, slots=True)
class SDXLConfig:
    """Sizes of all parts: arguments of their classes.

    Attributes:
        vocabulary: tokens that the text encoders know; the tokenizer uses the bytes and the two special ones.
    """

    unet: dict[str, Any]
    vae: dict[str, Any]
    text: dict[str, Any]
    text_2: dict[str, Any]
    vision: dict[str, Any]
    card: ModelCard = field(default_factory=ModelCard)
    vocabulary: int = 49408


FULL = SDXLConfig(
    unet={
        "sample_size": 128,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (320, 640, 1280),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    vae={
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (128, 256, 512, 512),
        "layers_per_block": 2,
        "sample_size": 1024,
        "scaling_factor": 0.13025,
        "force_upcast": False,
    },
    text={
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "projection_dim": 768,
        "hidden_act": "quick_gelu",
    },
    text_2={
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 20,
        "projection_dim": 1280,
        "hidden_act": "gelu",
    },
    vision={
        "hidden_size": 1664,
        "intermediate_size": 8192,
        "num_hidden_layers": 48,
        "num_attention_heads": 16,
        "projection_dim": 1280,
        "image_size": 224,
        "patch_size": 14,
        "hidden_act": "gelu",
    },
)

TINY = SDXLConfig(
    unet=FULL.unet
    | {
        "sample_size": 16,
        "block_out_channels": (32, 64, 64),
        "transformer_layers_per_block": (1, 1, 2),
        "attention_head_dim": (2, 4, 4),
        "cross_attention_dim": 64,
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 32 + 6 * 8,
    },
    vae=FULL.vae | {"block_out_channels": (32, 32, 32, 32), "layers_per_block": 1, "sample_size": 128},
    text=FULL.text
    | {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "projection_dim": 32,
    },
    text_2=FULL.text_2
    | {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "projection_dim": 32,
    },
    vision=FULL.vision
    | {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "projection_dim": 32,
        "image_size": 56,
    },
    card=ModelCard(
        name="tiny",
        resampler=ResamplerConfig(dim=64, depth=2, heads=4, dim_head=16, feature_dim=48, phrase_dim=32, output_dim=64),
        defaults=replace(GenerationDefaults(), height=128, width=128),
        max_height=512,
        max_width=512,
    ),
    vocabulary=1024,
)


def sdxl_parts(
    config: SDXLConfig,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    home: torch.device | str | None = None,
    seed: int = 0,
) -> ModelParts:
    """All parts, for ``MSDiffusionPipeline``.

    Args:
        config: ``FULL`` or ``TINY``.
        dtype: of all weights.
        device: where the weights are drawn; "meta" draws none.
        home: where each model goes as soon as it is made, so that the device never holds more than one; ``None`` leaves it.
        seed: of the weights.
    """
    torch.manual_seed(seed)
    tokenizer = _tokenizer(config.vocabulary)
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "vocab_size": config.vocabulary,
    }

    def settled(model: Any) -> Any:
        model = model.eval().requires_grad_(False)
        return model if home is None else model.to(home)

    with _drawing(torch.device(device), dtype):
        unet = settled(UNet2DConditionModel(**config.unet))
        components = {
            "unet": unet,
            "vae": settled(AutoencoderKL(**config.vae)),
            "text_encoder": settled(CLIPTextModel(CLIPTextConfig(**config.text, **special))),
            "text_encoder_2": settled(CLIPTextModelWithProjection(CLIPTextConfig(**config.text_2, **special))),
        }
        image_encoder = settled(CLIPVisionModelWithProjection(CLIPVisionConfig(**config.vision)))
        adapter = settled(MSAdapter.for_unet(unet, config.card))
    side = config.vision["image_size"]
    return ModelParts(
        components=StableDiffusionXLPipeline(
            **components, tokenizer=tokenizer, tokenizer_2=tokenizer, scheduler=_scheduler(), add_watermarker=False
        ),
        image_encoder=image_encoder,
        preprocessor=ReferencePreprocessor(config.card.reference, side, side, CLIP_MEAN, CLIP_STD),
        adapter=adapter,
        card=config.card,
    )


@contextmanager
def _drawing(device: torch.device, dtype: torch.dtype) -> Generator[None]:
    """Make new weights on a device and in a dtype."""
    former = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(former)


def _scheduler() -> EulerDiscreteScheduler:
    """With the numbers of SDXL base 1.0."""
    return EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1
    )


def _tokenizer(vocabulary: int) -> CLIPTokenizer:
    """One token for each byte, within a word and at its end; the special ones are the last, as CLIP's are."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(f"{byte}</w>" for byte in alphabet)]
    vocab = {token: index for index, token in enumerate(tokens)} | {START: vocabulary - 2, END: vocabulary - 1}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=77)
