"""ControlNets: loaded by name on first use, and what they add to the UNet at each step.

A ControlNet sees the latents, its picture and the prompt, exactly as in diffusers' SDXL ControlNet pipeline; it never
sees subject tokens (the official script feeds it them as if they were text).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor

from ms_core.conditions.conditioning import Conditioning
from ms_core.conditions.references import opaque
from ms_core.config import CONTROLNETS
from ms_core.errors import CheckpointError, unknown_name
from ms_core.model_dir.loading import quiet
from ms_core.spec import Control
from ms_core.spec.resolve import ResolvedSpec

# At a time, unless one request needs more: an SDXL ControlNet has half the UNet's weights.
MAX_KEPT = 2
_BROKEN = (
    "The ControlNet {} cannot be loaded: its config.json or its safetensors are missing or broken; fetch it again."
)
_WEIGHTS = "diffusion_pytorch_model"
# What distinguishes bases; SDXL's small ControlNets differ from its UNet in everything else.
_SHARED_WITH_UNET = (
    "cross_attention_dim",
    "addition_embed_type",
    "block_out_channels",
    "layers_per_block",
    "in_channels",
)
# Under transparent control pictures: "nothing here" for edges, depth and pose.
BLACK = (0, 0, 0)


class ControlNets:
    """The ControlNets of one model directory; those used last stay loaded.

    Where they are is the business of ``ms_core.device.residency``; they are loaded onto the CPU.
    """

    def __init__(self, directory: Path | None, unet: Any) -> None:
        """Load nothing yet.

        Args:
            directory: of the model; ``None``: it has no ControlNets.
            unet: whose dtype and sizes they must share.
        """
        self._directory = directory
        self._unet = unet
        self._loaded: dict[str, Any] = {}

    @property
    def loaded(self) -> tuple[str, ...]:
        """Names, the last used last."""
        return tuple(self._loaded)

    def get(self, names: Sequence[str]) -> list[Any]:
        """The ``ControlNetModel`` of each name, in order; a name may come twice.

        Raises:
            UnknownNameError: there is none of this name.
            CheckpointError: it cannot be used, or was made for another base.
        """
        for name in self.loaded:
            if name not in names and len({*self._loaded, *names}) > MAX_KEPT:
                del self._loaded[name]
        for name in names:
            net = self._loaded.pop(name, None)
            self._loaded[name] = self._load(name) if net is None else net
        return [self._loaded[name] for name in names]

    def forget(self) -> None:
        """Let go of all of them, and of the memory they take."""
        self._loaded.clear()

    def _load(self, name: str) -> Any:
        if self._directory is None:
            raise unknown_name("ControlNet", name, (), "/controls")
        return load_controlnet(self._directory / CONTROLNETS / name, self._unet)


def load_controlnet(directory: Path, unet: Any) -> Any:
    """A ``ControlNetModel`` on the CPU, in the UNet's dtype: safetensors only, local files only.

    Args:
        directory: its own, in the diffusers layout; weights saved as the variant ``fp16`` will do.
        unet: the ``UNet2DConditionModel`` that it must fit.

    Raises:
        CheckpointError: a file is missing or cannot be used, or it was made for another base model.
    """
    variants = (None, "fp16")
    variant = next((name for name in variants if any(directory.glob(_weights_pattern(name)))), None)
    kind = cast("Any", ControlNetModel)
    try:
        with quiet():
            config: dict[str, Any] = kind.load_config(directory, local_files_only=True)
            _check_base(directory.name, config, unet)
            net, report = kind.from_pretrained(
                directory,
                dtype=unet.dtype,
                variant=variant,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
    except (OSError, SafetensorError, ValueError) as error:
        # The reason names paths of this machine, and a user reads this sentence.
        raise CheckpointError(_BROKEN.format(directory.name)) from error
    if report["missing_keys"]:
        raise CheckpointError(_BROKEN.format(directory.name))
    return net.eval()


def _weights_pattern(variant: str | None) -> str:
    """Name of the weights' file, or of their index."""
    return f"{_WEIGHTS}.safetensors*" if variant is None else f"{_WEIGHTS}*.{variant}.*"


def _check_base(name: str, config: dict[str, Any], unet: Any) -> None:
    """Refuse a ControlNet of another kind, or for a base model that is not SDXL."""
    kind = config.get("_class_name")
    if kind != ControlNetModel.__name__:
        raise CheckpointError(f"{name} is a {kind}; only plain ControlNets ({ControlNetModel.__name__}) can be used.")
    for key in _SHARED_WITH_UNET:
        theirs, ours = (json.dumps(value) for value in (config.get(key), unet.config[key]))
        if theirs != ours:
            raise CheckpointError(
                f"The ControlNet {name} was made for another base model: its {key} is {theirs}, here it is {ours}. "
                "Use one that was made for SDXL."
            )


@dataclass(frozen=True, slots=True)
class ControlInput:
    """One ControlNet and what it is given, row by row of the UNet's batch: unconditional rows first.

    Attributes:
        net: a ``ControlNetModel``.
        pictures: in [0, 1].
        controls: strength, start and end of each row.
    """

    net: Any
    pictures: Float[Tensor, "rows 3 height width"]
    controls: tuple[Control, ...]

    def scales(self, step_index: int, num_steps: int) -> tuple[float, ...]:
        """Strength of each row at a step; 0 where it does not act."""
        begin, end = step_index / num_steps, (step_index + 1) / num_steps
        return tuple(
            control.scale if control.start <= begin and end <= control.end else 0.0 for control in self.controls
        )


@dataclass(frozen=True, slots=True)
class Controls:
    """All ControlNets of one batch.

    Attributes:
        inputs: empty without any.
        num_steps: those that are really done.
    """

    inputs: tuple[ControlInput, ...]
    num_steps: int

    @property
    def nets(self) -> tuple[Any, ...]:
        """The ``ControlNetModel`` of each input."""
        return tuple(control.net for control in self.inputs)

    def residuals(
        self, latents: Float[Tensor, "rows c h w"], timestep: Tensor, step_index: int, conditioning: Conditioning
    ) -> dict[str, Any]:
        """Arguments for the UNet's call: what the ControlNets add to its blocks, summed; none if no one acts.

        Args:
            latents: as the UNet sees them.
        """
        down: list[Tensor] = []
        middle: Tensor | None = None
        for control in self.inputs:
            scales = control.scales(step_index, self.num_steps)
            if not any(scales):
                continue
            more_down, more_middle = control.net(
                latents,
                timestep,
                encoder_hidden_states=conditioning.prompt_embeds,
                controlnet_cond=control.pictures,
                conditioning_scale=latents.new_tensor(scales).view(-1, 1, 1, 1),
                added_cond_kwargs={
                    "text_embeds": conditioning.pooled_prompt_embeds,
                    "time_ids": conditioning.time_ids,
                },
                return_dict=False,
            )
            down = [one + other for one, other in zip(down, more_down, strict=True)] if down else list(more_down)
            middle = more_middle if middle is None else middle + more_middle
        if middle is None:
            return {}
        return {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}


def prepare_controls(
    batch: Sequence[ResolvedSpec], nets: Sequence[Any], num_steps: int, device: torch.device
) -> Controls:
    """The inputs of one batch.

    Args:
        nets: one for each control of a row; all rows have the same.
        num_steps: those that are really done.
        device: where the nets will work; they may be elsewhere still.
    """
    order = [*(index for index, row in enumerate(batch) if row.do_classifier_free_guidance), *range(len(batch))]
    inputs: list[ControlInput] = []
    for index, net in enumerate(nets):
        controls = [row.spec.controls[index] for row in batch]
        pictures = torch.stack([_pixels(control) for control in controls]).to(device, net.dtype)
        inputs.append(ControlInput(net, pictures[order], tuple(controls[row] for row in order)))
    return Controls(tuple(inputs), num_steps)


def _pixels(control: Control) -> Float[Tensor, "3 height width"]:
    """The control picture in [0, 1]."""
    return torch.tensor(np.array(opaque(control.image, BLACK))).permute(2, 0, 1).float() / 255.0
