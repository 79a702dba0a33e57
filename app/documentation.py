"""Adds to the OpenAPI document what FastAPI cannot derive: the request body, events and problems.

``app.requests.body`` parses the body itself, so its schema is named here.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, TypeAdapter

from app.examples import JOB_EXAMPLE, REQUEST_EXAMPLES
from app.jobs.watch import DATA_OF_EVENT
from app.service.problems import SCHEMA_REF, Problem
from ms_jobs.job_request import GenerateRequest


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
            schemas = document["components"]["schemas"]
            schemas |= _schemas(GenerateRequest) | _schemas(Problem)
            schemas["GenerateRequest"]["examples"] = REQUEST_EXAMPLES
            for data in DATA_OF_EVENT.values():
                # Schemas of responses are already there.
                schemas |= {} if data.__name__ in schemas else _schemas(data)
            # FastAPI drops nulls, which are values here.
            schemas["JobResource"]["examples"] = [JOB_EXAMPLE]
            events = document["paths"]["/jobs/{job_id}/events"]["get"]["responses"]["200"]["content"]
            # In a 3.1 document the schema describes each event; FastAPI writes the itemSchema of 3.2.
            each = {"oneOf": [_event(*item) for item in DATA_OF_EVENT.items()]}
            events["text/event-stream"] = {"schema": each}
            _drop_null_of_parameters(document)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi


def _drop_null_of_parameters(document: dict[str, Any]) -> None:
    """A parameter that is not sent is missing: no text in an address or a header stands for null."""
    operations = (operation for path in document["paths"].values() for operation in path.values())
    for parameter in (parameter for operation in operations for parameter in operation.get("parameters", ())):
        schema = parameter["schema"]
        kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
        if len(kinds) == 1:
            del schema["anyOf"]
            schema |= kinds[0]


def _event(name: str, data: type[BaseModel]) -> dict[str, Any]:
    """Make the schema of a server-sent event, in the form of OpenAPI 3.2."""
    schema = {"$ref": SCHEMA_REF.format(model=data.__name__)}
    properties = {
        "event": {"const": name},
        "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": schema},
        "id": {"type": "string"},
    }
    return {"type": "object", "properties": properties, "required": ["event", "data"]}


def _schemas(model: type[Any]) -> dict[str, Any]:
    """Make the JSON schemas of a model and all that it refers to, by name."""
    schema = TypeAdapter(model).json_schema(ref_template=SCHEMA_REF)
    definitions = schema.pop("$defs", {})
    return {model.__name__: schema, **definitions}
