"""Repositories and the cache: what is planned, what is fetched, and what is said when that fails."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

from ms_core.errors import DownloadError
from ms_core.model_dir.provision.hub import Hub, HubFile, Part, Wanted
from ms_core.model_dir.provision.transfer import partial_path
from tests.support.hub_server import Hub as Repositories
from tests.support.hub_server import HubServer, use_hub

REPOSITORY = "someone/model"
WEIGHTS = random.Random(1).randbytes(300_000)
FILES = {"config.json": b"{}", "unet/model.fp16.safetensors": WEIGHTS, "README.md": b"not wanted"}
PART = Part(
    "base",
    REPOSITORY,
    (
        Wanted((("config.json",),)),
        Wanted((("unet/model.fp16.safetensors",), ("unet/model.safetensors",))),
        Wanted((("LICENSE.md",),), optional=True),
    ),
)


@pytest.fixture
def repositories() -> Repositories:
    repositories = Repositories()
    repositories.publish(REPOSITORY, FILES)
    return repositories


@pytest.fixture
def server(repositories: Repositories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer(repositories) as server:
        use_hub(server.endpoint, tmp_path, monkeypatch)
        yield server


def fetch_all(hub: Hub, part: Part = PART, revision: str | None = None) -> dict[str, bytes]:
    return {file.path: hub.fetch(file, lambda count: None).read_bytes() for file in hub.plan(part, revision)}


def big_file(files: tuple[HubFile, ...]) -> HubFile:
    return next(file for file in files if file.sha256 is not None)


@pytest.mark.usefixtures("server")
def test_a_plan_lists_what_is_wanted_and_fetches_nothing(repositories: Repositories) -> None:
    files = Hub().plan(PART)
    assert [(file.path, file.size, file.present) for file in files] == [
        ("config.json", 2, 0),
        ("unet/model.fp16.safetensors", len(WEIGHTS), 0),
    ]
    assert {file.commit for file in files} == {repositories.names[REPOSITORY]["main"]}
    assert [request.path for request in repositories.log] == [f"/api/models/{REPOSITORY}/revision/main"]


@pytest.mark.usefixtures("server")
def test_what_is_fetched_is_in_the_cache_for_everyone() -> None:
    fetched = fetch_all(Hub())
    assert fetched == {path: FILES[path] for path in ("config.json", "unet/model.fp16.safetensors")}
    for path, data in fetched.items():
        found = try_to_load_from_cache(REPOSITORY, path, cache_dir=constants.HF_HUB_CACHE)
        assert isinstance(found, str)
        assert Path(found).read_bytes() == data
    assert [file.missing for file in Hub().plan(PART)] == [0, 0]


@pytest.mark.usefixtures("server")
def test_what_others_fetched_is_not_fetched_again(server: HubServer, repositories: Repositories) -> None:
    for path in ("config.json", "unet/model.fp16.safetensors"):
        hf_hub_download(REPOSITORY, path, cache_dir=constants.HF_HUB_CACHE, endpoint=server.endpoint)
    repositories.log.clear()
    assert fetch_all(Hub()).keys() == {"config.json", "unet/model.fp16.safetensors"}
    assert [request for request in repositories.log if request.method == "GET" and "/api/" not in request.path] == []


@pytest.mark.usefixtures("server")
def test_what_a_new_commit_left_as_it_was_is_not_fetched_again(repositories: Repositories) -> None:
    fetch_all(Hub())
    repositories.publish(REPOSITORY, {**FILES, "config.json": b'{"new": 1}'})
    assert fetch_all(Hub())["config.json"] == b'{"new": 1}'
    assert len(repositories.transfers("unet/model.fp16.safetensors")) == 1


@pytest.mark.usefixtures("server")
def test_the_rest_of_a_broken_off_file_is_planned_and_fetched(repositories: Repositories) -> None:
    hub = Hub()
    file = big_file(hub.plan(PART))
    whole = hub.cache / "models--someone--model" / "blobs" / str(file.sha256)
    whole.parent.mkdir(parents=True)
    partial_path(whole).write_bytes(WEIGHTS[:100_000])
    planned = big_file(hub.plan(PART))
    assert (planned.present, planned.missing) == (100_000, 200_000)
    counts: list[int] = []
    assert hub.fetch(planned, counts.append).read_bytes() == WEIGHTS
    assert sum(counts) == 200_000
    [request] = repositories.transfers("unet/model.fp16.safetensors")
    assert request.range == "bytes=100000-"


@pytest.mark.usefixtures("server")
def test_a_blob_that_was_cut_off_in_the_cache_is_fetched_again() -> None:
    hub = Hub()
    path = hub.fetch(big_file(hub.plan(PART)), lambda count: None)
    path.resolve().write_bytes(WEIGHTS[:5])
    assert hub.fetch(big_file(hub.plan(PART)), lambda count: None).read_bytes() == WEIGHTS


@pytest.mark.usefixtures("server")
def test_the_second_choice_stands_in_for_the_first(repositories: Repositories) -> None:
    repositories.publish(REPOSITORY, {"config.json": b"{}", "unet/model.safetensors": WEIGHTS})
    assert [file.path for file in Hub().plan(PART)] == ["config.json", "unet/model.safetensors"]


@pytest.mark.usefixtures("server")
def test_patterns_take_all_that_fits(repositories: Repositories) -> None:
    shards = {f"model-0000{number}-of-00002.safetensors": WEIGHTS for number in (1, 2)}
    repositories.publish(REPOSITORY, {**shards, "model.safetensors.index.json": b"{}", "other-1-of-1.bin": b""})
    part = Part("base", REPOSITORY, (Wanted((("model.safetensors.index.json", "model-*-of-*.safetensors"),)),))
    assert [file.path for file in Hub().plan(part)] == ["model.safetensors.index.json", *shards]


@pytest.mark.usefixtures("server")
def test_a_missing_file_is_named(repositories: Repositories) -> None:
    repositories.publish(REPOSITORY, {"config.json": b"{}"})
    with pytest.raises(DownloadError, match=r"someone/model has no unet/model\.fp16\.safetensors at revision main"):
        Hub().plan(PART)


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("name", ["v1", "refs/pr/3"])
def test_a_revision_can_be_a_name(repositories: Repositories, name: str) -> None:
    repositories.publish(REPOSITORY, {**FILES, "config.json": b"older"}, name)
    assert fetch_all(Hub(), revision=name)["config.json"] == b"older"
    assert fetch_all(Hub(offline=True), revision=name)["config.json"] == b"older"


@pytest.mark.usefixtures("server")
def test_a_revision_can_be_a_commit(repositories: Repositories) -> None:
    commit = repositories.publish(REPOSITORY, {**FILES, "config.json": b"older"}, "v1")
    assert fetch_all(Hub(), revision=commit)["config.json"] == b"older"
    assert fetch_all(Hub(offline=True), revision=commit)["config.json"] == b"older"


@pytest.mark.usefixtures("server")
def test_offline_the_cache_is_enough_and_nobody_is_asked(repositories: Repositories) -> None:
    fetch_all(Hub())
    repositories.log.clear()
    assert fetch_all(Hub(offline=True))["unet/model.fp16.safetensors"] == WEIGHTS
    assert repositories.log == []


@pytest.mark.usefixtures("server")
def test_offline_half_a_download_is_named() -> None:
    hub = Hub()
    small, big = hub.plan(PART)
    hub.fetch(small, lambda count: None)
    partial = partial_path(hub.cache / "models--someone--model" / "blobs" / str(big.sha256))
    partial.write_bytes(WEIGHTS[:10])
    with pytest.raises(DownloadError, match=r"unet/model\.fp16\.safetensors in the cache; run the same command"):
        Hub(offline=True).plan(PART)


@pytest.mark.usefixtures("server")
def test_offline_a_repository_that_was_never_fetched_is_named() -> None:
    with pytest.raises(DownloadError, match=r"someone/model has no config\.json in the cache"):
        Hub(offline=True).plan(PART)


@pytest.mark.usefixtures("server")
def test_the_setting_of_the_library_means_offline_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert Hub().offline


@pytest.mark.usefixtures("server")
def test_the_token_goes_to_the_hub_and_nowhere_else(
    repositories: Repositories, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch_all(Hub())
    assert {request.token for request in repositories.log if request.path.startswith("/cdn/")} == {None}
    assert {request.token for request in repositories.log if "/resolve/" in request.path} == {"Bearer hf_secret"}


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("status", "code", "sentence"),
    [
        (401, "RepoNotFound", "The hub shows no repository someone/model"),
        (404, "RepoNotFound", "The hub shows no repository someone/model"),
        (403, "GatedRepo", "someone/model asks for consent: accept its terms"),
        (403, "", r"The hub refuses someone/model \(status 403\): the token"),
        (500, "", "status 500 for someone/model. Run the same command again"),
        (418, "", "status 418 for someone/model; check HF_ENDPOINT"),
    ],
)
def test_a_refusal_says_what_to_do(repositories: Repositories, status: int, code: str, sentence: str) -> None:
    repositories.refusals[REPOSITORY] = (status, code)
    with pytest.raises(DownloadError, match=sentence):
        Hub().plan(PART)


@pytest.mark.usefixtures("server")
def test_an_unknown_revision_is_named() -> None:
    with pytest.raises(DownloadError, match="someone/model has no revision 'v7'"):
        Hub().plan(PART, "v7")


@pytest.mark.usefixtures("server")
def test_a_repository_that_vanishes_in_between_is_a_sentence(repositories: Repositories) -> None:
    files = Hub().plan(PART)
    repositories.refusals[REPOSITORY] = (404, "RepoNotFound")
    with pytest.raises(DownloadError, match="The hub shows no repository"):
        Hub().fetch(big_file(files), lambda count: None)


def test_a_hub_that_cannot_be_reached_is_named(
    repositories: Repositories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HubServer(repositories) as server:
        use_hub(server.endpoint, tmp_path, monkeypatch)
    with pytest.raises(DownloadError, match=rf"{server.endpoint} cannot be reached .* what has been fetched is kept"):
        Hub().plan(PART)


@pytest.mark.usefixtures("server")
def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    hub = Hub()
    files = hub.plan(PART)
    (tmp_path / "hub").write_text("a file where the cache should be")
    with pytest.raises(DownloadError, match=r"The cache .*hub cannot be written \(Not a directory\)"):
        hub.fetch(big_file(files), lambda count: None)
