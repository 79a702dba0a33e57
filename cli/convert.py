"""``msd convert``: make a model directory from local files, or give one another base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import again_command
from ms_core.errors import ModelNotFoundError

if TYPE_CHECKING:
    from ms_core.model_dir.provision.sources import ModelSources


def convert(  # noqa: PLR0913 - each is an option of the command
    base: Annotated[Path, typer.Option(help="SDXL or a fine-tune of it: a diffusers folder or a checkpoint file.")],
    out: Annotated[Path, typer.Option(help="Folder of the new model.")],
    image_encoder: Annotated[
        Path | None, typer.Option(help="Folder of the CLIP-ViT-bigG-14 vision tower, or of the whole CLIP.")
    ] = None,
    adapter: Annotated[Path | None, typer.Option(help="The authors' ms_adapter.bin, or a converted adapter.")] = None,
    model: Annotated[
        Path | None,
        typer.Option("--from", help="Model directory to take everything but the base from; its VAE is kept."),
    ] = None,
    vae: Annotated[Path | None, typer.Option(help="Folder of a VAE to use instead.")] = None,
    lora: Annotated[list[Path] | None, typer.Option(help="LoRA to add; may be repeated.")] = None,
    controlnet: Annotated[
        list[Path] | None, typer.Option(help="Folder of a ControlNet to add; may be repeated.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="Diffusers folder of any SDXL, for the configs and tokenizers that a checkpoint file lacks."),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Take configs from the hub's cache only.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a model directory at OUT.")] = False,
    resampler_heads: Annotated[int | None, typer.Option(min=1, hidden=True)] = None,
) -> None:
    """Make a model directory from local files, or a copy of one with another base.

    A checkpoint file has no configs or tokenizers: they come from --config, --from, or the hub (a few megabytes).
    """
    from dataclasses import replace

    from rich.console import Console

    from ms_core.model_dir.provision.convert import build_model
    from ms_core.model_dir.provision.sources import ModelSources, sdxl_card, sources_from

    console = Console()
    if model is not None:
        sources = sources_from(model, base, again_command())
    elif image_encoder is None or adapter is None:
        raise ModelNotFoundError("Give --image-encoder and --adapter, or --from and a model directory that has both.")
    else:
        sources = ModelSources(base, image_encoder, adapter, sdxl_card(), again_command(), heads=resampler_heads)
    sources = replace(
        sources,
        card=replace(sources.card, name=out.absolute().name),
        image_encoder=image_encoder or sources.image_encoder,
        adapter=adapter or sources.adapter,
        vae=vae or sources.vae,
        configs=config or sources.configs,
        extras={**sources.extras, **_extras(lora or (), controlnet or ())},
        heads=resampler_heads,
    )
    if base.is_file() and sources.configs is None:
        sources = replace(sources, configs=_fetch_configs(base, offline))
    sources = replace(sources, origins=_origins(sources, model))
    with console.status("Reading") as status:
        build_model(sources, out, force, lambda text: status.update(f"Making the model: {text}"))
    console.print(f"The model is in {out}; start it with: msd up --model {out}", highlight=False, soft_wrap=True)


def _extras(loras: Sequence[Path], controlnets: Sequence[Path]) -> dict[str, Path]:
    from ms_core.config import CONTROLNETS, LORAS

    return {
        **{f"{LORAS}/{file.name}": file for file in loras},
        **{f"{CONTROLNETS}/{folder.absolute().name}": folder for folder in controlnets},
    }


def _fetch_configs(base: Path, offline: bool) -> Path:
    """Configs from the hub, if the base is worth asking for them."""
    from ms_core.model_dir.provision.bases import check_base_file
    from ms_core.model_dir.provision.download import fetch_configs
    from ms_core.model_dir.provision.hub import Hub
    from ms_core.model_dir.provision.weights import read_tensor_headers

    check_base_file(base, read_tensor_headers(base))
    return fetch_configs(Hub(offline))


def _origins(sources: ModelSources, model: Path | None) -> dict[str, Mapping[str, str]]:
    """What came from where, by names alone; what is taken over from a model keeps its origin."""
    given = {
        "base": sources.base,
        "vae": sources.vae or sources.base,
        "image-encoder": sources.image_encoder,
        "adapter": sources.adapter,
        **sources.extras,
    }
    named = {part: {"file": path.absolute().name} for part, path in given.items()}
    if model is None:
        return dict(named)
    kept = {part for part, path in given.items() if part in sources.origins and path.is_relative_to(model)}
    return {part: sources.origins[part] if part in kept else origin for part, origin in named.items()}
