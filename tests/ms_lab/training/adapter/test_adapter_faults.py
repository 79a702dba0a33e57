"""What a run of the adapter cannot use, or cannot write: each is told with its place, and no checkpoint is lost."""

from __future__ import annotations

import errno
import io
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from ms_core.config import ModelCard
from ms_core.errors import CheckpointError, InvalidInputError, ModelError, StorageError, StorageFullError
from ms_core.sampling.pipeline import MSDiffusionPipeline
from ms_lab.data.writing.sample_index import SampleIndex
from ms_lab.training.adapter import model_checkpoints
from ms_lab.training.adapter.batches import require_batch
from ms_lab.training.adapter.model_checkpoints import TRAINING, ModelCheckpoints
from ms_lab.training.adapter.run import AdapterTraining, begin_anew, open_set
from ms_lab.training.adapter.samples import Size
from ms_lab.training.adapter.sources import PictureSamples
from ms_lab.training.checkpoints import STATE, WEIGHTS, Snapshot
from tests.ms_lab.training.adapter.small_set import small_config, stored_sample, write_files

CPU = torch.device("cpu")


def checkpoints(folder: Path, base: Path, keep: int = 2) -> ModelCheckpoints:
    return ModelCheckpoints(folder, base, ModelCard.load(base), "version = 1\n", keep)


def snapshot(step: int) -> Snapshot:
    weights = {"weight": torch.full((2,), float(step))}
    return Snapshot(weights, {"weight": -weights["weight"]}, {"step": step}, {"pictures": 4 * step})


def test_the_newest_checkpoints_are_kept(golden_model_directory: Path, tmp_path: Path) -> None:
    kept = checkpoints(tmp_path, golden_model_directory)
    assert kept.read(CPU) is None
    for step in (2, 4, 10):
        kept.write(snapshot(step))
    assert [path.name for path in kept.all()] == ["step-0000004", "step-0000010"]
    found = kept.read(CPU)
    assert found is not None
    assert found[0]["weight"].tolist() == [10.0, 10.0]
    assert found[1] == {"step": 10}


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), StorageFullError),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), StorageFullError),
        (
            SafetensorError('IoError(Os { code: 28, kind: StorageFull, message: "No space left on device" })'),
            StorageFullError,
        ),
        (OSError(errno.EROFS, "Read-only file system"), StorageError),
    ],
)
@pytest.mark.parametrize("at", ["save_file", "torch.save", "put_file"])
def test_a_full_disk_leaves_the_checkpoint_before(
    golden_model_directory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Exception,
    expected: type,
    at: str,
) -> None:
    kept = checkpoints(tmp_path, golden_model_directory, keep=1)
    kept.write(snapshot(2))

    def fail(*arguments: Any) -> None:
        raise fault

    monkeypatch.setattr(torch if at == "torch.save" else model_checkpoints, at.rpartition(".")[2], fail)
    with pytest.raises(expected, match="step-0000004"):
        kept.write(snapshot(4))
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000002"]
    found = kept.read(CPU)
    assert found is not None
    assert found[1] == {"step": 2}


class FullDisk(io.BytesIO):
    """A file on a disk that takes no more than some bytes."""

    def write(self, content: Any) -> int:
        if self.tell() + len(memoryview(content)) > 2000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(content)


def test_what_torch_says_of_a_full_disk_is_understood(
    golden_model_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch says of it: unexpected pos."""
    kept = checkpoints(tmp_path, golden_model_directory)
    opened: Any = Path.open

    def open_full(path: Path, *arguments: Any, **named: Any) -> Any:
        return FullDisk() if path.name == STATE else opened(path, *arguments, **named)

    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(StorageFullError, match="step-0000002"):
        kept.write(replace(snapshot(2), state={"step": 2, "average": torch.zeros(5000)}))


def test_what_a_killed_run_has_not_finished_is_removed_by_the_one_that_writes(
    golden_model_directory: Path, tmp_path: Path
) -> None:
    kept, unfinished = checkpoints(tmp_path, golden_model_directory), tmp_path / ".step-0000004.partial"
    kept.write(snapshot(2))
    shutil.copytree(tmp_path / "step-0000002", unfinished)
    # All processes of a team read, and so does a command that is then refused, for another run writes it just now.
    found = kept.read(CPU)
    assert found is not None
    assert found[1] == {"step": 2}
    assert unfinished.is_dir()
    kept.write(snapshot(6))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-0000002", "step-0000006"]


def test_a_checkpoint_that_is_there_is_not_written_again(golden_model_directory: Path, tmp_path: Path) -> None:
    """It would be gone for a moment."""
    kept = checkpoints(tmp_path, golden_model_directory, keep=1)
    kept.write(snapshot(2))
    before = (tmp_path / "step-0000002").stat()
    kept.write(snapshot(2))
    kept.note({"gain": 0.5})
    assert (tmp_path / "step-0000002").stat().st_ino == before.st_ino
    assert ModelCard.load(tmp_path / "step-0000002").training["adapter"] == {"gain": 0.5}
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000002"]


def test_a_folder_with_a_name_of_ones_own_is_no_checkpoint(golden_model_directory: Path, tmp_path: Path) -> None:
    kept = checkpoints(tmp_path, golden_model_directory, keep=1)
    for name in ("step-0000001-good", "step-best"):
        (tmp_path / name).mkdir()
    for step in (2, 4):
        kept.write(snapshot(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-0000001-good", "step-0000004", "step-best"]
    found = kept.read(CPU)
    assert found is not None
    assert found[1] == {"step": 4}


@pytest.mark.parametrize("name", [WEIGHTS, STATE])
def test_a_damaged_checkpoint_is_named(golden_model_directory: Path, tmp_path: Path, name: str) -> None:
    kept = checkpoints(tmp_path, golden_model_directory)
    kept.write(snapshot(2))
    path = tmp_path / "step-0000002" / TRAINING / name
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(CheckpointError, match=r"step-0000002 cannot be read .* remove it to continue"):
        kept.read(CPU)


def test_a_picture_that_cannot_be_read_is_named(pipeline: MSDiffusionPipeline, tmp_path: Path) -> None:
    write_files(tmp_path, [stored_sample(0)])
    (tmp_path / "0000.reference0.png").write_bytes(b"no picture")
    samples = PictureSamples(SampleIndex(tmp_path, "train"), Size(64, 64), pipeline.conditioner.reader.preprocessor)
    with pytest.raises(InvalidInputError, match=r"The sample 0000 in .* cannot be read: reference0\.png is damaged"):
        samples[0]


def test_fewer_samples_than_a_batch_are_refused(golden_model_directory: Path, small_set: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="The set has 10 samples to train on and a batch takes 12"):
        AdapterTraining(small_config(small_set, train={"batch_size": 12}), golden_model_directory, tmp_path)
    require_batch(12, 12)
    # What never began stands in no one's way.
    AdapterTraining(small_config(small_set, train={"batch_size": 10}), golden_model_directory, tmp_path)


def test_a_size_that_the_base_cannot_draw_is_refused(
    golden_model_directory: Path, small_set: Path, pipeline: MSDiffusionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline.components, "vae_scale_factor", 16)
    config = small_config(small_set, data={"height": 72})
    with pytest.raises(InvalidInputError, match="multiples of 16, not 72 x 64"):
        open_set(config, golden_model_directory, pipeline)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_reference_that_makes_no_numbers_ends_the_run(
    golden_model_directory: Path, small_set: Path, tmp_path: Path, bad: float
) -> None:
    training = AdapterTraining(small_config(small_set), golden_model_directory, tmp_path)
    training.stage.blanks.prompt_embeds.fill_(bad)
    training.stage.rates = type(training.stage.rates)(text=1.0, image=0.0, both=0.0, grounding=0.0)
    with pytest.raises(ModelError, match="gradients are not numbers. The 0 steps before are saved"):
        training.run()
    [kept] = (tmp_path / "post-mortem").iterdir()
    parts = torch.load(kept, weights_only=False)
    assert [batch.positions for batch in parts] == [(0, 1), (2, 3)]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-0000000"]


def test_the_papers_start_is_random_queries_and_the_texts_projections(pipeline: MSDiffusionPipeline) -> None:
    before = {name: value.clone() for name, value in pipeline.adapter.state_dict().items()}
    try:
        begin_anew(pipeline.adapter, pipeline.unet, seed=1)
        for path in pipeline.adapter.layer_paths:
            projection, attention = pipeline.adapter.projection(path), pipeline.unet.get_submodule(path)
            assert torch.equal(projection.to_k.weight, attention.to_k.weight)
            assert torch.equal(projection.to_v.weight, attention.to_v.weight)
        first = pipeline.adapter.resampler.proj_in.weight.clone()
        assert not torch.equal(first, before["resampler.proj_in.weight"])
        begin_anew(pipeline.adapter, pipeline.unet, seed=1)
        assert torch.equal(pipeline.adapter.resampler.proj_in.weight, first)
    finally:
        pipeline.adapter.load_state_dict(before)
