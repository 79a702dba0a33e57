"""One request id from HTTP to the last step, and nothing of the prompt or of pictures in any log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.e2e.http_service import QUICK, HttpService
from tests.support.job_helpers import wait_until
from tests.support.sample_requests import good_request, good_subject, picture_uri

REQUEST_ID = "log-test-4711"
WORDS = "zebra-unicorn"


class LoggedService(HttpService):
    """A service that logs all it can."""

    def __init__(self, folder: Path, model: Path) -> None:
        super().__init__(folder, model, MSD_LOG_LEVEL="debug")
        self._logs = folder

    def text(self, process: str) -> str:
        return (self._logs / f"{process}.log").read_text()

    def lines(self, process: str, **values: Any) -> list[dict[str, Any]]:
        """The lines of a process that carry these values."""
        lines = [json.loads(line) for line in self.text(process).splitlines()]
        return [line for line in lines if values.items() <= line.items()]


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory, equipped_model_directory: Path) -> Iterator[LoggedService]:
    service = LoggedService(tmp_path_factory.mktemp("logged"), equipped_model_directory)
    try:
        service.start()
        service.wait_until_ready()
        yield service
    finally:
        service.stop()


@pytest.fixture(scope="module")
def job(logged: LoggedService) -> dict[str, Any]:
    """A job that succeeded, asked for with an id of the client's own."""
    request = good_request(
        **QUICK,
        prompt=f"a {WORDS} on the beach",
        negative_prompt=f"no second {WORDS}",
        subjects=[good_subject(phrase=WORDS, image=picture_uri(Image.new("RGB", (8, 8), "orange")))],
    )
    response = logged.client.post("/generate", json=request, headers={"X-Request-Id": REQUEST_ID})
    assert response.status_code == 202, response.text
    ended = logged.wait_for_end(response.json())
    assert ended["status"] == "succeeded"
    wait_until(lambda: logged.lines("worker", event="job ended", job_id=ended["id"]), "the worker's last word")
    return ended


def test_every_line_of_the_api_is_json(logged: LoggedService, job: dict[str, Any]) -> None:
    assert all({"event", "level", "logger", "timestamp"} <= line.keys() for line in logged.lines("api"))


def test_every_line_of_supervisor_and_worker_is_json(logged: LoggedService, job: dict[str, Any]) -> None:
    assert all({"event", "level", "logger", "timestamp"} <= line.keys() for line in logged.lines("worker"))


def test_the_api_logs_the_request(logged: LoggedService, job: dict[str, Any]) -> None:
    (line,) = logged.lines("api", event="request answered", request_id=REQUEST_ID)
    assert (line["method"], line["route"], line["status"]) == ("POST", "/generate", 202)
    assert line["duration_ms"] > 0


def test_the_api_logs_which_job_came_of_it(logged: LoggedService, job: dict[str, Any]) -> None:
    assert len(logged.lines("api", request_id=REQUEST_ID, job_id=job["id"])) == 1


def test_the_worker_logs_the_job_under_the_same_id(logged: LoggedService, job: dict[str, Any]) -> None:
    lines = logged.lines("worker", job_id=job["id"])
    assert {(line["request_id"], line["attempt"]) for line in lines} == {(REQUEST_ID, 1)}


def test_the_worker_logs_each_phase(logged: LoggedService, job: dict[str, Any]) -> None:
    over = logged.lines("worker", event="phase over", request_id=REQUEST_ID)
    assert [line["phase"] for line in over] == ["encode", "denoise", "decode", "store"]


def test_the_worker_logs_each_step(logged: LoggedService, job: dict[str, Any]) -> None:
    steps = logged.lines("worker", event="step", request_id=REQUEST_ID, phase="denoise")
    assert [line["step"] for line in steps] == [0, 1, 2]


def test_the_worker_says_who_it_is(logged: LoggedService, job: dict[str, Any]) -> None:
    names = {line["worker"] for line in logged.lines("worker", request_id=REQUEST_ID)}
    assert len(names) == 1


@pytest.mark.parametrize("process", ["api", "worker", "redis"])
def test_the_prompt_is_in_no_log(logged: LoggedService, job: dict[str, Any], process: str) -> None:
    assert WORDS not in logged.text(process)


@pytest.mark.parametrize("process", ["api", "worker", "redis"])
def test_no_picture_is_in_a_log(logged: LoggedService, job: dict[str, Any], process: str) -> None:
    text = logged.text(process)
    # What base64 and Python make of the beginning of a PNG.
    assert [sign for sign in ("iVBORw0KGgo", "data:image", "x89PNG") if sign in text] == []


def test_what_is_refused_is_not_quoted(logged: LoggedService) -> None:
    logged.client.post("/generate", json=good_request(prompt=[WORDS]), headers={"X-Request-Id": "refused"})
    logged.client.post("/generate", json=good_request(**{WORDS: 1}))
    logged.client.get(f"/{WORDS}?prompt={WORDS}")
    wait_until(lambda: logged.lines("api", request_id="refused"), "the line of the refused request")
    assert WORDS not in logged.text("api")


def test_a_job_that_fails_in_the_worker_is_told_without_its_words(logged: LoggedService) -> None:
    # The tokenizer knows how much of a prompt is cut off, and auto layout needs the phrase.
    request = good_request(
        **QUICK,
        prompt=f"{'a very long beach ' * 60} with a {WORDS}",
        layout={"mode": "auto", "start_step": 1},
        subjects=[good_subject(phrase=WORDS, box=None)],
    )
    ended = logged.wait_for_end(logged.submit(request))
    assert ended["status"] == "failed"
    (told,) = wait_until(
        lambda: logged.lines("worker", event="job cannot be done", job_id=ended["id"]), "the worker's reason"
    )
    assert told["code"] == ended["error"]["code"]
    # Not as it is, nor as the tokenizer writes it.
    assert [text for text in (WORDS, "unicorn") if text in logged.text("worker")] == []
