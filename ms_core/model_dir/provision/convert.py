"""Model directories from local files: a base, an image encoder and an adapter become one folder that can be loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from ms_core.config import CARD_FILE, CONTROLNETS, EMBEDDINGS, LORAS, WEIGHTS_FILE, Extras, ModelCard
from ms_core.errors import CheckpointError, ModelError, ModelNotFoundError, ModelTargetError, WrongImageEncoderError
from ms_core.method.checkpoint import infer_resampler_config, load_official_adapter, save_adapter
from ms_core.model_dir.inspection import INDEX_FILE, WRONG_IMAGE_ENCODER, inspect_model
from ms_core.model_dir.inspection.components import IMAGE_ENCODER, SCHEDULER, TEXT_ENCODERS, TOKENIZERS, UNET, VAE
from ms_core.model_dir.inspection.files import parse_json
from ms_core.model_dir.inspection.findings import Level
from ms_core.model_dir.inventory import MISSING_FILE, write_inventory
from ms_core.model_dir.loading import load_vae
from ms_core.model_dir.preview_map import fit_preview_map
from ms_core.model_dir.provision.bases import check_base_file, check_base_folder, read_json
from ms_core.model_dir.provision.parts import put_component, put_extra, put_image_encoder, put_vae
from ms_core.model_dir.provision.single_file import write_single_file
from ms_core.model_dir.provision.sources import SOURCES_FILE, ModelSources
from ms_core.model_dir.provision.targets import bytes_to_copy, check_target, file_size, measure_room, new_directory
from ms_core.model_dir.provision.weights import find_weights, load_tensors, put_file, read_tensor_headers

OnStep = Callable[[str], None]
Origins = Mapping[str, Mapping[str, str]]


def build_model(sources: ModelSources, target: Path, force: bool, on_step: OnStep) -> None:
    """Make a model directory; it appears at ``target`` when it is whole, and never before.

    Weights are hard-linked where source and target share a file system, else copied; ``.fp16`` goes from their names.
    A model that is replaced hands on its LoRAs, ControlNets and embeddings, unless the new one brings its own.

    Args:
        sources: what it is made of.
        target: of the directory.
        force: whether a model directory there is replaced.
        on_step: told what is being done.

    Raises:
        ModelTargetError: the target exists or cannot be written.
        ModelNotFoundError, CheckpointError, WrongImageEncoderError: a source is missing, broken or does not fit.
    """
    check_target(target, force)
    _check_base(sources)
    _check_room(sources, target)
    with new_directory(target) as directory:
        # Another process may have made one since.
        check_target(target, force)
        on_step("base")
        _put_base(sources, directory)
        on_step("adapter")
        card = _put_adapter(sources, directory)
        on_step("image encoder")
        put_image_encoder(sources.image_encoder, directory / IMAGE_ENCODER, card.resampler)
        for path, source in sources.extras.items():
            on_step(path)
            put_extra(source, directory / path)
        origins = sources.origins
        if target.is_dir():
            _copy_extras(target, directory, sources)
            card, origins = _keep_names(target, directory, card, origins)
        card.save(directory)
        text = json.dumps(origins, indent=2, ensure_ascii=False)
        (directory / SOURCES_FILE).write_text(text + "\n", encoding="utf-8")
        _check_result(directory)
        on_step("previews")
        replace(card, preview=fit_preview_map(load_vae(directory))).save(directory)
        _open_modes(directory)
        on_step("SHA-256 of all files")
        write_inventory(directory, sources.made_with)
        # All that took minutes, in which people may have put more files there.
        _copy_extras(target, directory, sources)


def _check_base(sources: ModelSources) -> None:
    """Name a base that is none before looking for what it would have."""
    if sources.base.is_dir():
        check_base_folder(sources.base)
    elif not sources.base.is_file():
        raise ModelNotFoundError(f"There is no base {sources.base}; give a folder or a single-file checkpoint of SDXL.")
    else:
        check_base_file(sources.base, read_tensor_headers(sources.base))
        _configs(sources)


def _check_room(sources: ModelSources, target: Path) -> None:
    """Refuse what cannot fit, before the first byte is written."""
    rewritten, linked = 0, list[Path]()
    extras = sources.extras.values()
    linked += [file for file in extras if not file.is_dir()]
    folders = [sources.image_encoder, *(path for path in extras if path.is_dir())]
    if sources.base.is_dir():
        folders += [sources.base / name for name in (UNET, *TEXT_ENCODERS)] + [sources.vae or sources.base / VAE]
    else:
        rewritten += file_size(sources.base)
    for weights in map(find_weights, folders):
        if weights.pickled:
            rewritten += weights.size
        else:
            linked += weights.files
    if sources.adapter.suffix == ".safetensors":
        linked.append(sources.adapter)
    else:
        # float32 becomes float16.
        rewritten += file_size(sources.adapter) // 2
    room = measure_room(target, rewritten + bytes_to_copy(linked, target))
    if not room.is_enough:
        raise ModelTargetError(room.describe("the model directory"))


def _put_base(sources: ModelSources, directory: Path) -> None:
    """Everything that SDXL itself needs, with the wanted VAE."""
    base, own_vae = sources.base, sources.base / VAE
    if base.is_dir():
        for name in (UNET, *TEXT_ENCODERS, *TOKENIZERS, SCHEDULER):
            put_component(base / name, directory / name, with_weights=name in (UNET, *TEXT_ENCODERS))
        for licence in sorted(base.glob("LICENSE*")):
            shutil.copyfile(licence, directory / licence.name)
        index = read_json(base / INDEX_FILE)
    else:
        configs = _configs(sources)
        own_vae = configs / VAE
        write_single_file(base, configs, directory, with_vae=sources.vae is None)
        index = read_json(directory / INDEX_FILE)
    if sources.vae is not None or base.is_dir():
        index[VAE] = put_vae(sources.vae or own_vae, directory / VAE, own_vae)
    index |= {
        "_class_name": "StableDiffusionXLPipeline",
        IMAGE_ENCODER: [None, None],
        "feature_extractor": [None, None],
    }
    (directory / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _put_adapter(sources: ModelSources, directory: Path) -> ModelCard:
    """The adapter in our layout, and the card with its sizes."""
    path, card = sources.adapter, sources.card
    if path.suffix != ".safetensors":
        with torch.device("meta"):
            unet: Any = cast("Any", UNet2DConditionModel).from_config(read_json(directory / UNET / "config.json"))
        adapter = load_official_adapter(path, unet, sources.heads)
        save_adapter(adapter, directory, torch.float16)
        return replace(card, resampler=adapter.resampler.config, num_dummy_tokens=adapter.dummy_tokens.shape[1])
    state = load_tensors(path)
    put_file(path, directory / WEIGHTS_FILE)
    if (path.parent / CARD_FILE).is_file():
        own = ModelCard.load(path.parent)
        return replace(card, resampler=own.resampler, num_dummy_tokens=own.num_dummy_tokens, reference=own.reference)
    dummy_tokens = state["dummy_tokens"].shape[1] if "dummy_tokens" in state else card.num_dummy_tokens
    return replace(card, resampler=infer_resampler_config(state, sources.heads), num_dummy_tokens=dummy_tokens)


def _copy_extras(old: Path, directory: Path, sources: ModelSources) -> None:
    """Take over what lies beside the model that is replaced, for people put their own files there; only what is new."""

    def put_new(source: str | Path, place: str | Path) -> None:
        if not Path(place).exists():
            put_file(Path(source), Path(place))

    for path in (path for name in (LORAS, CONTROLNETS, EMBEDDINGS) for path in sorted((old / name).glob("*"))):
        place = path.relative_to(old)
        # What the new model brings is not mixed with the old one's.
        if place.as_posix() in sources.extras:
            continue
        (directory / place).parent.mkdir(exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, directory / place, copy_function=put_new, dirs_exist_ok=True)
        else:
            put_new(path, directory / place)


def _keep_names(old: Path, directory: Path, card: ModelCard, origins: Origins) -> tuple[ModelCard, Origins]:
    """The card with the old one's presets, as far as their LoRAs are there, and the origins with the old ones."""
    known = parse_json(old / SOURCES_FILE) or {} if (old / SOURCES_FILE).is_file() else {}
    kept = {path: origin for path, origin in known.items() if "/" in path and (directory / path).exists()}
    try:
        presets = ModelCard.load(old).presets
    except ModelError:
        # A broken model is replaced without being asked.
        presets = {}
    loras = Extras.find(directory).loras
    usable = {name: preset for name, preset in presets.items() if all(lora.name in loras for lora in preset.loras)}
    return replace(card, presets={**usable, **card.presets}), {**kept, **origins}


def _configs(sources: ModelSources) -> Path:
    if sources.configs is None:
        raise ModelNotFoundError(
            f"{sources.base} holds no configs and tokenizers; give the folder of an SDXL model with --config."
        )
    return sources.configs


def _check_result(directory: Path) -> None:
    """Whether the parts belong together, as ``msd doctor`` sees it."""
    for finding in inspect_model(directory).findings:
        if finding.level is Level.ERROR:
            kinds = {WRONG_IMAGE_ENCODER: WrongImageEncoderError, MISSING_FILE: ModelNotFoundError}
            raise kinds.get(finding.code, CheckpointError)(f"{finding.sentence} {finding.remedy}")


def _open_modes(directory: Path) -> None:
    """Let all read what was written here that may read its configs: safetensors writes for the owner alone."""
    mode = (directory / CARD_FILE).stat().st_mode
    for file in directory.rglob("*.safetensors"):
        # A linked file is another's, too.
        if file.stat().st_nlink == 1:
            file.chmod(mode)
