"""The bundled model's parts: SDXL's own classes at a size that a CPU can train and run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from ms_core.config import GenerationDefaults, ModelCard, Preset, ReferenceConfig, ResamplerConfig
from ms_core.method.adapter import MSAdapter
from ms_core.method.attention import Attend, fused_attention
from ms_core.mini.unet import MiniUNet
from ms_core.mini.vae import MiniVAE
from ms_lab.mini.backgrounds import BACKGROUNDS
from ms_lab.mini.painting import TREATMENTS

TEXT_TOKENS = 77
VOCABULARY = 2048
START, END = "<|startoftext|>", "<|endoftext|>"
WIDTH_1, WIDTH_2, VISION_WIDTH, VISION_SIZE, VISION_PATCH = 128, 192, 192, 64, 8
TIME_IDS_DIM = 32
# References are cut and squashed to this before the image encoder halves it.
REFERENCE_SIZE = 2 * VISION_SIZE
REFERENCE_BACKGROUND = (255, 255, 255)
LATENT_CHANNELS = 12
# A subject's tokens stand for the squares of a grid of so many a side.
TOKENS_A_SIDE = 8


@dataclass(eq=False, slots=True)
class MiniModel:
    """All parts of one small model, as the pipeline loads them.

    Attributes:
        tokenizer: a ``CLIPTokenizer``, of both text encoders.
        text_encoder: a ``CLIPTextModel``.
        text_encoder_2: a ``CLIPTextModelWithProjection``.
        image_encoder: a ``CLIPVisionModelWithProjection``.
        unet: of our own.
        vae: of our own.
        adapter: for this UNet.
        scheduler: an ``EulerDiscreteScheduler``.
        card: without training facts.
    """

    tokenizer: Any
    text_encoder: Any
    text_encoder_2: Any
    image_encoder: Any
    unet: Any
    vae: MiniVAE
    adapter: MSAdapter
    scheduler: Any
    card: ModelCard


def build_card(tokens_a_side: int = TOKENS_A_SIDE) -> ModelCard:
    """The card of the small model, before training facts are known; a subject has ``tokens_a_side`` squared tokens."""
    return ModelCard(
        name="mini",
        resampler=ResamplerConfig(
            dim=192,
            depth=2,
            heads=6,
            dim_head=32,
            feature_dim=VISION_WIDTH,
            phrase_dim=WIDTH_1,
            output_dim=WIDTH_1 + WIDTH_2,
            num_queries=tokens_a_side**2,
            patches_per_query=VISION_SIZE // VISION_PATCH // tokens_a_side,
        ),
        reference=ReferenceConfig(
            size=REFERENCE_SIZE, background=REFERENCE_BACKGROUND, crop=True, keep_proportions=True
        ),
        defaults=GenerationDefaults(
            height=128, width=128, num_inference_steps=20, guidance_scale=2.0, scale=1.0, negative_prompt=""
        ),
        max_height=256,
        max_width=256,
        max_subjects=8,
        auto_layout=False,
        backgrounds=tuple(BACKGROUNDS),
        treatments=TREATMENTS,
        presets={
            "fast": Preset("Ten steps without guidance: less than half the time.", 10, guidance_scale=1.0, scale=1.2)
        },
    )


def train_tokenizer(texts: Iterable[str], vocabulary: int = VOCABULARY) -> Any:
    """A byte-level BPE tokenizer with CLIP's rules, learnt from ``texts``; every other script still has its bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=END))
    learner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(alphabet) - 2,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    learnt = learner.get_vocab()
    merges = _merges(learner)
    # Each byte must also stand as the end of a word, or a word ending in an unseen byte could not be written.
    tokens = [token for token, _ in sorted(learnt.items(), key=lambda item: item[1])]
    tokens += [f"{byte}</w>" for byte in alphabet if f"{byte}</w>" not in learnt]
    vocab = {token: index for index, token in enumerate([*tokens, START, END])}
    return cast("Any", CLIPTokenizer)(vocab=vocab, merges=merges, model_max_length=TEXT_TOKENS)


def _merges(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    merges: list[Sequence[str]] = json.loads(tokenizer.to_str())["model"]["merges"]
    return [(left, right) for left, right in merges]


def build_model(
    tokenizer: Any,
    attend: Attend = fused_attention,
    latent_channels: int = LATENT_CHANNELS,
    tokens_a_side: int = TOKENS_A_SIDE,
) -> MiniModel:
    """A model with random weights; ``latent_channels`` as an older one had, if that is trained further."""
    card = build_card(tokens_a_side)
    unet = _build_unet(latent_channels)
    return MiniModel(
        tokenizer=tokenizer,
        text_encoder=CLIPTextModel(_text_config(tokenizer, WIDTH_1)),
        text_encoder_2=CLIPTextModelWithProjection(_text_config(tokenizer, WIDTH_2)),
        image_encoder=CLIPVisionModelWithProjection(_vision_config()),
        unet=unet,
        vae=MiniVAE(latent_channels=latent_channels),
        adapter=MSAdapter.for_unet(unet, card, attend),
        scheduler=build_scheduler(),
        card=card,
    )


def build_scheduler() -> Any:
    """Velocity prediction on a cosine schedule; "trailing" steps, so that few of them still start from full noise."""
    return EulerDiscreteScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", timestep_spacing="trailing"
    )


def _text_config(tokenizer: Any, width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=3 * width,
        projection_dim=width,
        num_hidden_layers=3,
        num_attention_heads=width // 32,
        max_position_embeddings=TEXT_TOKENS,
        hidden_act="gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _vision_config() -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=VISION_WIDTH,
        intermediate_size=3 * VISION_WIDTH,
        projection_dim=128,
        num_hidden_layers=4,
        num_attention_heads=VISION_WIDTH // 32,
        image_size=VISION_SIZE,
        patch_size=VISION_PATCH,
        hidden_act="gelu",
    )


def _build_unet(latent_channels: int) -> Any:
    return cast("Any", MiniUNet)(
        sample_size=16,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=(96, 192),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        transformer_layers_per_block=(1, 2),
        attention_head_dim=(3, 6),
        cross_attention_dim=WIDTH_1 + WIDTH_2,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME_IDS_DIM,
        projection_class_embeddings_input_dim=WIDTH_2 + 6 * TIME_IDS_DIM,
    )
