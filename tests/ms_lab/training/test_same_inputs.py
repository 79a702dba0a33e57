"""What the UNet reads in training and what it reads of a request are the same numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ms_core.method.attention import explicit_attention
from ms_core.sampling.pipeline import ModelParts, MSDiffusionPipeline
from ms_core.spec import GenerationSpec, Subject
from ms_core.spec.resolve import resolve_batch
from ms_lab.data.records import TrainingSample
from ms_lab.mini.assemble import save_model
from ms_lab.mini.batches import TRAINING_REFERENCE, collate
from ms_lab.mini.random_scenes import SceneDrawer, SceneKind, SceneOdds
from ms_lab.mini.recipe import build_model
from ms_lab.mini.scenes import SceneComposer, SceneConfig
from ms_lab.mini.sprites import SpritePack
from ms_lab.training.denoising_stage import DenoisingStage
from ms_lab.training.mini import prepare_tokenizer, train_ready
from ms_lab.training.text_encoding import encode_captions
from tests.support.paths import ASSETS

# Loose boxes and varied drawings, so that places within boxes differ from the boxes.
ODDS = SceneOdds(loose=1.0, variation=1.0)


@pytest.fixture(scope="module")
def pack() -> SpritePack:
    return SpritePack.load(ASSETS / "smoke-sprites.zip")


@pytest.fixture(scope="module")
def samples(pack: SpritePack) -> list[TrainingSample]:
    composer, drawer = SceneComposer(pack, SceneConfig(TRAINING_REFERENCE, loose=1.0)), SceneDrawer(pack, ODDS)
    scenes = [drawer.draw(np.random.default_rng(count), count, SceneKind(1.0)) for count in (2, 1, 3)]
    return [composer.sample(replace(scene, scene_subject=False)) for scene in scenes]


def spec_of(sample: TrainingSample) -> GenerationSpec:
    """The request for what a training sample shows."""
    subjects = tuple(Subject(subject.phrase, subject.reference, subject.box) for subject in sample.subjects)
    return GenerationSpec(sample.caption, subjects, height=sample.height, width=sample.width, guidance_scale=1.0)


@torch.no_grad()
def test_inference_sees_the_subject_tokens_that_training_saw(
    pack: SpritePack, samples: list[TrainingSample], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = train_ready(build_model(prepare_tokenizer(tmp_path, pack), explicit_attention))
    save_model(model, tmp_path / "model", model.card, torch.float32)
    batch = collate(samples)
    nothing = torch.zeros(len(samples), dtype=torch.bool)
    text = encode_captions(model, batch.captions)
    data = DenoisingStage(model, model.unet, batch).attention_data(batch, nothing, nothing)

    pipeline = MSDiffusionPipeline(ModelParts.load(tmp_path / "model", torch.float32), device="cpu")
    read = pipeline.conditioner.encode(resolve_batch([spec_of(sample) for sample in samples], pipeline.card))
    subjects = read.attention_data.subjects
    assert torch.equal(subjects.present, data.subjects.present)
    assert subjects.present.sum(1).tolist() == [2, 1, 3]
    torch.testing.assert_close(subjects.tokens, data.subjects.tokens, atol=1e-4, rtol=0)
    torch.testing.assert_close(subjects.boxes, data.subjects.boxes, atol=1e-6, rtol=0)
    assert read.attention_data.latents_size == data.latents_size
    assert read.time_ids.tolist() == [[128, 128, 0, 0, 128, 128]] * 3
    torch.testing.assert_close(read.prompt_embeds, text.prompt_embeds, atol=1e-4, rtol=0)
    torch.testing.assert_close(read.pooled_prompt_embeds, text.pooled_prompt_embeds, atol=1e-4, rtol=0)
