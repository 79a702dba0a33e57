"""What comes in as JSON: the body of ``POST /generate``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from app.examples import REQUEST_EXAMPLES
from app.fields import (
    BoxField,
    MaskField,
    PictureField,
    WholePictureField,
    count,
    file_name,
    gathered_by_pydantic,
    in_range,
    known_scheduler,
    known_timestep_spacing,
    plain_name,
    side_in_pixels,
    strength_of_start,
    text,
)
from ms_core.errors import InvalidInputError
from ms_core.spec import (
    MAX_CONTROL_SCALE,
    MAX_CONTROLS,
    MAX_FEATHER,
    MAX_GUIDANCE_SCALE,
    MAX_IMAGES_PER_SUBJECT,
    MAX_LORA_WEIGHT,
    MAX_LORAS,
    MAX_PHRASE_CHARACTERS,
    MAX_PROMPT_CHARACTERS,
    MAX_RETRIES,
    MAX_SEED,
    MAX_STEPS,
    MAX_SUBJECT_SCALE,
    MAX_SUBJECTS,
    MAX_Z_INDEX,
    SCENE_SCALE,
    check_end,
    check_retries,
)
from ms_jobs.records import MAX_IMAGES

Scale = Annotated[float, in_range(0, MAX_SUBJECT_SCALE)]
Side = Annotated[int, side_in_pixels()]
Part = Annotated[float, in_range(0, 1)]
FileName = Annotated[str, file_name()]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class SubjectRequest(_Strict):
    """One subject: how it looks, what it is called, and where it stands."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["image"]}, {"required": ["images"]}]})

    phrase: Annotated[
        str, text(MAX_PHRASE_CHARACTERS, "A subject needs a phrase: the words that name it in the prompt.")
    ] = Field(description="The words that name the subject, best as they stand in the prompt.")
    images: Annotated[list[PictureField], count(1, MAX_IMAGES_PER_SUBJECT, "pictures of a subject")] | None = Field(
        default=None, description="Several pictures of the same subject, in place of `image`."
    )
    image: PictureField | None = Field(
        default=None,
        validate_default=True,
        description="The reference picture: a data URI with a PNG, JPEG or WebP in base64, at most 50 megapixels. "
        "Transparency is kept, the EXIF turn is applied, all other metadata is dropped.",
    )
    box: BoxField = Field(
        default=None,
        description="Where the subject stands in the picture. May be left out with a mask, for a scene, and with auto "
        "layout.",
    )
    scale: Scale | None = Field(
        default=None,
        description="Strength of this subject; replaces the request's scale, never multiplies it. "
        f"A scene has {SCENE_SCALE} unless given.",
    )
    mask: MaskField | None = Field(
        default=None,
        description="A painted place in place of the box: white where the subject acts, black where it does not, greys "
        "in between act in part. A picture as `image`, stretched over the result; what is transparent counts as black. "
        "A box beside it only steers how the reference is read.",
    )
    feather: Annotated[float, in_range(0, MAX_FEATHER)] = Field(
        default=0.0,
        description="Width of the soft edge inside box or mask, as a part of the picture's shorter side.",
    )
    z_index: Annotated[int, in_range(-MAX_Z_INDEX, MAX_Z_INDEX)] = Field(
        default=0,
        description="Where subjects overlap, the one with the higher number is in front; equal ones share the place.",
    )
    scene: bool = Field(
        default=False,
        description="The reference shows the whole scene: its place is the whole picture, so it takes no box and no mask. "
        "A `z_index` below the others' keeps it behind them.",
    )
    cutout: bool = Field(
        default=False,
        description="Cut the subject out of its pictures before the model sees them; the job shows what it sees.",
    )

    @field_validator("image")
    @classmethod
    def _is_the_only_one(cls, image: bytes | None, info: ValidationInfo) -> bytes | None:
        # Pictures that cannot be read are told of already, and missing from the data.
        images = info.data.get("images", ())
        if image is None and images is None:
            raise PydanticCustomError("missing_field", "Give the reference picture as image, or several as images.")
        if image is not None and images:
            with gathered_by_pydantic():
                raise InvalidInputError("Give the reference picture as image or as images, not both.")
        return image

    @property
    def pictures(self) -> tuple[bytes, ...]:
        """All reference pictures, as PNG."""
        return tuple(self.images or ()) if self.image is None else (self.image,)


class LoraRequest(_Strict):
    """A LoRA that acts on this picture only."""

    name: FileName = Field(description="As `GET /models` lists it.")
    weight: Annotated[float, in_range(-MAX_LORA_WEIGHT, MAX_LORA_WEIGHT)] = Field(
        default=1.0, description="How strongly it acts; 0 switches it off, negative turns its effect around."
    )


class ControlRequest(_Strict):
    """A ControlNet that follows a picture of edges, depth or a pose; it sees the prompt and never the subjects."""

    name: FileName = Field(description="As `GET /models` lists it, such as `canny`.")
    image: WholePictureField = Field(
        description="What to follow: a picture as a subject's `image`, exactly as large as the result."
    )
    scale: Annotated[float, in_range(0, MAX_CONTROL_SCALE)] = Field(
        default=1.0, description="How strongly it acts; 0 switches it off."
    )
    start: Part = Field(default=0.0, description="Where in the denoising it begins to act, from 0 to 1.")
    end: Part = Field(
        default=1.0, validate_default=True, description="Where in the denoising it ceases to act; above `start`."
    )

    @field_validator("end")
    @classmethod
    def _is_above_start(cls, end: float, info: ValidationInfo) -> float:
        # A start that cannot be read is told of already, and missing from the data.
        if "start" in info.data:
            with gathered_by_pydantic():
                check_end(end, info.data["start"], "")
        return end


class StartRequest(_Strict):
    """A picture to start from instead of pure noise."""

    image: PictureField = Field(description="A picture as a subject's `image`; stretched to the size of the result.")
    strength: Annotated[float, strength_of_start()] = Field(
        default=0.7, description="How much of it may change: above 0, and 1 for everything."
    )
    redraw: Annotated[list[int], count(0, MAX_SUBJECTS, "subjects to redraw")] = Field(
        default=[],
        description="Positions of the subjects, counted from 0, whose places alone are drawn anew; empty for the whole "
        "picture.",
    )


class AutoLayoutRequest(_Strict):
    """Let the model find the places of the subjects from the prompt."""

    mode: Literal["auto"]
    threshold: Annotated[float, in_range(0, 1)] = Field(
        default=0.5, description="How strongly a place must attend to a phrase to belong to its subject."
    )
    start_step: Annotated[int, in_range(1, MAX_STEPS)] = Field(
        default=5, description="The step, counted from 1, from which the found places act."
    )


def _none_for_boxes(value: Any) -> Any:
    return None if value == "boxes" else value


class GenerateRequest(_Strict):
    """A picture to be made. What is left out takes the model's default."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, json_schema_extra={"examples": REQUEST_EXAMPLES}
    )

    prompt: Annotated[str, text(MAX_PROMPT_CHARACTERS, "The prompt is empty: say what the picture shows.")] = Field(
        description="What the picture shows. What the model's text encoder cannot read is cut off, with a warning."
    )
    subjects: Annotated[list[SubjectRequest], count(1, MAX_SUBJECTS, "subjects")] = Field(
        description="More subjects than the model was trained with run with a warning."
    )
    negative_prompt: Annotated[str, text(MAX_PROMPT_CHARACTERS)] | None = Field(
        default=None, description='What the picture should not show; "" switches the model\'s default off.'
    )
    width: Side | None = Field(default=None, description="Of the picture, in pixels.")
    height: Side | None = Field(default=None, description="Of the picture, in pixels.")
    num_images: Annotated[int, in_range(1, MAX_IMAGES)] = Field(
        default=1, description="How many pictures; the seed counts up from one to the next."
    )
    num_inference_steps: Annotated[int, in_range(1, MAX_STEPS)] | None = Field(
        default=None, description="More steps take longer and look better, up to a point."
    )
    guidance_scale: Annotated[float, in_range(0, MAX_GUIDANCE_SCALE)] | None = Field(
        default=None, description="How strongly the picture follows the prompt; 1 or less switches guidance off."
    )
    scale: Scale | None = Field(default=None, description="Strength of all subjects without a scale of their own.")
    seed: Annotated[int, in_range(0, MAX_SEED)] | None = Field(
        default=None, description="Same seed and request, same picture. Left out: drawn, and reported in the job."
    )
    layout: Annotated[
        AutoLayoutRequest | None,
        BeforeValidator(_none_for_boxes, json_schema_input_type=Literal["boxes"] | AutoLayoutRequest | None),
    ] = Field(default=None, description='"boxes" (the default) takes the subjects\' boxes; the auto mode finds places.')
    grounding: bool = Field(default=True, description="Whether phrase and box steer how a reference is read.")
    scheduler: Annotated[str, known_scheduler()] | None = Field(default=None, description="The sampler.")
    timestep_spacing: Annotated[str, known_timestep_spacing()] | None = Field(
        default=None, description="How the sampler spreads its steps; most few-step LoRAs want `trailing`."
    )
    preset: Annotated[str, plain_name()] | None = Field(
        default=None,
        description="A named set of values of the model, as `GET /models` lists it. It stands in for what is left out; "
        "its LoRAs are added to those given.",
    )
    loras: Annotated[list[LoraRequest], count(0, MAX_LORAS, "LoRAs")] = Field(
        default=[], description="LoRAs of the model that act on this picture."
    )
    controls: Annotated[list[ControlRequest], count(0, MAX_CONTROLS, "controls")] = Field(
        default=[], description="ControlNets of the model, each with the picture that it follows."
    )
    start: StartRequest | None = Field(
        default=None, description="A picture to start from: change all of it, or redraw some subjects only."
    )
    previews: bool = Field(
        default=False,
        description="Whether to draw small pictures of the first image while it is made, for those who watch the job live.",
    )
    score: bool = Field(
        default=False,
        description="Whether to tell of each picture how well its subjects turned out. The model must have a scorer, see "
        "`GET /models`; not with auto layout.",
    )
    retries: Annotated[int, in_range(0, MAX_RETRIES)] = Field(
        default=0,
        description="How often at most a picture is drawn again, with another seed, while one of its subjects is more "
        "likely missing or wrong than not. The best draw is kept. Needs `score`.",
    )

    @field_validator("retries")
    @classmethod
    def _has_scores_to_go_by(cls, retries: int, info: ValidationInfo) -> int:
        # A score that cannot be read is told of already, and missing from the data.
        if "score" in info.data:
            with gathered_by_pydantic():
                check_retries(retries, info.data["score"], "")
        return retries
