from __future__ import annotations

import pytest
from PIL import Image
from pydantic import ValidationError

from ms_core.errors import LayoutError
from ms_core.spec import MAX_SEED, AutoLayout, Box
from worker.contract import (
    JobError,
    JobRecord,
    JobState,
    JobWarning,
    StoredImage,
    StoredLayout,
    StoredRequest,
    StoredSubject,
    is_job_id,
    is_model_name,
    new_job_id,
)

SHA = "ab" * 32


def make_request(**values: object) -> StoredRequest:
    subject = StoredSubject(phrase="cat", image=SHA, box=(0.0, 0.1, 0.5, 0.9), scale=0.4)
    defaults = {"prompt": "a cat", "subjects": (subject,), "seed": 3, "model": "mini"}
    return StoredRequest.model_validate({**defaults, **values})


def load_image(sha256: str) -> Image.Image:
    assert sha256 == SHA
    return Image.new("RGB", (4, 4))


def test_new_job_ids_are_valid_and_differ() -> None:
    ids = {new_job_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(is_job_id(job_id) for job_id in ids)


@pytest.mark.parametrize("text", ["", "short", "../../../../etc/passwd", "a" * 65, "a" * 15, "abcdefghijklmnop\n"])
def test_other_text_is_no_job_id(text: str) -> None:
    assert not is_job_id(text)


@pytest.mark.parametrize("text", ["", ".hidden", "a/b", "a b", "x" * 65])
def test_other_text_names_no_model(text: str) -> None:
    assert not is_model_name(text)


def test_states_that_have_ended() -> None:
    assert [state for state in JobState if not state.ended] == [JobState.QUEUED, JobState.RUNNING]


def test_each_picture_gets_the_next_seed() -> None:
    specs = make_request(num_images=3, seed=10).to_specs(load_image)
    assert [spec.seed for spec in specs] == [10, 11, 12]


def test_seeds_wrap_at_the_largest() -> None:
    assert make_request(num_images=2, seed=MAX_SEED).seeds() == [MAX_SEED, 0]


def test_a_spec_says_what_the_request_says() -> None:
    request = make_request(
        negative_prompt="", height=64, width=128, num_inference_steps=2, guidance_scale=0.0, scale=0.0, scheduler="ddim"
    )
    (spec,) = request.to_specs(load_image)
    assert (spec.prompt, spec.negative_prompt, spec.height, spec.width) == ("a cat", "", 64, 128)
    assert (spec.num_inference_steps, spec.guidance_scale, spec.scale, spec.scheduler) == (2, 0.0, 0.0, "ddim")
    assert spec.subjects[0].box == Box(0.0, 0.1, 0.5, 0.9)
    assert spec.subjects[0].scale == 0.4


def test_auto_layout_reaches_the_spec() -> None:
    (spec,) = make_request(layout=StoredLayout(threshold=0.25, start_step=2)).to_specs(load_image)
    assert spec.layout == AutoLayout(0.25, 2)


def test_a_reversed_box_is_refused() -> None:
    subject = StoredSubject(phrase="cat", image=SHA, box=(0.5, 0.1, 0.2, 0.9))
    with pytest.raises(LayoutError):
        make_request(subjects=(subject,)).to_specs(load_image)


def test_a_request_survives_json() -> None:
    request = make_request(layout=StoredLayout(), prompt="猫 \N{CAT FACE}")
    assert StoredRequest.model_validate_json(request.model_dump_json()) == request


@pytest.mark.parametrize(
    "values", [{"num_images": 0}, {"num_images": 9}, {"seed": MAX_SEED + 1}, {"model": "../x"}, {"colour": "red"}]
)
def test_a_request_out_of_range_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        make_request(**values)


def test_a_record_survives_its_hash() -> None:
    record = JobRecord(
        id=new_job_id(),
        model="mini",
        state=JobState.FAILED,
        seed=0,
        cancel_requested=True,
        started_at=1.5,
        warnings=(JobWarning(code="a", detail="b", pointer="/c"),),
        images=(StoredImage(index=0, sha256=SHA, width=8, height=8, seed=0),),
        error=JobError(code="internal", detail="Ünicode"),
    )
    as_redis_gives_it = {name.encode(): value.encode() for name, value in record.to_hash().items()}
    assert JobRecord.from_hash(as_redis_gives_it) == record
