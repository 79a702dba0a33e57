"""Tokenizers on the shared volume: whole, under their SHA-256, and refused where they are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from ms_core.errors import StorageError
from ms_jobs.artifacts import ArtifactStore
from ms_jobs.tokenizer_files import TokenizerFiles

DOCUMENT = '{"model": "ä"}'


@pytest.fixture
def files(tmp_path: Path) -> TokenizerFiles:
    return TokenizerFiles(tmp_path)


def test_it_comes_back_under_its_hash(files: TokenizerFiles, tmp_path: Path) -> None:
    sha256 = files.save(DOCUMENT)
    assert files.load(sha256) == DOCUMENT
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.json")] == [
        f"tokenizers/{sha256}/tokenizer.json"
    ]


def test_one_that_is_there_is_not_written_again_and_a_damaged_one_is(files: TokenizerFiles, tmp_path: Path) -> None:
    path = tmp_path / "tokenizers" / files.save(DOCUMENT) / "tokenizer.json"
    before = path.stat().st_ino
    files.save(DOCUMENT)
    assert path.stat().st_ino == before
    path.write_text("cut o")
    files.save(DOCUMENT)
    assert path.read_text() == DOCUMENT


@pytest.mark.parametrize("name", ["0" * 64, "../../etc", "", "A" * 64])
def test_what_is_not_there_is_refused(files: TokenizerFiles, name: str) -> None:
    with pytest.raises(StorageError):
        files.load(name)


def test_a_damaged_one_is_refused(files: TokenizerFiles, tmp_path: Path) -> None:
    sha256 = files.save(DOCUMENT)
    (tmp_path / "tokenizers" / sha256 / "tokenizer.json").write_text("{}")
    with pytest.raises(StorageError, match="damaged"):
        files.load(sha256)


def test_a_link_is_not_followed(files: TokenizerFiles, tmp_path: Path) -> None:
    sha256 = files.save(DOCUMENT)
    path = tmp_path / "tokenizers" / sha256 / "tokenizer.json"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError):
        files.load(sha256)


def test_they_belong_to_no_owner_of_jobs(files: TokenizerFiles, tmp_path: Path) -> None:
    files.save(DOCUMENT)
    assert ArtifactStore(tmp_path).owners() == []
