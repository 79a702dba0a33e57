"""The OpenAPI document: complete, true, and its examples work."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from contextlib import nullcontext
from typing import Any

import jsonschema
import pytest
from PIL import Image
from starlette.testclient import TestClient

from app.examples import JOB_EXAMPLE, REQUEST_EXAMPLES
from app.jobs.headers import parse_duration
from app.jobs.watch import DATA_OF_EVENT
from app.schemas import JobResource
from app.service.errors import HTTPProblem
from tests.support.sample_requests import good_request, good_subject, picture_uri

PICTURE = picture_uri(Image.linear_gradient("L"))


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def validate(value: Any, name: str, document: dict[str, Any]) -> None:
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(value)


def test_it_is_openapi_3_1_with_every_endpoint(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert {(method, path) for method, path, _ in operations(document)} == {
        ("post", "/generate"),
        ("post", "/validate"),
        ("get", "/queue"),
        ("get", "/usage"),
        ("get", "/session"),
        ("post", "/session"),
        ("delete", "/session"),
        ("get", "/jobs"),
        ("put", "/jobs/{job_id}"),
        ("delete", "/jobs/{job_id}"),
        ("post", "/jobs/{job_id}/retry"),
        ("get", "/jobs/{job_id}"),
        ("get", "/jobs/{job_id}/images/{index}"),
        ("get", "/jobs/{job_id}/references/{subject}"),
        ("get", "/jobs/{job_id}/request"),
        ("get", "/jobs/{job_id}/pictures/{sha256}"),
        ("get", "/jobs/{job_id}/events"),
        ("post", "/jobs/{job_id}/cancel"),
        ("post", "/assets"),
        ("get", "/assets"),
        ("get", "/assets/{asset_id}"),
        ("delete", "/assets/{asset_id}"),
        ("get", "/assets/{asset_id}/picture"),
        ("get", "/assets/{asset_id}/cutout"),
        ("get", "/cast"),
        ("put", "/cast/{name}"),
        ("get", "/cast/{name}"),
        ("delete", "/cast/{name}"),
        ("get", "/cast/{name}/pictures/{index}"),
        ("post", "/inspect"),
        ("get", "/models"),
        ("post", "/v1/images/edits"),
        ("post", "/v1/images/generations"),
        ("get", "/v1/models"),
        ("get", "/v1/models/{model}"),
        ("get", "/livez"),
        ("get", "/readyz"),
        ("get", "/problems/{code}"),
    }


def test_bodies_are_described_as_3_1_has_it(document: dict[str, Any]) -> None:
    """Tools that check a document, or make clients of it, stop at a word that their version does not know."""
    bodies = [
        body
        for _, _, operation in operations(document)
        for response in operation["responses"].values()
        for body in response.get("content", {}).values()
    ]
    words = {word for body in bodies for word in body if not word.startswith("x-")}
    assert words <= {"schema", "example", "examples", "encoding"}
    assert all("schema" in body for body in bodies)


def test_every_operation_has_its_own_id_and_a_summary(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(ids)) == len(ids)
    assert all(operation["summary"] for _, _, operation in operations(document))


def test_every_error_is_documented_as_a_problem_or_in_openais_form(document: dict[str, Any]) -> None:
    for _, path, operation in operations(document):
        kind, schema = ("json", "OpenAIErrorResponse") if path.startswith("/v1/") else ("problem+json", "Problem")
        for status, response in operation["responses"].items():
            if (status == "default" or int(status) >= 400) and path != "/readyz":
                content = {f"application/{kind}": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
                assert response["content"] == content


def test_the_statuses_of_generate_are_documented(document: dict[str, Any]) -> None:
    responses = document["paths"]["/generate"]["post"]["responses"]
    assert set(responses) == {"200", "202", "400", "413", "415", "422", "429", "503", "default"}


STATUSES = {
    "put_job": {"200", "202", "400", "410", "413", "415", "422", "429", "503", "default"},
    "retry_job": {"200", "202", "400", "404", "409", "410", "422", "429", "503", "default"},
    "get_job": {"200", "304", "400", "404", "410", "503", "default"},
    "delete_job": {"204", "404", "503", "default"},
    "list_jobs": {"200", "400", "503", "default"},
    "cancel_job": {"200", "202", "404", "409", "410", "503", "default"},
    "inspect_picture": {"200", "400", "413", "415", "422", "503", "default"},
    "get_image": {"200", "404", "410", "503", "default"},
    "validate_request": {"200", "400", "413", "415", "422", "503", "default"},
    "get_queue": {"200", "503", "default"},
    "upload_assets": {"201", "400", "413", "415", "422", "429", "503", "default"},
    "list_assets": {"200", "400", "503", "default"},
    "get_asset": {"200", "404", "503", "default"},
    "delete_asset": {"204", "404", "503", "default"},
    "get_cutout": {"200", "202", "400", "404", "503", "default"},
    "put_cast": {"200", "201", "400", "413", "415", "422", "503", "default"},
    "get_cast": {"200", "404", "503", "default"},
}


@pytest.mark.parametrize("name", STATUSES)
def test_the_statuses_of_jobs_are_documented(document: dict[str, Any], name: str) -> None:
    assert set(operation(document, name)["responses"]) == STATUSES[name]


PARAMETERS = {
    "generate": {"Cancel-After", "X-Start-Deadline", "Idempotency-Key", "Prefer"},
    "put_job": {"job_id", "Cancel-After", "X-Start-Deadline", "Prefer"},
    "retry_job": {"job_id", "Cancel-After", "X-Start-Deadline", "Idempotency-Key", "Prefer"},
    "get_job": {"job_id", "wait", "signed", "If-None-Match"},
    "list_jobs": {"status", "limit", "cursor"},
    "delete_job": {"job_id"},
    "edit_image": {"Idempotency-Key"},
    "create_image": {"Idempotency-Key"},
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_parameters_are_documented(document: dict[str, Any], name: str) -> None:
    parameters = operation(document, name)["parameters"]
    assert {parameter["name"] for parameter in parameters} == PARAMETERS[name]
    assert all(parameter["description"] for parameter in parameters)
    assert {parameter["name"] for parameter in parameters if parameter["required"]} <= {"job_id"}


HEADERS = {"ETag", "Location", "Retry-After", "Preference-Applied", "Idempotency-Replayed"}


@pytest.mark.parametrize(
    ("name", "status", "headers"),
    [
        ("generate", "202", HEADERS),
        ("put_job", "202", HEADERS),
        ("put_job", "200", HEADERS - {"Retry-After"}),
        ("get_job", "200", {"ETag", "Retry-After"}),
        ("get_job", "304", {"ETag", "Retry-After"}),
    ],
)
def test_the_headers_of_answers_are_documented(
    document: dict[str, Any], name: str, status: str, headers: set[str]
) -> None:
    assert set(operation(document, name)["responses"][status]["headers"]) == headers


def operation(document: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (each for _, _, each in operations(document) if each["operationId"] == name)
    return found


def test_every_field_of_a_request_is_described(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    requests = ["GenerateRequest", "Subject", "AutoLayout", "Lora", "Control", "StartPicture"]
    undescribed = [
        f"{name}.{field}"
        for name in requests
        for field, schema in schemas[name]["properties"].items()
        if "description" not in schema and "const" not in schema
    ]
    assert undescribed == []


def test_every_field_of_a_job_and_of_its_events_is_described(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    todo, seen = (
        [
            "JobsPage",
            "AssetsPage",
            "AssetsUploaded",
            "AssetUpload",
            *(data.__name__ for data in DATA_OF_EVENT.values()),
        ],
        set[str](),
    )
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += re.findall(r"#/components/schemas/(\w+)", json.dumps(schemas[name]))
    assert {"JobResource", "TimingsResource", "StatusEvent"} <= seen
    undescribed = [
        f"{name}.{field}"
        for name in sorted(seen)
        for field, schema in schemas[name].get("properties", {}).items()
        if "description" not in schema
    ]
    assert undescribed == []


@pytest.mark.parametrize("name", ["ImageResource", "MadeResource", "OpenAIImage", "OpenAICompletedImage"])
def test_the_seed_of_a_picture_with_a_redrawn_place_needs_its_retries(document: dict[str, Any], name: str) -> None:
    seed = document["components"]["schemas"][name]["properties"]["seed"]
    assert "drew one subject's place: the seed that gives it with the same `score` and `retries`" in seed["description"]


def test_the_data_of_each_event_is_documented(document: dict[str, Any]) -> None:
    content = operation(document, "watch_job")["responses"]["200"]["content"]["text/event-stream"]
    assert content["schema"] == {"$ref": "#/components/schemas/JobEvent"}
    schemas = document["components"]["schemas"]
    messages = [schemas[each["$ref"].rpartition("/")[2]] for each in schemas["JobEvent"]["oneOf"]]
    documented = {
        name: message["properties"]["data"]["contentSchema"]["$ref"].rpartition("/")[2]
        for message in messages
        for name in message["properties"]["event"]["enum"]
    }
    assert documented == {name: data.__name__ for name, data in DATA_OF_EVENT.items()}
    assert set(documented.values()) <= schemas.keys()


def test_answers_have_all_their_fields_and_requests_may_leave_out_those_with_defaults(document: dict[str, Any]) -> None:
    """Generators of clients make a field optional, or not, by this list."""
    schemas = document["components"]["schemas"]
    for name in ("Problem", "GenerationWarning", "ReadinessResource", "LivenessResource", "StatusMessage"):
        assert set(schemas[name]["required"]) == set(schemas[name]["properties"])
    assert set(schemas["GoneMessage"]["required"]) == {"event", "data"}
    assert schemas["Lora"]["required"] == ["name"]


def test_forms_with_names_are_used_by_name(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    fields = {"Box": schemas["Subject"], "Scheduler": schemas["GenerateRequest"]}
    for name, holder in fields.items():
        forms = holder["properties"][name.lower()]["anyOf"]
        assert forms == [{"$ref": f"#/components/schemas/{name}"}, {"type": "null"}]
    assert "ddim" in schemas["Scheduler"]["enum"]


def test_no_object_of_an_answer_is_without_a_name(document: dict[str, Any]) -> None:
    """A generated client calls such an object by its place."""
    bodies = [body for _, _, each in operations(document) for body in each["responses"].values()]
    inner = [
        value
        for schema in document["components"]["schemas"].values()
        for field in schema.get("properties", {}).values()
        for value in (field, field.get("items", {}), *field.get("anyOf", ()))
    ]
    assert not any("properties" in body["schema"] for each in bodies for body in each.get("content", {}).values())
    assert not any("properties" in value for value in inner)


def test_titles_that_repeat_a_name_are_left_out(document: dict[str, Any]) -> None:
    problem = document["components"]["schemas"]["Problem"]
    assert "title" not in problem
    assert "title" not in problem["properties"]["status"]
    assert "title" in problem["properties"]


@pytest.mark.parametrize("example", REQUEST_EXAMPLES)
def test_the_examples_can_be_sent(client: TestClient, example: dict[str, Any]) -> None:
    response = client.post("/generate", json=example)
    assert response.status_code == 202, response.text


@pytest.mark.parametrize("example", REQUEST_EXAMPLES)
def test_the_examples_fit_their_schema(document: dict[str, Any], example: dict[str, Any]) -> None:
    validate(example, "GenerateRequest", document)


def test_the_example_of_a_job_fits_its_schema(document: dict[str, Any]) -> None:
    (shown,) = document["components"]["schemas"]["JobResource"]["examples"]
    validate(shown, "JobResource", document)
    assert set(JOB_EXAMPLE) == set(JobResource.model_fields)


def test_answers_fit_their_schemas(client: TestClient, document: dict[str, Any]) -> None:
    validate(client.post("/generate", json=good_request()).json(), "JobResource", document)
    validate(client.post("/generate", json={}).json(), "Problem", document)
    validate(client.get("/jobs?limit=1").json(), "JobsPage", document)
    validate(client.get("/jobs?limit=0").json(), "Problem", document)
    validate(client.get("/readyz").json(), "ReadinessResource", document)
    validate(client.get("/models").json(), "ModelsResource", document)
    validate(client.post("/inspect", json={"image": PICTURE}).json(), "InspectionResource", document)


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": ""},
        {"prompt": " "},
        {"prompt": "a\0cat"},
        {"negative_prompt": "\0"},
        {"subjects": []},
        {"subjects": [good_subject(box=[0, 0, 1])]},
        {"subjects": [good_subject(box={"pixels": [0, 0, 1, 1], "xywh": [0, 0, 1, 1]})]},
        {"num_inference_steps": 151},
        {"width": 129},
        {"seed": 2**53},
        {"scheduler": "dpm"},
        {"layout": "auto"},
        {"subjects": [{"phrase": "cat", "box": [0, 0, 1, 1]}]},
        {"subjects": [good_subject(images=[picture_uri(Image.new("RGB", (1, 1)))])]},
        {"subjects": [{"phrase": "cat", "images": [], "box": [0, 0, 1, 1]}]},
        {"subjects": [good_subject(feather=0.6)]},
        {"subjects": [good_subject(z_index=1.5)]},
        {"subjects": [good_subject(end=1.5)]},
        {"subjects": [good_subject(image="sha256:" + "0" * 63)]},
        {"output_format": "gif"},
        {"output_format": "webp", "quality": 0},
        {"preset": ""},
        {"timestep_spacing": "wide"},
        {"loras": [{"name": "../paper"}]},
        {"loras": [{"name": "paper"}] * 9},
        {"loras": [{"name": "paper", "weight": 5}]},
        {"controls": [{"name": "canny"}]},
        {"start": {"image": picture_uri(Image.new("RGB", (1, 1))), "strength": 0}},
        {"start": {"image": picture_uri(Image.new("RGB", (1, 1))), "redraw": [-1]}},
        {"start": {"image": picture_uri(Image.new("RGB", (1, 1))), "redraw": [16]}},
        {"extra": 1},
    ],
)
def test_the_schema_refuses_what_the_api_refuses(
    client: TestClient, document: dict[str, Any], changes: dict[str, Any]
) -> None:
    request = good_request(**changes)
    assert client.post("/generate", json=request).status_code == 422
    with pytest.raises(jsonschema.ValidationError):
        validate(request, "GenerateRequest", document)


def test_the_page_needs_no_other_server_and_runs_no_foreign_code(client: TestClient) -> None:
    response = client.get("/docs")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]
    assert "http" not in policy
    files = re.findall(r"<(?:script src|link rel=\"stylesheet\" href)=\"([^\"]*)\"", response.text)
    assert files == ["/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js"]
    assert [client.get(path).headers["content-type"].partition(";")[0] for path in files] == [
        "text/css",
        "text/javascript",
    ]
    (script,) = re.findall(r"<script>(.*?)</script>", response.text)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy


def test_no_other_files_lie_beside_the_page(client: TestClient) -> None:
    assert client.get("/docs/__init__.py").status_code == 404


def pattern_of(document: dict[str, Any], name: str, parameter: str) -> str:
    found = next(item for item in operation(document, name)["parameters"] if item["name"] == parameter)
    return found["schema"]["pattern"]


@pytest.mark.parametrize("text", ["1", "30s", "5m", "1h", "720h", "43200m", "2592000", "999999", "1999999s"])
def test_durations_that_the_document_allows_are_taken(document: dict[str, Any], text: str) -> None:
    assert re.search(pattern_of(document, "generate", "X-Start-Deadline"), text)
    assert parse_duration("X-Start-Deadline", text)


@pytest.mark.parametrize("text", ["0", "", "1d", "721h", "43201m", "2592001", "9999999", "-1", "1.5"])
def test_durations_that_are_refused_are_not_in_the_document(document: dict[str, Any], text: str) -> None:
    assert not re.search(pattern_of(document, "generate", "Cancel-After"), text)
    with pytest.raises(HTTPProblem):
        parse_duration("Cancel-After", text)


def test_ids_of_jobs_have_a_pattern(client: TestClient, document: dict[str, Any]) -> None:
    for name in ("get_job", "put_job", "cancel_job", "watch_job", "get_image"):
        assert not re.search(pattern_of(document, name, "job_id"), "short")
        assert re.search(pattern_of(document, name, "job_id"), "a-job_of-16-char")
    assert client.get("/jobs/short").status_code == 404


def test_other_headers_and_cursors_have_patterns(document: dict[str, Any]) -> None:
    assert not re.search(pattern_of(document, "generate", "Idempotency-Key"), "a b")
    assert not re.search(pattern_of(document, "list_jobs", "cursor"), "a b")


@pytest.mark.parametrize("picture", ["sha256:" + "0a" * 32, "https://example.org/cat.png"])
def test_a_picture_may_be_named_in_the_document(document: dict[str, Any], picture: str) -> None:
    validate(good_request(subjects=[good_subject(image=picture)]), "GenerateRequest", document)


@pytest.mark.parametrize(
    "picture",
    ["http://example.org/cat.png", "https:///cat.png", "cat.png", "data:image/png,abc", "data:image/png;base64, "]
    + ["asset:", f"asset:{'0' * 31}", f"asset:{'0' * 33}", f"asset:{'A' * 32}", f" asset:{'0' * 32}", "upload:"]
    + ["sha256:", f"sha256:{'0' * 63}", f"sha256:{'0' * 65}", f"sha256:{'A' * 64}"],
)
def test_what_is_no_picture_is_not_in_the_document(document: dict[str, Any], picture: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validate(good_request(subjects=[good_subject(image=picture)]), "GenerateRequest", document)


def test_parameters_are_left_out_or_have_their_type(document: dict[str, Any]) -> None:
    schemas = [item["schema"] for _, _, each in operations(document) for item in each.get("parameters", ())]
    assert schemas
    assert all("type" in schema and schema.get("default", 0) is not None for schema in schemas)


@pytest.mark.parametrize(
    ("pictures", "fits"),
    [
        ({"image": None, "images": [PICTURE]}, True),
        ({"image": PICTURE, "images": None}, True),
        ({"image": None}, False),
        ({"image": PICTURE, "images": [PICTURE]}, False),
    ],
)
def test_a_picture_that_is_null_is_left_out(
    client: TestClient, document: dict[str, Any], pictures: dict[str, Any], fits: bool
) -> None:
    request = good_request(subjects=[{"phrase": "cat", "box": [0, 0, 1, 1], **pictures}])
    assert client.post("/generate", json=request).status_code == (202 if fits else 422)
    with nullcontext() if fits else pytest.raises(jsonschema.ValidationError):
        validate(request, "GenerateRequest", document)
