"""How the clients make pictures: uploads, callbacks, results, and what cancels the job."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import threading
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from msd_client import (
    Client,
    InputError,
    Job,
    JobCanceledError,
    JobError,
    JobExpiredError,
    JobFailedError,
    MsdError,
    PreviewEvent,
    Redraw,
    Score,
    Subject,
    SubjectScore,
)
from tests.clients.python.conftest import Make
from tests.support.sample_requests import encoded
from tests.support.scripted_service import JOB_ID, Play, Script, answer, event, hang_up, job, problem, step, stream

CAT = encoded(Image.new("RGB", (8, 8), "orange"))
POT = encoded(Image.new("RGB", (8, 8), "teal"))
SCORE = {
    "draws": 2,
    "subjects": [{"subject": 0, "present": 1.0, "identity": 0.5, "box_iou": 0.25}],
    "redraws": [{"subject": 0, "kept": True}],
}


def subjects(*pictures: Any) -> list[Subject]:
    return [Subject("cat", picture, box=(0, 0, 1, 1)) for picture in pictures]


def image(index: int, **more: Any) -> dict[str, Any]:
    kept = {"index": index, "seed": index + 5, "width": 8, "height": 8, "content_type": "image/png", "sha256": "0"}
    return kept | {"score": None} | more


def finished(*images: dict[str, Any]) -> dict[str, Any]:
    warning = {"code": "one_colour", "detail": "One colour.", "pointer": "/subjects/0"}
    return job("succeeded", 9) | {"images": images, "warnings": [warning]}


def asset(name: str) -> dict[str, Any]:
    return {"id": name, "sha256": "0", "width": 8, "height": 8, "has_alpha": False, "expires_at": None}


def uploaded(*names: str) -> Play:
    return answer({"assets": [asset(name) for name in names]}, 201)


def sent_pictures(script: Script) -> list[list[str]]:
    return [[subject["image"] for subject in request["subjects"]] for request in script.sent("generate")]


def data_uri(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


@pytest.fixture
def plays(script: Script) -> dict[str, list[Play]]:
    """A job that is made at once."""
    script.plays = {
        "generate": [answer(job("queued", 1), 202)],
        "job": [answer(finished(image(0)))],
        "images": [answer(POT, 200, "image/png")],
        "cancel": [answer(job("canceled", 3))],
    }
    return script.plays


def test_a_result_holds_pictures_with_seed_score_and_recipe(client: Any, plays: dict[str, list[Play]]) -> None:
    info = PngInfo()
    info.add_text("msd", json.dumps({"request": {"prompt": "a cat"}}))
    with_recipe = encoded(Image.new("RGB", (8, 8), "red"), pnginfo=info)
    plays["job"] = [answer(finished(image(0, score=SCORE), image(1)))]
    plays["images"] = [answer(with_recipe, 200, "image/png"), answer(POT, 200, "image/png")]
    result = client.generate("a cat", subjects(CAT), seed=5, num_images=2)
    first, second = result.pictures
    assert (first.seed, first.score) == (5, Score(2, (SubjectScore(0, 1.0, 0.5, 0.25),), (Redraw(0, True),)))
    assert first.recipe == {"request": {"prompt": "a cat"}}
    assert (first.content, first.image.getpixel((0, 0))) == (with_recipe, (255, 0, 0))
    assert (second.seed, second.score, second.recipe) == (6, None, None)
    assert result.images == [first.image, second.image]
    assert [(warning.code, warning.pointer) for warning in result.warnings] == [("one_colour", "/subjects/0")]
    assert result.job.id == JOB_ID


def test_a_request_says_what_was_asked(client: Any, script: Script, plays: dict[str, list[Play]]) -> None:
    cat = Subject("cat", [CAT, POT], box=(0, 0, 1, 1), mask=POT, scale=0.5, feather=0.1, z_index=-1, cutout=True)
    client.submit("a cat", subjects=[cat], seed=0, score=True, negative_prompt="")
    assert script.sent("generate") == [
        {
            "prompt": "a cat",
            "subjects": [
                {
                    "phrase": "cat",
                    "images": [data_uri(CAT), data_uri(POT)],
                    "box": [0, 0, 1, 1],
                    "mask": data_uri(POT),
                    "scale": 0.5,
                    "feather": 0.1,
                    "z_index": -1,
                    "cutout": True,
                }
            ],
            "seed": 0,
            "score": True,
            "negative_prompt": "",
        }
    ]


def test_each_picture_is_uploaded_once(client: Any, script: Script, plays: dict[str, list[Play]]) -> None:
    plays["assets"] = [uploaded("cat", "pot"), uploaded("third")]
    for _ in range(2):
        client.generate("cats", subjects(CAT, POT, CAT))
    client.generate("cats", subjects(CAT, CAT + b"!"))
    assert sent_pictures(script) == [["asset:cat", "asset:pot", "asset:cat"]] * 2 + [["asset:cat", "asset:third"]]
    first, second = (body for kind, body in script.bodies if kind == "assets")
    assert (first.count(CAT), first.count(POT), second.count(CAT)) == (1, 1, 1)


def test_an_older_service_gets_data_uris(client: Any, script: Script, plays: dict[str, list[Play]]) -> None:
    for _ in range(2):
        client.generate("a cat", subjects(CAT))
    assert sent_pictures(script) == [[data_uri(CAT)]] * 2
    assert script.kinds.count("assets") == 1


def test_a_client_without_uploads_does_not_ask_for_them(
    make_client: Make, script: Script, plays: dict[str, list[Play]]
) -> None:
    plays["assets"] = [uploaded("cat")]
    make_client(upload=False).generate("a cat", subjects(CAT))
    assert sent_pictures(script) == [[data_uri(CAT)]]


def test_a_picture_that_is_refused_is_told_with_its_place(
    client: Any, script: Script, plays: dict[str, list[Play]]
) -> None:
    """The upload does not know where in the request it stands; the request does."""
    item = {"pointer": "/subjects/0/image", "detail": "Damaged.", "code": "invalid_picture"}
    plays["assets"] = [problem(422)]
    plays["generate"] = [problem(422, errors=[item])]
    with pytest.raises(InputError) as caught:
        client.generate("a cat", subjects(b"damaged"))
    assert [error.pointer for error in caught.value.errors] == ["/subjects/0/image"]


def test_an_upload_that_was_deleted_is_made_again(client: Any, script: Script, plays: dict[str, list[Play]]) -> None:
    item = {"pointer": "/subjects/0/image", "detail": "Not there.", "code": "asset_not_found"}
    plays["assets"] = [uploaded("one"), uploaded("two")]
    plays["generate"] = [problem(422, errors=[item]), answer(job("queued", 1), 202)]
    client.generate("a cat", subjects(CAT))
    assert sent_pictures(script) == [["asset:one"], ["asset:two"]]


def test_an_asset_of_the_caller_that_is_not_there_is_told(
    client: Any, script: Script, plays: dict[str, list[Play]]
) -> None:
    item = {"pointer": "/subjects/0/image", "detail": "Not there.", "code": "asset_not_found"}
    plays["generate"] = [problem(422, errors=[item])]
    with pytest.raises(InputError):
        client.generate("a cat", subjects("asset:unknown"))
    assert script.kinds == ["generate"]


def test_a_lost_answer_to_an_upload_is_asked_for_again(
    client: Any, script: Script, plays: dict[str, list[Play]]
) -> None:
    plays["assets"] = [hang_up, problem(503), uploaded("cat")]
    client.generate("a cat", subjects(CAT))
    assert sent_pictures(script) == [["asset:cat"]]


def test_what_was_uploaded_by_hand_stands_for_the_picture(
    client: Any, script: Script, plays: dict[str, list[Play]]
) -> None:
    plays["assets"] = [uploaded("cat")]
    kept = client.upload(CAT)
    client.submit("a cat", subjects(kept))
    client.submit("a cat", subjects(CAT))
    assert (kept.id, kept.reference) == ("cat", "asset:cat")
    assert sent_pictures(script) == [["asset:cat"]] * 2
    assert script.kinds.count("assets") == 1


def test_a_recipe_is_read_out_of_a_file_and_can_be_sent_again(
    client: Any, script: Script, plays: dict[str, list[Play]]
) -> None:
    name = f"sha256:{'a' * 64}"
    recipe = {"prompt": "a cat", "subjects": [{"phrase": "cat", "image": name}], "seed": 7}
    plays["inspect"] = [hang_up, answer({"recipe": recipe, "made": {}, "missing": ["b" * 64], "detail": None})]
    found = client.inspect(CAT)
    assert (found.recipe, found.missing, found.detail) == (recipe, ("b" * 64,), None)
    assert all(CAT in body for kind, body in script.bodies if kind == "inspect")
    client.submit(**found.recipe)
    assert sent_pictures(script) == [[name]]
    plays["inspect"] = [answer({"recipe": None, "made": None, "missing": [], "detail": "No recipe."})]
    assert client.inspect("data:image/png;base64,AAAA").detail == "No recipe."
    assert script.bodies[-1] == ("inspect", b'{"image":"data:image/png;base64,AAAA"}')


@pytest.mark.parametrize("method", ["generate", "wait"])
def test_progress_and_previews_are_told(client: Any, script: Script, plays: dict[str, list[Play]], method: str) -> None:
    data = {"index": 0, "step": 1, "content_type": "image/png", "data": base64.b64encode(CAT).decode()}
    plays["job"] = [answer(job("running", 2))]
    plays["events"] = [stream(step(3, 1), event("preview", 3, data), event("succeeded", 5, finished(image(0))))]
    jobs: list[Job] = []
    previews: list[PreviewEvent] = []
    if method == "generate":
        client.generate("a cat", subjects(CAT), on_progress=jobs.append, on_preview=previews.append)
        assert script.sent("generate")[0]["previews"] is True
    else:
        client.wait(JOB_ID, jobs.append, previews.append)
    assert [now.fraction for now in jobs] == [0.0, 0.25, 0.0]
    assert [preview.image.getpixel((0, 0)) for preview in previews] == [(255, 165, 0)]


@pytest.mark.parametrize(
    ("status", "kind"), [("failed", JobFailedError), ("canceled", JobCanceledError), ("expired", JobExpiredError)]
)
def test_a_job_without_pictures_is_an_error(
    client: Any, plays: dict[str, list[Play]], status: str, kind: type[JobError]
) -> None:
    why = {"type": "", "title": "", "status": 503, "code": "device_lost", "detail": "The device is lost."}
    plays["job"] = [answer(job(status, 5) | {"error": None if status == "canceled" else why})]
    with pytest.raises(kind) as caught:
        client.generate("a cat", subjects(CAT))
    says = (
        ("The job was canceled; no picture was made.", None) if status == "canceled" else (why["detail"], why["code"])
    )
    assert (caught.value.detail, caught.value.code) == says
    assert caught.value.job.status == status


class Stopped(BaseException):
    """As Ctrl-C, which pytest would take for its own."""


@pytest.mark.parametrize("stop", [Stopped, ValueError])
@pytest.mark.parametrize("cancel", [answer(job("canceled", 3)), hang_up, problem(409)])
def test_who_breaks_off_cancels_the_job(
    client: Any, script: Script, plays: dict[str, list[Play]], stop: type[BaseException], cancel: Play
) -> None:
    plays["job"] = [answer(job("running", 2))]
    plays["events"] = [stream(step(3, 1))]
    plays["cancel"] = [cancel]

    def on_progress(now: Job) -> None:
        if now.step:
            raise stop

    with pytest.raises(stop):
        client.generate("a cat", subjects(CAT), on_progress=on_progress)
    assert script.kinds.count("cancel") == 1


def test_ctrl_c_cancels_the_job(script: Script, plays: dict[str, list[Play]]) -> None:
    plays["job"] = [answer(job("queued", 1))]
    ctrl_c = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))

    def on_progress(now: Job) -> None:
        if ctrl_c.ident is None:
            ctrl_c.start()

    with Client(script.url) as client, pytest.raises(KeyboardInterrupt):
        client.generate("a cat", subjects(CAT), on_progress=on_progress)
    assert script.kinds.count("cancel") == 1


def test_an_error_of_the_service_does_not_cancel(client: Any, script: Script, plays: dict[str, list[Play]]) -> None:
    plays["job"] = [problem(410)]
    with pytest.raises(MsdError):
        client.generate("a cat", subjects(CAT))
    assert "cancel" not in script.kinds


def test_a_bar_without_rich_is_a_line_on_a_terminal(
    script: Script, plays: dict[str, list[Play]], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setitem(__import__("sys").modules, "rich.console", None)
    monkeypatch.setattr("sys.stderr", terminal)
    plays["job"] = [
        answer(job("queued", 1)),
        answer(job("running", 2, phase="denoise", step=1, steps=4, fraction=0.25)),
    ]
    plays["events"] = [stream(event("succeeded", 5, finished(image(0))))]
    with Client(script.url) as client:
        client.generate("a cat", subjects(CAT), progress_bar=True)
    shown = terminal.getvalue()
    assert "queued, 2 ahead, about 9 s left" in shown or "queued, 2 ahead, about 10 s left" in shown
    assert "denoise, step 1 of 4" in shown
    assert " 25%" in shown
    assert shown.endswith("\r")
