"""What the SDXL model needs of the hub, and whether there is room for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ms_core.errors import DownloadError, ModelTargetError
from ms_core.model_dir.provision.download import DownloadRequest, check_rooms, fetch_configs, fetch_model, plan_download
from ms_core.model_dir.provision.hub import Hub
from ms_core.model_dir.provision.repositories import EXTRAS, presets_of
from tests.support.hub_server import ADAPTER, BASE, WHOLE_CLIP, HubServer, golden_hub, use_hub
from tests.support.hub_server import Hub as Repositories
from tests.support.paths import GOLDEN

OTHER_DISK = Path("/dev/shm")


@pytest.fixture
def repositories() -> Repositories:
    return golden_hub()


@pytest.fixture(autouse=True)
def server(repositories: Repositories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer(repositories) as server:
        use_hub(server.endpoint, tmp_path / "home", monkeypatch)
        yield server


@pytest.fixture
def wanted(tmp_path: Path) -> DownloadRequest:
    return DownloadRequest(tmp_path / "sdxl", "msd download sdxl", heads=4)


def set_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=free))


def test_the_half_precision_files_are_planned(wanted: DownloadRequest) -> None:
    plan = plan_download(wanted, Hub())
    names = {file.path for file in plan.files}
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in names
    assert "unet/diffusion_pytorch_model.safetensors" not in names
    assert "README.md" not in names
    assert plan.size == plan.missing == sum(file.size for file in plan.files)


def test_a_repository_without_half_precision_gives_the_other(
    repositories: Repositories, wanted: DownloadRequest
) -> None:
    [files] = repositories.commits[BASE].values()
    repositories.publish(BASE, {path.replace(".fp16", ""): data for path, data in files.items()})
    names = {file.path for file in plan_download(wanted, Hub()).files}
    assert "text_encoder/model.safetensors" in names


def test_tokenizers_in_either_form_are_whole(repositories: Repositories, wanted: DownloadRequest) -> None:
    [files] = repositories.commits[BASE].values()
    without = {path: data for path, data in files.items() if path != "tokenizer/tokenizer.json"}
    repositories.publish(BASE, {**without, "tokenizer/vocab.json": b"{}"})
    with pytest.raises(DownloadError, match=r"has no tokenizer/vocab\.json and tokenizer/merges\.txt"):
        plan_download(wanted, Hub())
    repositories.publish(BASE, {**without, "tokenizer/vocab.json": b"{}", "tokenizer/merges.txt": b""})
    names = {file.path for file in plan_download(wanted, Hub()).files}
    assert {"tokenizer/vocab.json", "tokenizer/merges.txt"} <= names


def test_each_part_can_be_taken_at_a_revision(repositories: Repositories, wanted: DownloadRequest) -> None:
    commit = repositories.publish(ADAPTER, {"ms_adapter.bin": b"an older one"}, "v0")
    plan = plan_download(replace(wanted, revisions={"adapter": "v0"}), Hub())
    [adapter] = [file for file in plan.files if file.part == "adapter"]
    assert (adapter.commit, adapter.size) == (commit, len(b"an older one"))


def test_a_revision_of_no_part_is_named(wanted: DownloadRequest) -> None:
    with pytest.raises(DownloadError, match="no part 'lightning' .* base, vae, image-encoder, adapter"):
        plan_download(replace(wanted, revisions={"lightning": "v0"}), Hub())


def test_a_target_that_exists_is_refused_before_the_hub_is_asked(
    repositories: Repositories, wanted: DownloadRequest
) -> None:
    (wanted.target / "unet").mkdir(parents=True)
    with pytest.raises(ModelTargetError, match="exists already"):
        plan_download(wanted, Hub())
    assert repositories.log == []


def test_one_disk_needs_what_is_fetched_and_the_adapter(wanted: DownloadRequest) -> None:
    plan = plan_download(wanted, Hub())
    [room] = plan.rooms
    assert room.needed == plan.missing + (GOLDEN / "ms_adapter.bin").stat().st_size // 2


@pytest.mark.skipif(not os.access(OTHER_DISK, os.W_OK), reason="there is no second disk here")
def test_two_disks_need_all_of_it_each(wanted: DownloadRequest, tmp_path: Path) -> None:
    if OTHER_DISK.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second disk here")
    hub = Hub()
    plan = plan_download(replace(wanted, target=OTHER_DISK / f"sdxl-{os.getpid()}"), hub)
    cache, target = plan.rooms
    assert (cache.path, cache.needed) == (hub.cache, plan.missing)
    assert target.needed == plan.size - (GOLDEN / "ms_adapter.bin").stat().st_size // 2


def test_too_little_room_is_refused_before_the_first_byte(
    repositories: Repositories, wanted: DownloadRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_free(monkeypatch, 10**6)
    plan = plan_download(wanted, Hub())
    with pytest.raises(DownloadError, match="too little space for this download: .* has 1.0 MB free and needs"):
        check_rooms(plan)
    with pytest.raises(DownloadError, match="too little space"):
        fetch_model(plan, Hub(), lambda file, count: None)
    assert [request.path for request in repositories.log if "/api/" not in request.path] == []


def test_what_is_in_the_cache_needs_no_room(wanted: DownloadRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch_model(plan_download(wanted, Hub()), Hub(), lambda file, count: None)
    plan = plan_download(wanted, Hub())
    assert plan.missing == 0
    [room] = plan.rooms
    assert room.needed < plan.size / 2


def test_progress_adds_up_to_what_was_missing(wanted: DownloadRequest) -> None:
    plan = plan_download(wanted, Hub())
    counts: dict[str, int] = {}
    fetch_model(plan, Hub(), lambda file, count: counts.update({file.path: counts.get(file.path, 0) + count}))
    # Two parts have a config.json of their own.
    assert sum(counts.values()) == plan.missing


def test_the_origin_of_every_part_is_known(repositories: Repositories, wanted: DownloadRequest) -> None:
    sources = fetch_model(plan_download(wanted, Hub()), Hub(), lambda file, count: None)
    assert sources.origins["adapter"] == {
        "repository": ADAPTER,
        "revision": repositories.names[ADAPTER]["main"],
    }
    assert set(sources.origins) == {"base", "vae", "image-encoder", "adapter"}


@pytest.mark.parametrize("name", EXTRAS)
def test_extras_lie_where_the_model_looks_for_them(
    repositories: Repositories, wanted: DownloadRequest, name: str
) -> None:
    extra = EXTRAS[name]
    files = {path: path.encode() for path in extra.places}
    weights = {"diffusion_pytorch_model.safetensors": b"weights"} if name.startswith("controlnet") else {}
    repositories.publish(extra.part.repository, {**files, **weights})
    plan = plan_download(replace(wanted, extras=(name,)), Hub())
    sources = fetch_model(plan, Hub(), lambda file, count: None)
    assert set(sources.extras) == set(extra.places.values())
    for place, path in sources.extras.items():
        assert path.is_dir() == place.startswith("controlnets/")
        assert sources.origins[place]["repository"] == extra.part.repository
    assert sources.card.presets == presets_of([name])


def test_presets_come_with_their_loras_only() -> None:
    assert presets_of([]) == {}
    assert presets_of(["controlnet-depth"]) == {}
    assert {name for name in EXTRAS if presets_of([name])} == {"lightning", "lcm", "hyper"}
    for name, preset in presets_of(["lightning", "lcm", "hyper"]).items():
        assert (preset.guidance_scale, len(preset.loras)) == (1.0, 1), name


def test_the_whole_clip_can_be_the_source_of_the_tower(repositories: Repositories, wanted: DownloadRequest) -> None:
    shards = {f"model-0000{number}-of-00002.safetensors": bytes(10) for number in (1, 2)}
    index = {"model.safetensors.index.json": b"{}", "config.json": b"{}"}
    repositories.publish(WHOLE_CLIP, {**shards, **index, "open_clip_pytorch_model.bin": b"not wanted"})
    plan = plan_download(replace(wanted, image_encoder="laion"), Hub())
    assert {file.path for file in plan.files if file.part == "image-encoder"} == {*shards, *index}


def test_configs_alone_are_small(repositories: Repositories) -> None:
    folder = fetch_configs(Hub())
    assert (folder / "unet" / "config.json").is_file()
    assert (folder / "tokenizer_2" / "tokenizer.json").is_file()
    assert [request for request in repositories.log if request.path.startswith("/cdn/")] == []
