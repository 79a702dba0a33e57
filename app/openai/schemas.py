"""What OpenAI's images interface answers with; fields of ours beside its own are named so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, Field

from app.schemas import PICTURE_SEED
from ms_core.spec import GenerationWarning

Kind = Literal["image_generation", "image_edit"]
PartialName = Literal["image_generation.partial_image", "image_edit.partial_image"]
CompletedName = Literal["image_generation.completed", "image_edit.completed"]
PARTIAL: Mapping[Kind, PartialName] = {
    "image_generation": "image_generation.partial_image",
    "image_edit": "image_edit.partial_image",
}
COMPLETED: Mapping[Kind, CompletedName] = {
    "image_generation": "image_generation.completed",
    "image_edit": "image_edit.completed",
}


class OpenAIImage(BaseModel):
    """A finished picture."""

    b64_json: str = Field(description="Its bytes, in base64.")
    seed: int = Field(description=f"Of this service. {PICTURE_SEED}")


class OpenAIImages(BaseModel):
    """Finished pictures."""

    created: int = Field(description="When the request was accepted, in Unix seconds.")
    data: list[OpenAIImage] = Field(description="The pictures, in order.")
    size: str = Field(description="`WIDTHxHEIGHT` in pixels.")
    output_format: str = Field(description="`png`, `webp` or `jpeg`.")
    background: Literal["opaque"] = Field(default="opaque", description="Pictures have no transparency.")
    job: str = Field(description="Of this service: id of the job, for `GET /jobs/{job_id}`.")
    warnings: list[GenerationWarning] = Field(description="Of this service: the job's warnings.")


class OpenAITokenDetails(BaseModel):
    """Tokens by kind."""

    text_tokens: int = Field(default=0, description="Always 0.")
    image_tokens: int = Field(default=0, description="Always 0.")


class OpenAIUsage(BaseModel):
    """What the interface bills; nothing is counted here."""

    input_tokens: int = Field(default=0, description="Always 0.")
    output_tokens: int = Field(default=0, description="Always 0.")
    total_tokens: int = Field(default=0, description="Always 0.")
    input_tokens_details: OpenAITokenDetails = Field(
        default=OpenAITokenDetails(), description="Always those of nothing."
    )


class OpenAIImageEvent(BaseModel):
    """What all events with a picture have."""

    b64_json: str = Field(description="Bytes of the picture, in base64.")
    created_at: int = Field(description="When the request was accepted, in Unix seconds.")
    size: str = Field(description="Of the finished picture: `WIDTHxHEIGHT` in pixels, or `auto` while it is not known.")
    quality: Literal["auto"] = Field(default="auto", description="Without meaning here.")
    background: Literal["opaque"] = Field(default="opaque", description="Pictures have no transparency.")
    output_format: str = Field(description="Format of these bytes: `png`, `webp` or `jpeg`.")


class OpenAIPartialImage(OpenAIImageEvent):
    """A small preview of the first picture while it is made."""

    type: PartialName = Field(description="Name of the event.")
    partial_image_index: int = Field(description="Number of the preview, counted from 0.")


class OpenAICompletedImage(OpenAIImageEvent):
    """A finished picture; of several there is an event each."""

    type: CompletedName = Field(description="Name of the event.")
    usage: OpenAIUsage = Field(default=OpenAIUsage(), description="Always nothing.")
    seed: int = Field(description=f"Of this service. {PICTURE_SEED}")


class OpenAIModel(BaseModel):
    """A model of this service."""

    id: str = Field(description="Its name.")
    object: Literal["model"] = Field(default="model", description="Kind of thing.")
    created: int = Field(default=0, description="Always 0.")
    owned_by: str = Field(default="msd", description="Always `msd`.")


class OpenAIModels(BaseModel):
    """All models of this service."""

    object: Literal["list"] = Field(default="list", description="Kind of thing.")
    data: list[OpenAIModel] = Field(description="The models.")
