"""Local files become a model directory that makes the same pictures as its parts, or a sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from ms_core.conditions.references import ReferencePreprocessor
from ms_core.config import CARD_FILE, WEIGHTS_FILE, ModelCard, Preset, PresetLora
from ms_core.errors import (
    CheckpointError,
    ModelError,
    ModelNotFoundError,
    ModelTargetError,
    WrongImageEncoderError,
)
from ms_core.model_dir.inventory import check_inventory
from ms_core.model_dir.loading import PREPROCESSOR_FILE, load_image_encoder, load_vae
from ms_core.model_dir.preview_map import fit_preview_map
from ms_core.model_dir.provision import convert
from ms_core.model_dir.provision.convert import build_model
from ms_core.model_dir.provision.sources import ModelSources, sdxl_card, sources_from
from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_core.spec import Box, GenerationSpec, Subject
from tests.support.single_file_checkpoint import write_single_file

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def sources(golden_directory: Path) -> ModelSources:
    return ModelSources(
        base=golden_directory / "tiny-sdxl",
        image_encoder=golden_directory / "image_encoder",
        adapter=golden_directory / "ms_adapter.bin",
        card=sdxl_card(),
        made_with="msd convert",
        heads=4,
    )


@pytest.fixture
def build(tmp_path: Path) -> Callable[[ModelSources], Path]:
    def make(sources: ModelSources, name: str = "model") -> Path:
        build_model(sources, tmp_path / name, False, lambda text: None)
        return tmp_path / name

    return make


@pytest.fixture
def base(golden_directory: Path, tmp_path: Path) -> Path:
    """A copy of the golden base, to be changed."""
    return shutil.copytree(golden_directory / "tiny-sdxl", tmp_path / "base")


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def final_latents(directory: Path, picture: Any) -> torch.Tensor:
    pipeline = MSDiffusionPipeline.from_pretrained(directory, device="cpu")
    subject = Subject(phrase="cat", image=picture, box=Box(0.1, 0.1, 0.9, 0.9))
    spec = GenerationSpec(prompt="a cat", subjects=(subject,), height=64, width=64, num_inference_steps=2, seed=1)
    return pipeline.run(spec)[0].latents


def test_a_folder_becomes_a_model(sources, build, golden_model_directory: Path, reference_picture) -> None:
    directory = build(sources)
    card = ModelCard.load(golden_model_directory)
    replace(card, reference=sdxl_card().reference).save(directory)
    # The adapter is float16 here, float32 there.
    picture = reference_picture(0)
    torch.testing.assert_close(
        final_latents(directory, picture), final_latents(golden_model_directory, picture), rtol=0, atol=0.05
    )


def test_the_card_is_that_of_sdxl(sources, build) -> None:
    card = ModelCard.load(build(sources))
    assert (card.name, card.reference.background, card.defaults.height) == ("sdxl", (0, 0, 0), 1024)
    assert (card.resampler.heads, card.resampler.feature_dim, card.num_dummy_tokens) == (4, 48, 4)
    assert (1024, 1024) in card.sizes


def test_the_card_tells_how_to_draw_previews(sources, build) -> None:
    model = build(sources)
    assert ModelCard.load(model).preview == fit_preview_map(load_vae(model))


def test_the_adapter_is_float16(sources, build) -> None:
    assert {tensor.dtype for tensor in load_file(build(sources) / WEIGHTS_FILE).values()} == {torch.float16}


def test_the_inventory_is_right_and_names_the_command(sources, build) -> None:
    directory = build(sources)
    assert check_inventory(directory, hashes=True) == []
    (directory / UNET).unlink()
    assert check_inventory(directory, hashes=False) == [f"{UNET} is missing; fetch it again with: msd convert"]


def test_all_can_read_what_was_written(sources, build) -> None:
    directory = build(sources)
    modes = {path.name: path.stat().st_mode for path in directory.rglob("*") if path.is_file()}
    assert modes[WEIGHTS_FILE] == modes[CARD_FILE]


def test_the_variant_goes_from_the_names(sources, build, base: Path) -> None:
    for name in ("unet/diffusion_pytorch_model", "text_encoder/model", "text_encoder_2/model"):
        (base / f"{name}.safetensors").rename(base / f"{name}.fp16.safetensors")
    directory = build(replace(sources, base=base))
    assert (directory / UNET).samefile(base / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    assert list(directory.rglob("*.fp16.*")) == []


def test_a_single_file_becomes_the_same_model(sources, build, tmp_path: Path) -> None:
    write_single_file(sources.base, tmp_path / "file.safetensors")
    directory = build(replace(sources, base=tmp_path / "file.safetensors", configs=sources.base))
    parts = build(sources, "parts")
    names = {path.relative_to(parts) for path in parts.rglob("*") if path.is_file()}
    assert {path.relative_to(directory) for path in directory.rglob("*") if path.is_file()} == names
    for name in (UNET, "vae/diffusion_pytorch_model.safetensors", "text_encoder_2/model.safetensors"):
        one, other = load_file(directory / name), load_file(parts / name)
        assert all(torch.equal(one[key], other[key]) for key in other)


def test_another_base_replaces_the_base_and_nothing_else(sources, build, base: Path, tmp_path: Path) -> None:
    lora = tmp_path / "style.safetensors"
    save_file({"lora_unet_x.lora_up.weight": torch.ones(2, 2)}, lora)
    card = replace(sdxl_card(), presets={"quick": Preset(num_inference_steps=4)})
    model = build(replace(sources, card=card, extras={"loras/style.safetensors": lora}))
    tuned = {name: tensor + 1 for name, tensor in load_file(base / UNET).items()}
    save_file(tuned, base / UNET)
    swapped = build(sources_from(model, base, "msd convert"), "swapped")
    assert torch.equal(load_file(swapped / UNET)["conv_in.weight"], tuned["conv_in.weight"])
    for name in (WEIGHTS_FILE, "vae/diffusion_pytorch_model.safetensors", "loras/style.safetensors"):
        assert (swapped / name).samefile(model / name)
    assert ModelCard.load(swapped) == ModelCard.load(model)


def test_a_model_made_anew_keeps_what_lies_beside_it(sources, build, tmp_path: Path) -> None:
    for name in ("quick", "style"):
        save_file({"lora_unet_x.lora_up.weight": torch.ones(2, 2)}, tmp_path / f"{name}.safetensors")
    presets = {"quick": Preset(loras=(PresetLora("quick"),)), "gone": Preset(loras=(PresetLora("gone"),))}
    extras = {"loras/quick.safetensors": tmp_path / "quick.safetensors"}
    origins = {"base": {"file": "old"}, "loras/quick.safetensors": {"file": "quick"}}
    card = replace(sdxl_card(), presets=presets)
    model = build(replace(sources, card=card, extras=extras, origins=origins))
    mine = model / "controlnets" / "mine"
    mine.mkdir(parents=True)
    (mine / "config.json").write_text("{}")
    (model / "embeddings").mkdir()
    (model / "embeddings" / "notes.txt").write_text("my own")
    extras = {"loras/style.safetensors": tmp_path / "style.safetensors"}
    build_model(replace(sources, extras=extras, origins={"base": {"file": "new"}}), model, True, lambda text: None)
    found = ModelCard.load(model)
    assert (found.extras.loras, found.extras.controls) == (("quick", "style"), ("mine",))
    assert (model / "embeddings" / "notes.txt").read_text() == "my own"
    assert set(found.presets) == {"quick"}
    assert json.loads((model / "sources.json").read_text()) == {
        "base": {"file": "new"},
        "loras/quick.safetensors": {"file": "quick"},
    }


def test_files_put_beside_a_model_while_it_is_made_anew_are_kept(sources, build) -> None:
    model = build(sources)
    mine = model / "controlnets" / "mine"
    mine.mkdir(parents=True)
    (mine / "config.json").write_text("{}")

    def add(step: str) -> None:
        if step.startswith("SHA-256"):
            (mine / "notes.txt").write_text("late")
            (model / "loras").mkdir()
            save_file({"lora_unet_x.lora_up.weight": torch.ones(2, 2)}, model / "loras" / "late.safetensors")

    build_model(sources, model, True, add)
    assert ModelCard.load(model).extras.loras == ("late",)
    assert (mine / "notes.txt").read_text() == "late"


def test_a_model_that_appears_meanwhile_is_not_replaced(sources, build, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(convert, "_check_room", lambda *arguments: (monkeypatch.undo(), build(sources)))
    with pytest.raises(ModelTargetError, match="exists already"):
        build_model(replace(sources, made_with="second"), tmp_path / "model", False, lambda text: None)
    assert json.loads((tmp_path / "model" / "files.json").read_text())["made_with"] == "msd convert"


def test_what_a_desktop_leaves_beside_a_model_is_no_part_of_it(sources, build) -> None:
    model = build(sources)
    for name in ("loras/._style.safetensors", "controlnets/.DS_Store", "controlnets/mine/model.bin"):
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_bytes(b"junk")
    assert sources_from(model, sources.base, "msd convert").extras == {}


def test_a_broken_model_can_be_made_anew(sources, build) -> None:
    model = build(sources)
    (model / CARD_FILE).write_text("{ broken")
    (model / "sources.json").write_text("{ broken")
    (model / UNET).unlink()
    build_model(sources, model, True, lambda text: None)
    assert check_inventory(model, hashes=True) == []


def test_a_single_file_replaces_the_base_with_the_models_configs(sources, build, base: Path, tmp_path: Path) -> None:
    model = build(sources)
    tuned = {name: tensor + 1 for name, tensor in load_file(base / UNET).items()}
    save_file(tuned, base / UNET)
    write_single_file(base, tmp_path / "tuned.safetensors")
    swapped = build(sources_from(model, tmp_path / "tuned.safetensors", "msd convert"), "swapped")
    assert torch.equal(load_file(swapped / UNET)["conv_in.weight"], tuned["conv_in.weight"])
    assert (swapped / "vae" / "diffusion_pytorch_model.safetensors").stat().st_nlink > 1


def test_an_index_of_another_sdxl_pipeline_is_no_matter(sources, build, base: Path) -> None:
    change(
        base / "model_index.json", _class_name="StableDiffusionXLImg2ImgPipeline", image_encoder=["transformers", "X"]
    )
    index = json.loads((build(replace(sources, base=base)) / "model_index.json").read_text())
    assert (index["_class_name"], index["image_encoder"]) == ("StableDiffusionXLPipeline", [None, None])


def test_the_preprocessing_is_clips_where_none_is_given(sources, build, tmp_path: Path, reference_picture) -> None:
    encoder = shutil.copytree(sources.image_encoder, tmp_path / "encoder")
    (encoder / PREPROCESSOR_FILE).unlink()
    directory = build(replace(sources, image_encoder=encoder))
    picture = reference_picture(1)
    made, given = (
        ReferencePreprocessor.load(folder, sdxl_card().reference)
        for folder in (directory / "image_encoder", sources.image_encoder)
    )
    assert torch.equal(made([picture]), given([picture]))


def test_a_whole_clip_gives_its_tower(sources, build, tmp_path: Path) -> None:
    tower = CLIPVisionModelWithProjection.from_pretrained(sources.image_encoder)
    vision = CLIPVisionConfig.from_pretrained(sources.image_encoder).to_dict()
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    whole = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
    whole.vision_model.load_state_dict(tower.vision_model.state_dict())
    whole.visual_projection.load_state_dict(tower.visual_projection.state_dict())
    whole.save_pretrained(tmp_path / "clip", max_shard_size="200KB")
    assert len(list((tmp_path / "clip").glob("*.safetensors"))) > 1
    directory = build(replace(sources, image_encoder=tmp_path / "clip"))
    assert not any("text" in name for name in load_file(directory / "image_encoder" / "model.safetensors"))
    pixels = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    taken = load_image_encoder(directory / "image_encoder", torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(taken(pixels).image_embeds, tower.eval()(pixels).image_embeds, rtol=0, atol=0.01)


def test_a_wrong_encoder_is_named_with_the_right_one(sources, build, tmp_path: Path) -> None:
    config = CLIPVisionConfig(
        hidden_size=32, intermediate_size=32, num_attention_heads=4, num_hidden_layers=2, patch_size=32
    )
    CLIPVisionModelWithProjection(config).save_pretrained(tmp_path / "encoder")
    with pytest.raises(WrongImageEncoderError, match=r"encoder is 32 wide .*needs 48.*--image-encoder"):
        build(replace(sources, image_encoder=tmp_path / "encoder"))


def test_another_kind_of_encoder_is_named(sources, build, tmp_path: Path) -> None:
    encoder = shutil.copytree(sources.image_encoder, tmp_path / "encoder")
    change(encoder / "config.json", model_type="siglip_vision_model")
    with pytest.raises(CheckpointError, match="contains no CLIP vision tower"):
        build(replace(sources, image_encoder=encoder))


def test_a_vae_of_another_family_is_named(sources, build, tmp_path: Path) -> None:
    vae = shutil.copytree(sources.base / "vae", tmp_path / "vae")
    change(vae / "config.json", scaling_factor=0.13025)
    with pytest.raises(CheckpointError, match=r"its scaling_factor is 0\.13025, the base needs 0\.18215"):
        build(replace(sources, vae=vae))
    change(vae / "config.json", scaling_factor=0.18215, _class_name="AutoencoderTiny")
    with pytest.raises(ModelError, match="AutoencoderTiny|model_index"):
        build(replace(sources, vae=vae))


def test_an_adapter_for_another_unet_is_named(sources, build, base: Path) -> None:
    tensors = {name: tensor for name, tensor in load_file(base / UNET).items() if "mid_block.attentions" not in name}
    save_file(tensors, base / UNET)
    change(base / "unet" / "config.json", mid_block_type="UNetMidBlock2D")
    with pytest.raises(CheckpointError, match="do not fit this UNet"):
        build(replace(sources, base=base))


def test_other_heads_than_the_file_can_have_are_refused(sources, build) -> None:
    with pytest.raises(CheckpointError, match="which 7 heads do not divide"):
        build(replace(sources, heads=7))


def test_what_is_no_adapter_is_named(sources, build, tmp_path: Path) -> None:
    torch.save({"ip_adapter": {}}, tmp_path / "ip-adapter.bin")
    with pytest.raises(CheckpointError, match="has exactly the entries"):
        build(replace(sources, adapter=tmp_path / "ip-adapter.bin"))
    save_file({"image_proj.x": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="lack resampler"):
        build(replace(sources, adapter=tmp_path / "other.safetensors"))


def test_a_converted_adapter_is_taken_with_its_numbers(sources, build, tmp_path: Path) -> None:
    model = build(sources)
    again = build(replace(sources, adapter=model / WEIGHTS_FILE, heads=None), "again")
    assert ModelCard.load(again).resampler == ModelCard.load(model).resampler
    alone = shutil.copy(model / WEIGHTS_FILE, tmp_path / "alone.safetensors")
    third = build(replace(sources, adapter=Path(alone)), "third")
    assert ModelCard.load(third).resampler == ModelCard.load(model).resampler


@pytest.mark.parametrize("name", [UNET, "text_encoder_2/model.safetensors", "vae/diffusion_pytorch_model.safetensors"])
def test_a_file_that_is_cut_off_is_named(sources, build, base: Path, name: str) -> None:
    (base / name).write_bytes((base / name).read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=rf"{name} is cut off"):
        build(replace(sources, base=base))


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("unet", r"There is no .*unet/config\.json"),
        ("tokenizer", "lacks its folder tokenizer"),
        ("vae", "base/vae holds no weights"),
        ("model_index.json", r"There is no .*model_index\.json"),
    ],
)
def test_what_a_base_lacks_is_named(sources, build, base: Path, missing: str, sentence: str) -> None:
    path = base / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(ModelNotFoundError, match=sentence):
        build(replace(sources, base=base))


def test_missing_sources_are_named(sources, build, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    with pytest.raises(ModelNotFoundError, match="There is no base"):
        build(replace(sources, base=nothing))
    with pytest.raises(ModelNotFoundError, match="nothing holds no weights"):
        build(replace(sources, image_encoder=nothing))
    with pytest.raises(ModelNotFoundError, match="There is no file .*nothing"):
        build(replace(sources, adapter=nothing))
    with pytest.raises(ModelNotFoundError, match="is not a model directory"):
        sources_from(nothing, sources.base, "msd convert")


def test_a_single_file_needs_configs(sources, build, tmp_path: Path) -> None:
    write_single_file(sources.base, tmp_path / "file.safetensors")
    with pytest.raises(ModelNotFoundError, match="holds no configs and tokenizers; give .* with --config"):
        build(replace(sources, base=tmp_path / "file.safetensors"))


def test_extras_are_safetensors_only(sources, build, tmp_path: Path) -> None:
    torch.save({}, tmp_path / "style.bin")
    with pytest.raises(CheckpointError, match="is not a safetensors file"):
        build(replace(sources, extras={"loras/style.bin": tmp_path / "style.bin"}))


def test_a_failure_leaves_nothing_behind(sources, build, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        build(replace(sources, heads=7))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small_is_refused_beforehand(
    sources, build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=10**6))
    with pytest.raises(ModelTargetError, match="too little space for the model directory: .* has 1.0 MB free"):
        build(sources)
    assert list(tmp_path.iterdir()) == []


def test_code_in_a_folder_of_weights_is_not_run(sources, build, base: Path) -> None:
    change(base / "model_index.json", unet=["evil", "UNet2DConditionModel"])
    with pytest.raises(CheckpointError, match="whose code is not allowed to run"):
        build(replace(sources, base=base))
