"""What the OpenAPI document says of the bodies of OpenAI's images interface."""

from __future__ import annotations

from typing import Any

from app.service.problems import SCHEMA_REF

_SUBJECTS = "Objects as in `POST /generate`; those without `image` get the pictures that were sent, in their order."
_OWN: dict[str, Any] = {
    "model": {"type": "string", "description": "Name of the model, as in `GET /v1/models`. Default: the service's."},
    "prompt": {"type": "string", "description": "What the pictures show."},
    "n": {"type": "integer", "description": "Number of pictures. Default: 1."},
    "size": {"type": "string", "description": "`WIDTHxHEIGHT` in pixels, or `auto`: the model's. Default: `auto`."},
    "output_format": {"type": "string", "description": "`png`, `webp` or `jpeg`. Default: `png`."},
    "output_compression": {"type": "integer", "description": "The `quality` of `POST /generate`."},
    "stream": {"type": "boolean", "description": "Whether to answer with events. Default: false."},
    "partial_images": {"type": "integer", "description": "Most previews in the stream, from 0 to 3. Default: 0."},
}
_IGNORED = (
    "Fields of the interface that have no meaning here are taken, and named in the header `MSD-Warning`; all other fields "
    "of `POST /generate` may be sent beside these."
)

SCHEMAS: dict[str, Any] = {
    "OpenAIEditForm": {
        "type": "object",
        "description": f"Pictures of subjects, and what to make of them. {_IGNORED}",
        "properties": {
            "image": {
                "type": "array",
                "items": {"type": "string", "format": "binary"},
                "description": "Pictures of the subjects; the part may also be named `image[]`.",
            },
            **_OWN,
            "subjects": {"type": "string", "description": f"A JSON string. {_SUBJECTS}"},
            "phrases": {
                "type": "array",
                "items": {"type": "string"},
                "description": "In place of `subjects`: what each picture shows, in their order.",
            },
            "boxes": {
                "type": "array",
                "items": {"type": "string"},
                "description": "In place of `subjects`: where each subject stands, such as `0.05,0.3,0.45,0.8`. Without any "
                "box they stand side by side.",
            },
        },
        "required": ["image", "prompt"],
        "additionalProperties": True,
    },
    "OpenAIGenerateRequest": {
        "type": "object",
        "description": f"What to make. {_IGNORED}",
        "properties": {
            **_OWN,
            "subjects": {
                "type": "array",
                "items": {"$ref": SCHEMA_REF.format(model="Subject")},
                "description": "As in `POST /generate`.",
            },
        },
        "required": ["prompt", "subjects"],
        "additionalProperties": True,
    },
}
