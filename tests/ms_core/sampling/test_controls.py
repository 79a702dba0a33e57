"""ControlNets: diffusers' own pictures, text tokens only, and what they refuse."""

from __future__ import annotations

import re
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.controlnet.pipeline_controlnet_sd_xl import StableDiffusionXLControlNetPipeline
from diffusers.pipelines.controlnet.pipeline_controlnet_sd_xl_img2img import (
    StableDiffusionXLControlNetImg2ImgPipeline,
)
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
from PIL import Image

from ms_core.config import CONTROLNETS
from ms_core.errors import BatchMismatchError, CheckpointError, PictureError, UnknownNameError
from ms_core.method.attention_data import TEXT_TOKENS
from ms_core.sampling.controls import MAX_KEPT, ControlNets, load_controlnet
from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_core.spec import Control, StartPicture, Subject
from tests.support.golden_model import write_golden_model
from tests.support.paths import GOLDEN, ROOT
from tests.support.plain_sdxl import (
    HEIGHT,
    WIDTH,
    diffusers_scheduler,
    our_latents,
    plain_latents,
    plain_sdxl,
    silent_spec,
    size_of,
)

NAMES = ("depth", "edges", "pose")
WEIGHTS = "diffusion_pytorch_model.safetensors"


def save_random_controlnet(directory: Path, seed: int) -> None:
    """A ControlNet of the tiny UNet whose "zero convolutions" are not zero, so that it acts."""
    net = ControlNetModel.from_unet(UNet2DConditionModel.from_pretrained(GOLDEN / "tiny-sdxl" / "unet"))
    generator = torch.Generator().manual_seed(seed)
    zeros = [net.controlnet_cond_embedding.conv_out, net.controlnet_mid_block, *net.controlnet_down_blocks]
    with torch.no_grad():
        for module in zeros:
            module.weight.normal_(std=0.2, generator=generator)
            module.bias.normal_(std=0.05, generator=generator)
    net.save_pretrained(directory)


def drawing(seed: int) -> Image.Image:
    """A control picture of the result's size."""
    pixels = torch.randint(0, 256, (HEIGHT, WIDTH, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(pixels.numpy())


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden model with three ControlNets."""
    directory = tmp_path_factory.mktemp("models") / "controlled"
    write_golden_model(directory)
    for seed, name in enumerate(NAMES):
        save_random_controlnet(directory / CONTROLNETS / name, seed)
    return directory


@pytest.fixture(scope="module")
def pipeline(directory) -> MSDiffusionPipeline:
    return MSDiffusionPipeline.from_pretrained(directory, device="cpu")


@pytest.fixture
def spec(reference_picture):
    return silent_spec(reference_picture(0), controls=(Control("edges", drawing(1)),))


def plain_control(directory: Path, names: list[str], scheduler: str = "euler"):
    """diffusers' pipeline with the model's ControlNets."""
    nets = [ControlNetModel.from_pretrained(directory / CONTROLNETS / name) for name in names]
    made = diffusers_scheduler(scheduler)
    return plain_sdxl(StableDiffusionXLControlNetPipeline, made, controlnet=nets if len(nets) > 1 else nets[0])


@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (0.25, 0.75), (0.3, 0.6)])
def test_one_control_is_diffusers_own(pipeline, directory, spec, guidance_scale, start: float, end: float) -> None:
    control = replace(spec.controls[0], scale=0.7, start=start, end=end)
    spec = replace(spec, guidance_scale=guidance_scale, controls=(control,))
    expected = plain_latents(
        plain_control(directory, ["edges"]),
        spec,
        image=control.image,
        controlnet_conditioning_scale=0.7,
        control_guidance_start=start,
        control_guidance_end=end,
    )
    torch.testing.assert_close(our_latents(pipeline, spec), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scheduler", ["euler", "heun"])
def test_two_controls_are_diffusers_own(pipeline, directory, spec, scheduler: str) -> None:
    controls = (
        Control("edges", drawing(1), scale=0.8, start=0.2),
        Control("depth", drawing(2), scale=0.5, end=0.6),
    )
    spec = replace(spec, scheduler=scheduler, controls=controls)
    expected = plain_latents(
        plain_control(directory, ["edges", "depth"], scheduler),
        spec,
        image=[control.image for control in controls],
        controlnet_conditioning_scale=[0.8, 0.5],
        control_guidance_start=[0.2, 0.0],
        control_guidance_end=[1.0, 0.6],
    )
    torch.testing.assert_close(our_latents(pipeline, spec), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scheduler", ["euler", "heun"])
def test_a_control_of_a_start_picture_is_diffusers_own(pipeline, directory, spec, scheduler: str) -> None:
    """When a control acts is told of the steps that are really done."""
    control = replace(spec.controls[0], start=0.2, end=0.7)
    start = StartPicture(drawing(5), 0.6)
    spec = replace(spec, scheduler=scheduler, num_inference_steps=8, controls=(control,), start=start)
    net = ControlNetModel.from_pretrained(directory / CONTROLNETS / "edges")
    expected = plain_latents(
        plain_sdxl(StableDiffusionXLControlNetImg2ImgPipeline, diffusers_scheduler(scheduler), controlnet=net),
        spec,
        image=start.image,
        strength=start.strength,
        control_image=control.image,
        controlnet_conditioning_scale=1.0,
        control_guidance_start=0.2,
        control_guidance_end=0.7,
    )
    torch.testing.assert_close(our_latents(pipeline, spec), expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("changes", [{"scale": 0.0}, {"start": 0.9}])
def test_a_control_that_never_acts_changes_nothing(pipeline, spec, changes) -> None:
    """From 0.9 on of four steps is after the begin of the last."""
    plain = plain_sdxl(StableDiffusionXLPipeline, diffusers_scheduler("euler"))
    silent = replace(spec, controls=(replace(spec.controls[0], **changes),))
    expected = plain_latents(plain, spec, **size_of(spec))
    torch.testing.assert_close(our_latents(pipeline, silent), expected, atol=1e-5, rtol=1e-5)


def test_the_control_sees_the_77_text_tokens_while_subjects_act(pipeline, spec, reference_picture) -> None:
    subjects = (*spec.subjects, Subject("beach", reference_picture(1), spec.subjects[0].box))
    acting = replace(spec, scale=1.0, subjects=subjects)
    seen: list[torch.Tensor] = []
    [net] = pipeline.control_nets.get(["edges"])
    handle = net.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["encoder_hidden_states"]), with_kwargs=True
    )
    try:
        changed = our_latents(pipeline, acting)
    finally:
        handle.remove()
    assert (changed - our_latents(pipeline, spec)).abs().max() > 1e-2
    with torch.no_grad():
        text, negative, *_ = pipeline.components.encode_prompt(spec.prompt, negative_prompt=spec.negative_prompt)
    for tokens in seen:
        assert tokens.shape == (2, TEXT_TOKENS, 64)
        assert torch.equal(tokens, torch.cat([negative, text]))
    assert len(seen) == spec.num_inference_steps


def test_rows_of_a_batch_have_pictures_scales_and_times_of_their_own(pipeline, spec) -> None:
    specs = [
        spec,
        replace(spec, controls=(Control("edges", drawing(3), scale=0.3, end=0.5),), seed=1),
        replace(spec, controls=(Control("edges", drawing(4), scale=0.0),), guidance_scale=1.0),
    ]
    for generation, single in zip(pipeline.run(specs), specs, strict=True):
        torch.testing.assert_close(generation.latents, our_latents(pipeline, single), atol=1e-3, rtol=1e-3)


def test_the_order_of_controls_does_not_matter_to_what_each_gets(pipeline, spec) -> None:
    controls = (Control("edges", drawing(1), scale=0.8), Control("depth", drawing(2), scale=0.5))
    one, other = (our_latents(pipeline, replace(spec, controls=order)) for order in (controls, controls[::-1]))
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_transparent_parts_of_a_control_picture_are_black(pipeline, spec) -> None:
    solid = Image.new("RGB", (WIDTH, HEIGHT), "black")
    solid.paste("white", (0, 0, WIDTH // 2, HEIGHT))
    alpha = solid.convert("L")
    transparent = Image.new("RGB", (WIDTH, HEIGHT), "white")
    transparent.putalpha(alpha)
    one, other = (
        our_latents(pipeline, replace(spec, controls=(Control("edges", image),))) for image in (solid, transparent)
    )
    assert torch.equal(one, other)


def test_a_picture_of_another_size_is_refused_at_the_call(pipeline, spec) -> None:
    controls = (*spec.controls, Control("depth", Image.new("RGB", (WIDTH, HEIGHT + 8))))
    with pytest.raises(PictureError, match=f"{WIDTH} x {HEIGHT + 8} pixels.* {WIDTH} x {HEIGHT}") as caught:
        pipeline.generate(replace(spec, controls=controls))
    assert caught.value.pointer == "/controls/1/image"


def test_an_unknown_name_is_refused_at_the_call(pipeline, spec) -> None:
    with pytest.raises(UnknownNameError, match="it has depth, edges, pose") as caught:
        pipeline.generate(replace(spec, controls=(*spec.controls, Control("canny", drawing(1)))))
    assert caught.value.pointer == "/controls/1/name"


def test_rows_of_other_controls_cannot_share_a_batch(pipeline, spec) -> None:
    other = replace(spec, controls=(Control("depth", drawing(1)),))
    for mixed in ([spec, other], [spec, replace(spec, controls=())]):
        with pytest.raises(BatchMismatchError) as caught:
            pipeline.generate(mixed)
        assert caught.value.pointer == "/controls"


def test_a_bounded_number_stays_loaded(directory, pipeline) -> None:
    nets = ControlNets(directory, pipeline.unet)
    assert MAX_KEPT == 2
    edges = nets.get(["edges"])[0]
    nets.get(["depth"])
    assert nets.get(["edges", "edges"]) == [edges, edges]
    nets.get(["pose"])
    assert nets.loaded == ("edges", "pose")
    nets.get(NAMES)
    assert nets.loaded == NAMES
    nets.get(["edges"])
    assert nets.loaded == ("pose", "edges")
    nets.forget()
    assert nets.loaded == ()


def test_the_bundled_edge_map_is_what_its_script_makes() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "make-edge-map"))
    made = np.asarray(script["find_edges"](script["draw_scene"]()))
    with Image.open(ROOT / "assets" / "demo" / "edges.png") as bundled:
        edges = np.asarray(bundled)
    assert edges.shape == (1024, 1024)
    # Versions of OpenCV may differ in a pixel here and there.
    assert (edges != made).mean() < 0.001


def test_the_bundled_edges_lie_in_the_boxes_of_the_guide() -> None:
    guide = (ROOT / "docs" / "guides" / "controls.md").read_text(encoding="utf-8").split("edges.png")[0]
    boxes = [[float(number) for number in found.split(",")] for found in re.findall(r"\.png@([0-9.,]+)", guide)]
    with Image.open(ROOT / "assets" / "demo" / "edges.png") as bundled:
        edges = np.asarray(bundled) > 0
    assert len(boxes) == 2
    for x_min, y_min, x_max, y_max in boxes:
        place = slice(int(y_min * 1024), round(y_max * 1024)), slice(int(x_min * 1024), round(x_max * 1024))
        assert edges[place].sum() > 1000
        edges = edges.copy()
        edges[place] = False
    rows = np.flatnonzero(edges.any(axis=1))
    assert rows.max() - rows.min() < 5, "but for the table's edge nothing lies outside"


@pytest.fixture
def broken(directory, tmp_path) -> Path:
    """A ControlNet to break."""
    save_random_controlnet(tmp_path / "edges", 0)
    return tmp_path / "edges"


def test_weights_of_the_variant_fp16_will_do(broken, tiny_unet) -> None:
    (broken / WEIGHTS).rename(broken / WEIGHTS.replace(".safetensors", ".fp16.safetensors"))
    assert load_controlnet(broken, tiny_unet).dtype == tiny_unet.dtype


def test_a_controlnet_for_another_base_is_named(broken, tiny_unet) -> None:
    net = ControlNetModel(
        block_out_channels=(8, 16, 32),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        cross_attention_dim=48,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    net.save_pretrained(broken)
    with pytest.raises(CheckpointError, match="edges was made for another base model: its cross_attention_dim is 48"):
        load_controlnet(broken, tiny_unet)


def test_another_kind_of_control_is_named(broken, tiny_unet) -> None:
    config = broken / "config.json"
    config.write_text(config.read_text().replace("ControlNetModel", "ControlNetUnionModel"))
    with pytest.raises(CheckpointError, match="edges is a ControlNetUnionModel"):
        load_controlnet(broken, tiny_unet)


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
@pytest.mark.parametrize("fault", ["missing", "cut", "other"])
def test_a_broken_file_is_named_without_its_path(broken, tiny_unet, name: str, fault: str) -> None:
    path = broken / name
    if fault == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:100] if fault == "cut" else b"{}")
    with pytest.raises(CheckpointError, match="edges") as caught:
        load_controlnet(broken, tiny_unet)
    assert str(broken.parent) not in caught.value.detail


def test_pickled_weights_are_never_read(broken, tiny_unet) -> None:
    net = ControlNetModel.from_pretrained(broken)
    (broken / WEIGHTS).unlink()
    torch.save(net.state_dict(), broken / "diffusion_pytorch_model.bin")
    with pytest.raises(CheckpointError, match="safetensors"):
        load_controlnet(broken, tiny_unet)


def test_weights_that_lack_a_tensor_are_refused(broken, tiny_unet) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(broken / WEIGHTS)
    del weights["conv_in.bias"]
    save_file(weights, broken / WEIGHTS)
    with pytest.raises(CheckpointError, match="missing or broken"):
        load_controlnet(broken, tiny_unet)
