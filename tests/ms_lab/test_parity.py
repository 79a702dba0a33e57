"""All golden cases of the official code, and what happens when a case or the folder is not right."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from ms_core.errors import CheckpointError, ModelNotFoundError
from ms_lab.parity import CaseResult, run_parity
from tests.support.paths import GOLDEN

CASE_NAMES = sorted(path.stem for path in (GOLDEN / "cases").glob("*.json"))
TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def results() -> dict[str, CaseResult]:
    return {result.name: result for result in run_parity(GOLDEN, resampler_heads=4)}


def test_all_seven_cases_are_there(results) -> None:
    assert sorted(results) == CASE_NAMES
    assert len(CASE_NAMES) == 7


@pytest.mark.parametrize("name", CASE_NAMES)
def test_latents_equal_the_official_codes(results, name: str) -> None:
    assert results[name].failure is None
    assert results[name].max_difference < TOLERANCE
    assert results[name].passed(TOLERANCE)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder of the one quickest case, to be damaged."""
    for part in ("tiny-sdxl", "image_encoder", "references"):
        (tmp_path / part).symlink_to(GOLDEN / part)
    shutil.copy(GOLDEN / "ms_adapter.bin", tmp_path)
    (tmp_path / "cases").mkdir()
    for suffix in (".json", ".safetensors"):
        shutil.copy(GOLDEN / "cases" / f"negative_prompt{suffix}", tmp_path / "cases" / f"case{suffix}")
    return tmp_path


def run_one(folder: Path) -> CaseResult:
    (result,) = run_parity(folder, resampler_heads=4)
    return result


def change_case(folder: Path, **changes: Any) -> None:
    path = folder / "cases" / "case.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_other_latents_fail(folder: Path) -> None:
    path = folder / "cases" / "case.safetensors"
    latents = load_file(path)["latents"]
    latents[0, 0, 0, 0] += 0.5
    save_file({"latents": latents}, path)
    result = run_one(folder)
    assert result.max_difference == pytest.approx(0.5, abs=1e-3)
    assert not result.passed(TOLERANCE)


def test_not_a_number_fails(folder: Path) -> None:
    path = folder / "cases" / "case.safetensors"
    save_file({"latents": load_file(path)["latents"] * float("nan")}, path)
    assert not run_one(folder).passed(TOLERANCE)


def test_another_phrase_span_fails(folder: Path) -> None:
    change_case(folder, phrase_token_spans=[[4, 5]])
    assert "((5, 6),)" in run_one(folder).failure


def test_a_case_outside_the_contract_fails_with_a_sentence(folder: Path) -> None:
    change_case(folder, boxes=[[0, 0, 0, 0]])
    assert "no box" in run_one(folder).failure


@pytest.mark.parametrize("changes", [{"references": ["references/9.png"]}, {"boxes": []}, {"seed": "x"}])
def test_a_broken_case_fails_with_a_sentence(folder: Path, changes: dict[str, Any]) -> None:
    change_case(folder, **changes)
    assert run_one(folder).failure


@pytest.mark.parametrize("name", ["case.json", "case.safetensors"])
def test_an_unreadable_file_fails_by_name(folder: Path, name: str) -> None:
    (folder / "cases" / name).write_bytes(b"{")
    assert name in run_one(folder).failure


def test_a_missing_latents_file_fails_by_name(folder: Path) -> None:
    (folder / "cases" / "case.safetensors").unlink()
    assert "case.safetensors" in run_one(folder).failure


def test_a_folder_without_cases_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="holds no cases"):
        list(run_parity(tmp_path, resampler_heads=4))


@pytest.mark.parametrize("part", ["tiny-sdxl", "image_encoder", "ms_adapter.bin"])
def test_a_folder_without_a_part_is_a_model_that_is_not_found(folder: Path, part: str) -> None:
    (folder / part).unlink()
    with pytest.raises(ModelNotFoundError):
        list(run_parity(folder, resampler_heads=4))


def test_a_broken_adapter_is_refused(folder: Path) -> None:
    (folder / "ms_adapter.bin").write_bytes(b"broken")
    with pytest.raises(CheckpointError, match=r"ms_adapter\.bin"):
        list(run_parity(folder, resampler_heads=4))
