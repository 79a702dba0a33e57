"""Adds to the OpenAPI document what FastAPI cannot derive: the request body, events and problems.

``app.requests`` parses bodies itself, so their schemas are named here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, TypeAdapter

from app.assets.inspection import INSPECT_FORM
from app.assets.routes import ASSET_FORM
from app.assets.uploads import AssetUpload
from app.auth.documentation import SECURITY, SECURITY_SCHEMES
from app.cast.requests import CastMemberRequest
from app.cast.routes import CAST_FORM
from app.examples import JOB_EXAMPLE, REQUEST_EXAMPLES
from app.jobs.watch import DATA_OF_EVENT, GoneEvent, PreviewEvent, ProgressEvent, StatusEvent
from app.openai.bodies import SCHEMAS as OPENAI_SCHEMAS
from app.openai.schemas import OpenAICompletedImage, OpenAIPartialImage
from app.requests.submitted import GENERATE_FORM
from app.schemas import JobResource
from app.service.problems import SCHEMA_REF, Problem
from ms_jobs.job_request import GenerateRequest

# Schemas of the server-sent events, by the data that they carry.
_MESSAGES: dict[str, type[BaseModel]] = {
    "StatusMessage": StatusEvent,
    "ProgressMessage": ProgressEvent,
    "PreviewMessage": PreviewEvent,
    "EndMessage": JobResource,
    "GoneMessage": GoneEvent,
}
# Forms of a field that get a name: field of a schema, by name.
_NAMED_FORMS = {
    "Box": ("Subject", "box"),
    "Scheduler": ("GenerateRequest", "scheduler"),
    "TimestepSpacing": ("GenerateRequest", "timestep_spacing"),
}


def install_documentation(app: FastAPI) -> None:
    """Complete the OpenAPI document of ``app`` on its first use."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            _add_schemas(document["components"]["schemas"])
            document["components"]["securitySchemes"] = SECURITY_SCHEMES
            document["security"] = SECURITY
            events = document["paths"]["/jobs/{job_id}/events"]["get"]["responses"]["200"]["content"]
            # In a 3.1 document the schema describes each event; FastAPI writes the itemSchema of 3.2.
            events["text/event-stream"] = {"schema": _reference("JobEvent")}
            _drop_null_of_parameters(document)
            _require_all_of_answers(document)
            _drop_repeated_titles(document)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi


def _add_schemas(schemas: dict[str, Any]) -> None:
    """Add the schemas of bodies, of problems and of events."""
    schemas |= _schemas(GenerateRequest) | _schemas(AssetUpload) | _schemas(Problem)
    schemas |= _schemas(CastMemberRequest)
    schemas |= {
        "GenerateForm": GENERATE_FORM,
        "AssetForm": ASSET_FORM,
        "InspectForm": INSPECT_FORM,
        "CastMemberForm": CAST_FORM,
        **OPENAI_SCHEMAS,
    }
    schemas |= _schemas(OpenAIPartialImage) | _schemas(OpenAICompletedImage)
    schemas["GenerateRequest"]["examples"] = REQUEST_EXAMPLES
    for name, (holder, field) in _NAMED_FORMS.items():
        _name_form(schemas, name, schemas[holder]["properties"][field])
    for name, data in _MESSAGES.items():
        # Schemas of responses are already there.
        schemas |= {} if data.__name__ in schemas else _schemas(data)
        schemas[name] = _message(data)
    schemas["JobEvent"] = {"description": "An event of a job.", "oneOf": [_reference(name) for name in _MESSAGES]}
    # FastAPI drops nulls, which are values here.
    schemas["JobResource"]["examples"] = [JOB_EXAMPLE]


def _name_form(schemas: dict[str, Any], name: str, field: dict[str, Any]) -> None:
    """Move what a field may hold, other than null, to a schema with a name."""
    forms = [form for form in field["anyOf"] if form != {"type": "null"}]
    schemas[name] = forms[0] if len(forms) == 1 else {"anyOf": forms}
    field["anyOf"] = [_reference(name), {"type": "null"}]


def _drop_null_of_parameters(document: dict[str, Any]) -> None:
    """A parameter that is not sent is missing: no text in an address or a header stands for null."""
    for schema in _schemas_of_parameters(document):
        kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
        if len(kinds) == 1:
            del schema["anyOf"]
            schema |= kinds[0]


def _message(data: type[BaseModel]) -> dict[str, Any]:
    """Make the schema of a server-sent event, in the form of OpenAPI 3.2."""
    names = [name for name, each in DATA_OF_EVENT.items() if each is data]
    content = {"contentMediaType": "application/json", "contentSchema": _reference(data.__name__)}
    properties = {
        "event": {"type": "string", "enum": names, "description": "Name of the event."},
        "data": {"type": "string", **content, "description": "As JSON."},
        "id": {"type": "string", "description": "The job's version, for `Last-Event-ID`."},
    }
    if data is GoneEvent:
        del properties["id"]
    description = f"The event {' or '.join(f'`{name}`' for name in names)}."
    return {"type": "object", "description": description, "properties": properties}


def _require_all_of_answers(document: dict[str, Any]) -> None:
    """An answer always has all its fields, also those with a default."""
    schemas = document["components"]["schemas"]
    answers = _names_below([operation["responses"] for operation in _operations(document)], schemas)
    requests = _names_below([operation.get("requestBody") for operation in _operations(document)], schemas)
    for name in answers - requests:
        if "properties" in schemas[name]:
            schemas[name]["required"] = list(schemas[name]["properties"])


def _names_below(part: Any, schemas: dict[str, Any]) -> set[str]:
    """Names of the schemas that a part of the document refers to, directly or by others."""
    todo, found = [part], set[str]()
    while todo:
        names = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(todo.pop())))
        todo += [schemas[name] for name in names - found]
        found |= names
    return found


def _drop_repeated_titles(document: dict[str, Any]) -> None:
    """Drop titles that only repeat a name: clients made of the document would repeat them in every comment."""
    for schema in document["components"]["schemas"].values():
        schema.pop("title", None)
        for value in schema.get("properties", {}).values():
            value.pop("title", None)
    for schema in _schemas_of_parameters(document):
        schema.pop("title", None)


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (operation for path in document["paths"].values() for operation in path.values())


def _schemas_of_parameters(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (item["schema"] for operation in _operations(document) for item in operation.get("parameters", ()))


def _reference(name: str) -> dict[str, str]:
    return {"$ref": SCHEMA_REF.format(model=name)}


def _schemas(model: type[Any]) -> dict[str, Any]:
    """Make the JSON schemas of a model and all that it refers to, by name."""
    schema = TypeAdapter(model).json_schema(ref_template=SCHEMA_REF)
    definitions = schema.pop("$defs", {})
    return {model.__name__: schema, **definitions}
