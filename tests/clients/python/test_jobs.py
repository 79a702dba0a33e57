"""How the clients submit, wait and watch where answers are lost, nothing can be watched, or the line is cut."""

from __future__ import annotations

import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import trustme

from msd_client import (
    AccessError,
    ApiError,
    EndEvent,
    GoneEvent,
    InputError,
    InputProblem,
    Job,
    MsdError,
    NoAnswerError,
    NotFoundError,
    ProgressEvent,
    RateLimitError,
    Retries,
    ServiceError,
)
from msd_client._flow import Patience
from tests.clients.python.conftest import Make
from tests.support.scripted_service import (
    JOB_ID,
    Play,
    Script,
    answer,
    event,
    hang_up,
    job,
    problem,
    step,
    stream,
)
from tests.support.service_processes import free_port

CAREFUL = Retries(refusals=False)


def submit(client: Any, **options: Any) -> Job:
    return client.submit("a cat", [], **options)


def follow(client: Any) -> tuple[Job, list[Job]]:
    seen: list[Job] = []
    return client.wait(JOB_ID, seen.append), seen


def test_a_lost_answer_is_asked_for_again_with_the_same_key(make_client: Make, script: Script) -> None:
    script.plays = {"generate": [hang_up, hang_up, answer(job("queued", 1), 202)]}
    assert submit(make_client(retries=CAREFUL)).id == JOB_ID
    keys = script.headers("generate", "idempotency-key")
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert keys[0]


def test_each_submission_has_its_own_key_unless_it_is_given(client: Any, script: Script) -> None:
    script.plays = {"generate": [answer(job("queued", 1), 202)]}
    submit(client)
    submit(client)
    submit(client, idempotency_key="mine")
    keys = script.headers("generate", "idempotency-key")
    assert len(set(keys)) == 3
    assert keys[2] == "mine"


def test_a_lost_answer_is_waited_for_while_the_service_is_away_or_still_at_it(
    make_client: Make, script: Script
) -> None:
    script.plays = {"generate": [hang_up, problem(503), problem(409), answer(job("queued", 1), 202)]}
    assert submit(make_client(retries=CAREFUL)).id == JOB_ID


@pytest.mark.parametrize("status", [409, 422, 503])
def test_a_careful_client_does_not_ask_again_after_a_refusal(make_client: Make, script: Script, status: int) -> None:
    script.plays = {"generate": [problem(status)]}
    with pytest.raises(MsdError, match=r"^No\.$"):
        submit(make_client(retries=CAREFUL))
    assert script.kinds == ["generate"]


@pytest.mark.parametrize("status", [502, 503, 504])
def test_what_may_pass_is_sent_again_with_the_same_key(client: Any, script: Script, status: int) -> None:
    script.plays = {"generate": [problem(status), answer(b"busy", status, "text/html"), answer(job("queued", 1), 202)]}
    assert submit(client).id == JOB_ID
    assert len(set(script.headers("generate", "idempotency-key"))) == 1


@pytest.mark.parametrize("status", [400, 401, 409, 422, 500])
def test_what_does_not_pass_is_not(client: Any, script: Script, status: int) -> None:
    script.plays = {"generate": [problem(status)]}
    with pytest.raises(ApiError, match=r"^No\.$"):
        submit(client)
    assert script.kinds == ["generate"]


def test_the_service_says_when_to_ask_again(client: Any, script: Script) -> None:
    script.plays = {"generate": [problem(429, {"Retry-After": "1"}), answer(job("queued", 1), 202)]}
    begin = time.monotonic()
    submit(client)
    assert time.monotonic() - begin >= 1


def test_a_service_that_asks_for_too_much_patience_is_not_waited_for(client: Any, script: Script) -> None:
    script.plays = {"generate": [problem(429, {"Retry-After": "12"})]}
    with pytest.raises(RateLimitError) as caught:
        submit(client)
    assert caught.value.retry_after_s == 12
    assert script.kinds == ["generate"]


def test_a_limit_that_names_no_time_is_not_waited_for(client: Any, script: Script) -> None:
    script.plays = {"generate": [problem(429)]}
    with pytest.raises(RateLimitError, match=r"^No\.$"):
        submit(client)
    assert script.kinds == ["generate"]


def test_limits_are_waited_for_ten_seconds_in_all() -> None:
    patience, error = Patience(30.0), RateLimitError("No.", status=429)
    error.retry_after_s = 6.0
    assert patience.pause_after(error).seconds == 6
    error.retry_after_s = 10.1
    with pytest.raises(RateLimitError):
        patience.pause_after(error)


def test_a_careful_client_tells_at_once_of_no_service(make_client: Make) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(NoAnswerError, match=f"^No service answers at {url}; start one with: msd up$"):
        submit(make_client(url, retries=CAREFUL))


def test_a_certificate_of_an_unknown_authority_is_told_at_once(make_client: Make) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"https://localhost:{server.server_port}"
        try:
            with pytest.raises(MsdError, match=f"^The certificate of {url} is not trusted: .*SSL_CERT_FILE") as caught:
                submit(make_client(url, retries=CAREFUL))
        finally:
            server.shutdown()
            thread.join()
    assert not caught.value.may_pass


def test_patience_ends(make_client: Make, script: Script) -> None:
    script.plays = {"generate": [hang_up]}
    with pytest.raises(NoAnswerError, match="No service answers") as caught:
        submit(make_client(retries=Retries(patience_s=0.05)))
    assert caught.value.is_lost


def test_a_slow_service_is_told(make_client: Make, script: Script) -> None:
    script.plays = {"models": [lambda handler: time.sleep(0.5)]}
    with pytest.raises(NoAnswerError, match="does not answer in time") as caught:
        make_client(timeout=0.05, retries=Retries(patience_s=0)).models()
    assert caught.value.is_lost


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://localhost", "http://localhost:port", "http://"])
def test_what_is_no_address_is_told(make_client: Make, url: str) -> None:
    with pytest.raises(MsdError, match="is not the address of a service"):
        make_client(url)


def test_the_key_is_sent(make_client: Make, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MSD_API_KEY", raising=False)
    script.plays = {"models": [answer({"models": []})]}
    make_client(api_key="secret").models()
    make_client().models()
    monkeypatch.setenv("MSD_API_KEY", " of-the-environment\n")
    make_client().models()
    make_client(api_key="").models()
    assert script.headers("models", "authorization") == ["Bearer secret", None, "Bearer of-the-environment", None]


def test_a_key_that_cannot_be_sent_is_not_shown(make_client: Make) -> None:
    with pytest.raises(MsdError, match="The API key has characters") as caught:
        make_client(api_key="sec\nret")
    assert "sec" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (422, InputError),
        (413, InputError),
        (401, AccessError),
        (404, NotFoundError),
        (410, NotFoundError),
        (500, ServiceError),
    ],
)
def test_an_error_has_all_that_the_service_says(client: Any, script: Script, status: int, kind: type[ApiError]) -> None:
    item = {"pointer": "/subjects/0/box", "detail": "No box.", "code": "invalid_box"}
    script.plays = {"generate": [problem(status, code="invalid_input", request_id="abc", errors=[item])]}
    with pytest.raises(kind) as caught:
        submit(client)
    error = caught.value
    assert (error.status, error.code, error.detail, error.request_id) == (status, "invalid_input", "No.", "abc")
    assert error.errors == (InputProblem("/subjects/0/box", "No box.", "invalid_box"),)


@pytest.mark.parametrize(
    "play",
    [
        answer(b"<html>", 200, "text/html"),
        answer(b"<html>", 404, "text/html"),
        answer(b"<html>", 422, "application/problem+json"),
        answer({"title": "No detail"}, 422, "application/problem+json"),
        answer({"hello": "world"}),
        answer([]),
    ],
)
def test_another_program_is_told_apart(client: Any, script: Script, play: Play) -> None:
    script.plays = {"generate": [play]}
    with pytest.raises(ApiError, match=r"The program at 127\.0\.0\.1 is not this service \(HTTP status "):
        submit(client)


def test_numbers_that_json_does_not_know_are_told(client: Any) -> None:
    with pytest.raises(MsdError, match="cannot be written as JSON"):
        submit(client, guidance_scale=float("inf"))


def test_a_queued_job_shows_its_place_and_its_time(client: Any, script: Script) -> None:
    script.plays = {"job": [answer(job("queued", 1)), answer(job("succeeded", 9))]}
    _, seen = follow(client)
    assert [(now.status, now.position) for now in seen] == [("queued", 2), ("succeeded", None)]
    assert seen[0].eta_s == pytest.approx(9.5, abs=1)
    assert seen[1].eta_s is None


def test_a_running_job_is_watched(client: Any, script: Script) -> None:
    script.plays = {
        "job": [answer(job("running", 2))],
        "events": [stream(": ping\n\n", step(3, 1), step(4, 2), event("succeeded", 5, job("succeeded", 5)))],
    }
    end, seen = follow(client)
    assert (end.status, end.version) == ("succeeded", 5)
    assert [(now.version, now.phase, now.step) for now in seen[1:3]] == [(3, "denoise", 1), (4, "denoise", 2)]
    assert script.headers("events", "last-event-id") == ["2"]


def test_a_stream_that_is_cut_is_taken_up_where_it_was(client: Any, script: Script) -> None:
    script.plays = {
        "job": [answer(job("running", 2)), answer(job("running", 3))],
        "events": [stream(step(3, 1)), stream(step(4, 2), event("failed", 5, job("failed", 5)))],
    }
    end, seen = follow(client)
    assert end.status == "failed"
    assert script.headers("events", "last-event-id") == ["2", "3"]
    assert [now.step for now in seen if now.step] == [1, 2]


@pytest.mark.parametrize("play", [problem(404), problem(503), hang_up, answer({"not": "a stream"})])
def test_what_cannot_be_watched_is_looked_at(client: Any, script: Script, play: Play) -> None:
    script.plays = {
        "job": [answer(job("running", version)) for version in (2, 3, 4)] + [answer(job("succeeded", 5))],
        "events": [play],
    }
    end, seen = follow(client)
    assert (end.status, [now.version for now in seen]) == ("succeeded", [2, 3, 4, 5])


def test_a_job_that_waits_again_is_looked_at_again(client: Any, script: Script) -> None:
    back = {"version": 3, "status": "queued", "event": "abandoned", "attempt": 1}
    script.plays = {
        "job": [answer(job("running", 2)), answer(job("queued", 3)), answer(job("succeeded", 5))],
        "events": [stream(event("status", 3, back))],
    }
    _, seen = follow(client)
    assert [now.status for now in seen] == ["running", "queued", "succeeded"]


def test_a_service_that_restarts_is_waited_for(client: Any, script: Script) -> None:
    script.plays = {"job": [problem(503), hang_up, answer(job("succeeded", 5))]}
    assert follow(client)[0].status == "succeeded"


def test_a_job_that_is_gone_is_told(client: Any, script: Script) -> None:
    script.plays = {"job": [answer(job("running", 2)), problem(410)], "events": [stream(event("gone", 2, {}))]}
    with pytest.raises(NotFoundError) as caught:
        follow(client)
    assert caught.value.status == 410


def test_words_may_hold_what_others_take_for_the_end_of_a_line(client: Any, script: Script) -> None:
    end = job("failed", 3) | {"error": {"detail": "one\u2028two\x85three"}}
    script.plays = {"job": [answer(job("running", 2))], "events": [stream(event("failed", 3, end))]}
    assert follow(client)[0].error == "one\u2028two\x85three"


def test_watching_goes_on_after_the_last_event_over_cut_lines(client: Any, script: Script) -> None:
    script.plays = {
        "events": [
            stream("retry: 1000\n\n", step(3, 1), event("a newer service's", 4, {})),
            problem(503),
            hang_up,
            stream(step(5, 2)),
            stream(event("succeeded", 6, job("succeeded", 6))),
        ]
    }
    events = list(client.watch(JOB_ID, after=2))
    assert [(type(item), getattr(item, "step", None)) for item in events] == [
        (ProgressEvent, 1),
        (ProgressEvent, 2),
        (EndEvent, None),
    ]
    assert script.headers("events", "last-event-id") == ["2", "3", "3", "3", "5"]


def test_watching_ends_with_a_job_that_is_deleted(client: Any, script: Script) -> None:
    script.plays = {"events": [stream(event("gone", 0, {"code": "job_gone", "detail": "Deleted."}))]}
    assert list(client.watch(JOB_ID)) == [GoneEvent("job_gone", "Deleted.")]


def test_watching_ends_where_all_was_seen(client: Any, script: Script) -> None:
    script.plays = {"events": [answer(b"", 204)]}
    assert list(client.watch(JOB_ID, after=9)) == []


def test_watching_tells_of_a_job_that_is_not_there(client: Any, script: Script) -> None:
    with pytest.raises(NotFoundError):
        list(client.watch(JOB_ID))


def test_watching_loses_patience(make_client: Make, script: Script) -> None:
    script.plays = {"events": [problem(503)]}
    with pytest.raises(ServiceError):
        list(make_client(retries=Retries(patience_s=0.05)).watch(JOB_ID))
