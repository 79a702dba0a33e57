"""The folder of a run: what goes on, what is refused, and what is never half written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from ms_core.errors import InvalidInputError
from ms_core.model_dir.inventory import write_inventory
from ms_lab.evaluation.questions.columns import MODEL, PictureKey
from ms_lab.evaluation.run.folder import Run, RunFolder, Timing, digest_model

RUN = Run(1, 7, "test", False, "f1", "mini", "d1", 128, 128, None, 20, 3.0, 1.0, "euler", "")
KEY = PictureKey(MODEL, "twins", 3, exchanged=True)


@pytest.fixture
def picture() -> Image.Image:
    return Image.effect_noise((24, 16), 90).convert("RGB")


@pytest.fixture
def folder(tmp_path: Path, picture: Image.Image) -> RunFolder:
    """A run with one picture."""
    folder = RunFolder(tmp_path / "run")
    folder.begin(RUN, [])
    folder.save(KEY, picture)
    return folder


def test_a_picture_comes_back_as_it_was(folder: RunFolder, picture: Image.Image) -> None:
    assert folder.load(KEY).tobytes() == picture.tobytes()
    assert folder.picture_path(KEY).relative_to(folder.directory) == Path("pictures/model/twins-3-exchanged.webp")
    assert not folder.has(replace(KEY, exchanged=False))


def test_the_same_run_goes_on(folder: RunFolder) -> None:
    folder.begin(RUN, [])
    assert folder.has(KEY)


@pytest.mark.parametrize(
    "other",
    [
        replace(RUN, model_digest="d2"),
        replace(RUN, scenes_fingerprint="f2"),
        replace(RUN, num_inference_steps=8),
        replace(RUN, guidance_scale=1.0),
    ],
)
def test_another_run_is_refused_and_says_what_differs(folder: RunFolder, other: Run) -> None:
    with pytest.raises(InvalidInputError, match=r"differ in (model digest|scenes|num inference|guidance).*--force"):
        folder.begin(other, [])
    folder.begin(RUN, [])
    assert folder.has(KEY)


def test_force_throws_the_pictures_of_another_run_away(folder: RunFolder) -> None:
    folder.begin(replace(RUN, model_digest="d2"), [], force=True)
    assert not folder.has(KEY)
    with pytest.raises(InvalidInputError):
        _with_a_picture(folder).begin(RUN, [])


def _with_a_picture(folder: RunFolder) -> RunFolder:
    folder.save(KEY, Image.new("RGB", (8, 8)))
    return folder


def test_pictures_of_an_unknown_run_are_refused(folder: RunFolder) -> None:
    (folder.directory / "run.json").write_text('{"bench_version": 0}')
    with pytest.raises(InvalidInputError, match="nobody knows"):
        folder.begin(RUN, [])


def test_a_picture_that_was_not_finished_is_not_there(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    key = replace(KEY, number=4)
    monkeypatch.setattr("os.replace", stop)
    with pytest.raises(KeyboardInterrupt):
        folder.save(key, Image.new("RGB", (8, 8)))
    assert not folder.has(key)


def test_sittings_add_up(folder: RunFolder) -> None:
    assert folder.timing() is None
    folder.add_timing(Timing(8, 10.0, 8, {MODEL: (2.0,)}))
    folder.add_timing(Timing(3, 4.0, 4, {MODEL: (1.5, 1.6)}))
    assert folder.timing() == Timing(11, 14.0, 4, {MODEL: (1.5, 1.6)})


def test_the_digest_follows_whatever_changes_pictures(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    weights, log = tmp_path / "unet" / "weights.safetensors", tmp_path / "training_log.jsonl"
    weights.write_bytes(b"one")
    first = digest_model(tmp_path)
    log.write_text("step 1")
    write_inventory(tmp_path)
    # As the hub's program leaves them beside a download.
    (tmp_path / ".cache" / "huggingface").mkdir(parents=True)
    (tmp_path / ".cache" / "huggingface" / "weights.metadata").write_text("1764506400.0")
    assert digest_model(tmp_path) == first
    weights.write_bytes(b"two")
    assert digest_model(tmp_path) != first
