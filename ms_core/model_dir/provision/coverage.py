"""Whether every tensor of a single file is used: what is left out would make another model than its author's."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders import single_file_utils
from torch import Tensor

from ms_core.errors import CheckpointError
from ms_core.model_dir.inspection.components import TEXT_ENCODERS, UNET, VAE
from ms_core.model_dir.provision.scaled import packed_error

log = logging.getLogger(__name__)

# Untyped, like all of diffusers.
_DIFFUSERS: Any = single_file_utils

_SECOND_ENCODER = "conditioner.embedders.1."
# Beginnings of names, by component.
_PARTS = {
    UNET: "model.diffusion_model.",
    VAE: "first_stage_model.",
    TEXT_ENCODERS[0]: "conditioner.embedders.0.",
    TEXT_ENCODERS[1]: _SECOND_ENCODER,
}
# Of a component, and without effect on pictures: what is computed anyway, belongs to training, or to CLIP's other uses.
_HARMLESS = re.compile(
    r".*\.(?:position_ids|logit_scale|attn_mask)"
    r"|conditioner\.embedders\.0\..*text_projection(?:\.weight)?"
    r"|first_stage_model\.(?:loss|model_ema)\..*"
)
# Beside the components: averages, noise schedules, and marks of the training.
_HARMLESS_BESIDE = re.compile(
    r"(?:model_ema|denoiser|loss|loss_fn|model_sampling|optimizer|optimizer_states|lr_schedulers|callbacks)\..*"
    r"|(?:sqrt_|log_|posterior_)\w+|betas|alphas_cumprod(?:_prev)?|logvar|lvlb_weights|scale_factor"
    r"|global_step|epoch|iteration|v_pred|ztsnr"
)
_PLAIN = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)
_TEXT_MODEL = "text_model."


def check_storage(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Check that all weights are stored as plain floats.

    Raises:
        CheckpointError: one is packed, as in GGUF or bitsandbytes.
    """
    for name, tensor in tensors.items():
        if name.startswith(tuple(_PARTS.values())) and not _HARMLESS.fullmatch(name) and tensor.dtype not in _PLAIN:
            raise packed_error(path, name)


def check_all_used(tensors: Mapping[str, Tensor], components: Any, path: Path) -> None:
    """Check that the components of a single file have taken all its tensors; warn of those beside them.

    Args:
        tensors: of the file by name.
        components: a ``StableDiffusionXLPipeline`` made of it; without VAE, the file's is not wanted.
        path: of the file, for sentences.

    Raises:
        CheckpointError: a component left one out.
    """
    for part, beginning in _PARTS.items():
        component = getattr(components, part)
        if component is None:
            continue
        names = [name for name in tensors if name.startswith(beginning) and not _HARMLESS.fullmatch(name)]
        left = _unused(names, tensors, component, _CONVERTERS[part])
        if left:
            raise CheckpointError(
                f"{path} has tensors in its {part} that the model does not have: {_some(left)}. It is not a plain SDXL "
                "checkpoint, or its configs are of another kind; give those with --config, or take another file."
            )
    beside = [name for name in tensors if not name.startswith(tuple(_PARTS.values()))]
    strangers = [name for name in beside if not _HARMLESS_BESIDE.fullmatch(name)]
    if strangers:
        log.warning("%s has tensors that are not used: %s.", path.name, _some(strangers))


def _unused(
    names: Iterable[str],
    tensors: Mapping[str, Tensor],
    component: Any,
    convert: Callable[[dict[str, Tensor], Any], Mapping[str, Tensor]],
) -> list[str]:
    """Names whose tensors a component has not taken, found by converting numbers in their place."""
    numbered = list(names)
    marks = {name: torch.tensor(number).expand(tensors[name].shape) for number, name in enumerate(numbered)}
    # transformers leaves this part out for the first text encoder.
    wanted = {name.removeprefix(_TEXT_MODEL) for name in component.state_dict()}
    used: set[int] = set()
    for name, mark in convert(marks, component).items():
        if name.removeprefix(_TEXT_MODEL) in wanted:
            used |= {int(number) for number in mark.flatten()[:1]}
    return [name for number, name in enumerate(numbered) if number not in used]


def _some(names: list[str]) -> str:
    return f"{names[0]!r}" if len(names) == 1 else f"{names[0]!r} and {len(names) - 1} more"


_CONVERTERS: dict[str, Callable[[dict[str, Tensor], Any], Mapping[str, Tensor]]] = {
    UNET: lambda marks, unet: _DIFFUSERS.convert_ldm_unet_checkpoint(marks, unet.config),
    VAE: lambda marks, vae: _DIFFUSERS.convert_ldm_vae_checkpoint(marks, vae.config),
    TEXT_ENCODERS[0]: lambda marks, _: _DIFFUSERS.convert_ldm_clip_checkpoint(marks),
    TEXT_ENCODERS[1]: lambda marks, encoder: _DIFFUSERS.convert_open_clip_checkpoint(
        encoder, marks, f"{_SECOND_ENCODER}model."
    ),
}
