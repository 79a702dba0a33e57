"""The real model classes on tiny random weights, through the same stages as the real ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    BertTokenizer,
    Blip2Config,
    Blip2ForConditionalGeneration,
    CLIPTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    Sam2Config,
    Sam2Model,
    SamConfig,
    SamModel,
    ViTConfig,
    ViTForImageClassification,
)

from ms_core.errors import CheckpointError, InvalidInputError, ModelNotFoundError
from ms_lab.data.config import PipelineConfig, load_config
from ms_lab.data.engine.run import check_models
from ms_lab.data.items import Clip
from ms_lab.data.stages.base import build_stages
from ms_lab.data.stages.grounding import GroundingStage
from ms_lab.data.stages.masks import MaskStage
from ms_lab.data.stages.match import MatchStage
from ms_lab.mini.recipe import train_tokenizer
from tests.ms_lab.data.made_clips import colour_clip, config_without_models, judged_clip
from tests.support.tiny_judges import CAPTIONS, write_dinov2, write_owlv2


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every model that the default configuration uses, tiny and random."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    for name, make in MAKERS.items():
        make(folder / name)
    return folder


def make_grounding_dino(path: Path) -> None:
    letters = [chr(letter) for letter in range(ord("a"), ord("z") + 1)]
    # The model knows the marks of its text by their numbers in BERT's vocabulary.
    vocabulary = [f"[unused{number}]" for number in range(1100)]
    vocabulary[:1], vocabulary[100:104] = ["[PAD]"], ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary[1012], vocabulary[1029] = ".", "?"
    vocabulary[1030 : 1030 + 52] = letters + [f"##{letter}" for letter in letters]
    path.mkdir()
    (path / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizer(str(path / "vocab.txt")).save_pretrained(path)
    config = GroundingDinoConfig(
        backbone_config={
            "model_type": "swin",
            "embed_dim": 8,
            "depths": [1, 1, 1, 1],
            "num_heads": [1, 1, 2, 2],
            "window_size": 4,
            "image_size": 64,
            "out_features": ["stage2", "stage3", "stage4"],
        },
        text_config={"model_type": "bert", "vocab_size": 1100, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32},
        d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, num_queries=12, fusion_dropout=0.0, use_pretrained_backbone=False,
    )  # fmt: skip
    GroundingDinoForObjectDetection(config).save_pretrained(path)


def make_sam2(path: Path) -> None:
    backbone = {
        "hidden_size": 8,
        "num_attention_heads": 1,
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 1, 1],
        "global_attention_blocks": [3],
        "image_size": [128, 128],
        "window_positional_embedding_background_size": [4, 4],
    }
    config = Sam2Config(
        vision_config={
            "backbone_config": {"model_type": "sam2_hiera_det_model", **backbone},
            "backbone_channel_list": [64, 32, 16, 8],
            "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
            "fpn_hidden_size": 32,
        },
        prompt_encoder_config={"hidden_size": 32, "image_size": 128, "patch_size": 16},
        mask_decoder_config={"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 32},
    )
    Sam2Model(config).save_pretrained(path)


def make_sam(path: Path) -> None:
    config = SamConfig(
        vision_config={"hidden_size": 16, "output_channels": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 64, "global_attn_indexes": [0], "mlp_dim": 32, "num_pos_feats": 8},
        prompt_encoder_config={"hidden_size": 16, "image_size": 64, "image_embedding_size": 4},
        mask_decoder_config={"hidden_size": 16, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16},
    )  # fmt: skip
    SamModel(config).save_pretrained(path)


def make_blip2(path: Path) -> None:
    tokenizer: CLIPTokenizer = train_tokenizer(CAPTIONS)
    tokenizer.save_pretrained(path)
    config = Blip2Config(
        vision_config={"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14},
        qformer_config={"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "encoder_hidden_size": 16, "vocab_size": 32},
        text_config={"model_type": "opt", "vocab_size": len(tokenizer), "hidden_size": 16, "word_embed_proj_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 32, "max_position_embeddings": 64},
        num_query_tokens=4, image_token_index=len(tokenizer) - 1,
    )  # fmt: skip
    Blip2ForConditionalGeneration(config).save_pretrained(path)


def make_classifier(path: Path) -> None:
    config = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32)
    config.id2label, config.label2id = {0: "normal", 1: "nsfw"}, {"normal": 0, "nsfw": 1}
    ViTForImageClassification(config).save_pretrained(path)


MAKERS = {
    "dinov2": write_dinov2,
    "owlv2": write_owlv2,
    "grounding_dino": make_grounding_dino,
    "sam2": make_sam2,
    "sam": make_sam,
    "blip2": make_blip2,
    "classifier": make_classifier,
}


def real_config(models: Path, **changes: Any) -> PipelineConfig:
    own = {
        "caption": {"options": {"model": str(models / "blip2"), "max_new_tokens": 4}},
        "grounding": {"options": {"model": str(models / "owlv2"), "threshold": 0.0}},
        "masks": {"options": {"model": str(models / "sam2")}},
        "match": {"options": {"model": str(models / "dinov2"), "side": 56}},
        "filters": {"unsafe_model": str(models / "classifier"), "max_unsafe": 1.0},
    }
    return load_config(None, {**own, **changes})


def captioned(clip: Clip) -> Clip:
    return replace(clip, frames=tuple(replace(frame, caption=CAPTIONS[0]) for frame in clip.frames))


def test_a_clip_passes_all_stages_with_the_default_classes(models: Path) -> None:
    config = real_config(models)
    check_models(config)
    clips = [captioned(colour_clip(seed)) for seed in range(2)]
    for stage in build_stages(config).values():
        clips = stage(clips)
    for clip in clips:
        assert {entity.phrase for entity in clip.frames[0].entities} == {"red square", "blue disc", "table"}
        found = [detection for frame in clip.frames for detection in frame.detections]
        assert found
        assert clip.pairs
        assert all(sum(own.mask) == 96 * 96 for own in found if own.mask is not None)


def test_the_captioner_says_something_of_every_frame(models: Path) -> None:
    stages = build_stages(real_config(models))
    (clip,) = stages["caption"]([colour_clip(0)])
    assert len({frame.caption for frame in clip.frames}) == 1


def test_grounding_dino_and_sam_1_stand_in(models: Path) -> None:
    config = real_config(
        models,
        grounding={
            "use": "ms_lab.data.models.grounding_dino:GroundingDinoDetector",
            "options": {"model": str(models / "grounding_dino"), "threshold": 0.0, "short_side": 256},
        },
        masks={"use": "ms_lab.data.models.sam:SamSegmenter", "options": {"model": str(models / "sam")}},
    )
    clips = build_stages(config)["entities"]([captioned(colour_clip(0))])
    for stage in (GroundingStage(config), MaskStage(config), MatchStage(config)):
        clips = stage(clips)
    phrases = {detection.phrase for frame in clips[0].frames for detection in frame.detections}
    assert phrases <= {"red square", "blue disc", "table"}
    assert phrases


def test_masks_have_the_frames_own_size(models: Path) -> None:
    clip = judged_clip(config_without_models())
    stretched = replace(clip.frames[0], pixels=np.ascontiguousarray(clip.frames[0].pixels[:64]))
    (made,) = MaskStage(real_config(models))([replace(clip, frames=(stretched,))])
    assert all(own.mask is None or sum(own.mask) == 64 * 96 for own in made.frames[0].detections)


def test_a_missing_model_is_named_with_what_gets_it(models: Path, tmp_path: Path) -> None:
    config = real_config(models, masks={"options": {"model": "nobody/no-such-model"}})
    with pytest.raises(
        ModelNotFoundError, match="nobody/no-such-model is not on this machine. Get it with: hf download"
    ):
        check_models(config)
    (tmp_path / "config.json").write_text((models / "dinov2" / "config.json").read_text())
    lacking = real_config(models, match={"options": {"model": str(tmp_path)}})
    with pytest.raises(ModelNotFoundError, match="missing or unreadable"):
        MatchStage(lacking)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="cannot be used"):
        MatchStage(lacking)


def test_a_classifier_needs_a_label_that_counts(models: Path) -> None:
    config = real_config(models, filters={"unsafe_model": str(models / "classifier"), "unsafe_labels": ["gore"]})
    with pytest.raises(InvalidInputError, match="knows none of"):
        build_stages(config)


def test_what_the_classifier_calls_unsafe_is_dropped(models: Path) -> None:
    config = real_config(models, filters={"unsafe_model": str(models / "classifier"), "max_unsafe": 0.0})
    (clip,) = build_stages(config)["filter"]([judged_clip(config_without_models())])
    assert all("unsafe" in {reason.filter for reason in against} for against in clip.reasons.values())
