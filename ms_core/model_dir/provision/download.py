"""The SDXL model from the hub: what must be fetched, whether there is room for it, and how it becomes a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ms_core.errors import DownloadError
from ms_core.model_dir.provision.hub import Hub, HubFile, Part
from ms_core.model_dir.provision.repositories import (
    ADAPTER,
    ADAPTER_FILE,
    BASE,
    CONFIGS,
    DEFAULT_IMAGE_ENCODER,
    EXTRAS,
    IMAGE_ENCODERS,
    VAE,
    presets_of,
)
from ms_core.model_dir.provision.sources import ModelSources, sdxl_card
from ms_core.model_dir.provision.targets import Room, check_target, measure_room, share_disk

_LICENCES = (
    "Apache-2.0 (adapter), CreativeML Open RAIL++-M (base), MIT (VAE); image encoder and extras as their repositories say, "
    "see sources.json"
)


@dataclass(frozen=True, slots=True)
class DownloadRequest:
    """What is wanted.

    Attributes:
        target: of the model directory.
        made_with: the command that makes it again.
        image_encoder: one of ``IMAGE_ENCODERS``.
        extras: some of ``EXTRAS``.
        revisions: of parts by name, where it is not the main one.
        force: whether a model directory at the target is replaced.
        heads: of the resampler's attention; ``None`` for the released adapter.
    """

    target: Path
    made_with: str
    image_encoder: str = DEFAULT_IMAGE_ENCODER
    extras: Sequence[str] = ()
    revisions: Mapping[str, str] = field(default_factory=dict[str, str])
    force: bool = False
    heads: int | None = None

    @property
    def parts(self) -> tuple[Part, ...]:
        """All parts, those of the model first."""
        return (BASE, VAE, IMAGE_ENCODERS[self.image_encoder], ADAPTER, *(EXTRAS[name].part for name in self.extras))


@dataclass(frozen=True, slots=True)
class DownloadPlan:
    """What a download will do.

    Attributes:
        request: that it is for.
        files: all of them, fetched already or not.
        rooms: what will be written where: in the cache and, if that is another disk, at the target.
    """

    request: DownloadRequest
    files: tuple[HubFile, ...]
    rooms: tuple[Room, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def missing(self) -> int:
        """Bytes still to fetch."""
        return sum(file.missing for file in self.files)


def plan_download(request: DownloadRequest, hub: Hub) -> DownloadPlan:
    """Find out what must be fetched and whether there is room for it; nothing is fetched or written.

    Raises:
        ModelTargetError: the target exists or cannot be written.
        DownloadError: the hub cannot be asked, or lacks a file; a revision is given for a part that is not wanted.
    """
    check_target(request.target, request.force)
    unknown = sorted(set(request.revisions) - {part.name for part in request.parts})
    if unknown:
        names = ", ".join(part.name for part in request.parts)
        raise DownloadError(f"There is no part {unknown[0]!r} to take at a revision; the parts are {names}.")
    files = tuple(file for part in request.parts for file in hub.plan(part, request.revisions.get(part.name)))
    missing, total = sum(file.missing for file in files), sum(file.size for file in files)
    # float32 becomes float16, and half of it is written; on one disk all else is linked.
    adapter = sum(file.size for file in files if file.part == ADAPTER.name) // 2
    if share_disk(hub.cache, request.target):
        return DownloadPlan(request, files, (measure_room(request.target, missing + adapter),))
    rooms = (measure_room(hub.cache, missing), measure_room(request.target, total - adapter))
    return DownloadPlan(request, files, rooms)


def check_rooms(plan: DownloadPlan) -> None:
    """Refuse a download that will not fit.

    Raises:
        DownloadError: a disk has too little room.
    """
    for room in plan.rooms:
        if not room.is_enough:
            raise DownloadError(room.describe("this download"))


def fetch_model(plan: DownloadPlan, hub: Hub, on_bytes: Callable[[HubFile, int], None]) -> ModelSources:
    """Fetch what is missing, and return what the model is to be made of.

    Args:
        plan: of ``plan_download``.
        hub: the same.
        on_bytes: told of each file how many bytes came; a negative number when a transfer starts over.

    Raises:
        DownloadError: a disk has too little room, or the hub, the network or the disk fails meanwhile.
    """
    check_rooms(plan)
    paths: dict[tuple[str, str], Path] = {}
    for file in plan.files:
        paths[file.part, file.path] = hub.fetch(file, lambda count, file=file: on_bytes(file, count))
    return _sources(plan, paths)


def fetch_configs(hub: Hub) -> Path:
    """A folder with SDXL's configs and tokenizers, a few megabytes, for single-file checkpoints.

    Raises:
        DownloadError: the hub, the network or the disk fails.
    """
    fetched = {file.path: hub.fetch(file, lambda _: None) for file in hub.plan(CONFIGS)}
    return fetched["model_index.json"].parent


def _sources(plan: DownloadPlan, paths: Mapping[tuple[str, str], Path]) -> ModelSources:
    request = plan.request
    origins = {file.part: {"repository": file.repository, "revision": file.commit} for file in plan.files}
    extras: dict[str, Path] = {}
    for name in request.extras:
        origin = origins.pop(name)
        for file, place in EXTRAS[name].places.items():
            path = paths[name, file]
            extras[place] = path if place.endswith(path.suffix) else path.parent
            origins[place] = origin
    encoder = IMAGE_ENCODERS[request.image_encoder]
    return ModelSources(
        base=paths[BASE.name, "model_index.json"].parent,
        vae=paths[VAE.name, "config.json"].parent,
        image_encoder=next(path for (part, _), path in paths.items() if part == encoder.name).parent,
        adapter=paths[ADAPTER.name, ADAPTER_FILE],
        card=replace(sdxl_card(), presets=presets_of(request.extras), licence=_LICENCES),
        made_with=request.made_with,
        extras=extras,
        origins=origins,
        heads=request.heads,
    )
