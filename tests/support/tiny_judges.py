"""The classes of CLIP, DINOv2 and OWLv2 with tiny random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    Dinov2Config,
    Dinov2Model,
    Owlv2Config,
    Owlv2ForObjectDetection,
)

from ms_lab.mini.recipe import train_tokenizer

CAPTIONS = ["a red square and a blue disc on a table", "a photo of a red square", "a photo of a blue disc"]
_LAYER: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


def write_judges(folder: Path) -> None:
    """All three below a folder: ``clip``, ``dinov2`` and ``owlv2``."""
    torch.manual_seed(0)
    write_clip(folder / "clip")
    write_dinov2(folder / "dinov2")
    write_owlv2(folder / "owlv2")


def write_clip(path: Path) -> None:
    tokenizer: CLIPTokenizer = train_tokenizer(CAPTIONS)
    text = {**_LAYER, "vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id}
    vision = {**_LAYER, "image_size": 32, "patch_size": 16}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=32)).save_pretrained(path)
    tokenizer.save_pretrained(path)


def write_dinov2(path: Path) -> None:
    Dinov2Model(
        Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=56)
    ).save_pretrained(path)


def write_owlv2(path: Path) -> None:
    config = Owlv2Config(
        text_config={**_LAYER, "vocab_size": 2048},
        vision_config={**_LAYER, "image_size": 64, "patch_size": 16},
        projection_dim=32,
    )
    Owlv2ForObjectDetection(config).save_pretrained(path)
    tokenizer: CLIPTokenizer = train_tokenizer(CAPTIONS)
    tokenizer.save_pretrained(path)
