"""One validated request, as the artifact store keeps it: pictures by their SHA-256, everything else as it was asked."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from ms_core.errors import InvalidInputError
from ms_core.spec import (
    MAX_IMAGES_PER_SUBJECT,
    MAX_SEED,
    AutoLayout,
    Box,
    Control,
    GenerationSpec,
    Lora,
    StartPicture,
    Subject,
    check_file_name,
)
from ms_jobs.records import MAX_IMAGES, MODEL_NAME_PATTERN, FrozenModel, Sha256

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

    LoadImage = Callable[[str], Image.Image]


def _checked_file_name(name: str) -> str:
    check_file_name(name, "")
    return name


# ms_core takes paths of LoRAs too: no request may name a file outside the model directory.
FileName = Annotated[str, AfterValidator(_checked_file_name)]


class StoredSubject(FrozenModel):
    """One subject of a stored request, as ``ms_core.spec.Subject``; ``box`` is normalised xyxy.

    Attributes:
        images, mask: SHA-256 of stored pictures.
    """

    phrase: str
    images: Annotated[tuple[Sha256, ...], Field(min_length=1, max_length=MAX_IMAGES_PER_SUBJECT)]
    box: tuple[float, float, float, float] | None = None
    scale: float | None = None
    mask: Sha256 | None = None
    feather: float = 0.0
    z_index: int = 0
    scene: bool = False
    cutout: bool = False

    @model_validator(mode="before")
    @classmethod
    def _read_single_image(cls, data: Any) -> Any:
        """Requests stored before a subject could have several pictures name one ``image``."""
        if isinstance(data, dict) and "image" in data:
            return {name: value for name, value in data.items() if name != "image"} | {"images": (data["image"],)}
        return data

    def to_subject(self, load_image: LoadImage, pointer: str) -> Subject:
        """The subject with its pictures; ``pointer`` is where it stands in the request, the rest as ``to_specs``."""
        images = tuple(map(load_image, self.images))
        try:
            return Subject(
                phrase=self.phrase,
                image=images[0] if len(images) == 1 else images,
                box=None if self.box is None else Box(*self.box),
                scale=self.scale,
                mask=None if self.mask is None else load_image(self.mask),
                feather=self.feather,
                z_index=self.z_index,
                scene=self.scene,
                cutout=self.cutout,
            )
        except InvalidInputError as error:
            raise error.below(pointer) from error


class StoredLora(FrozenModel):
    """A LoRA of the model directory, as ``ms_core.spec.Lora``."""

    name: FileName
    weight: float = 1.0


class StoredControl(FrozenModel):
    """A ControlNet of the model directory, as ``ms_core.spec.Control``; ``image`` is the SHA-256 of a stored picture."""

    name: FileName
    image: Sha256
    scale: float = 1.0
    start: float = 0.0
    end: float = 1.0


class StoredStart(FrozenModel):
    """A picture to start from, as ``ms_core.spec.StartPicture``; ``image`` is the SHA-256 of a stored picture."""

    image: Sha256
    strength: float
    redraw: tuple[int, ...] = ()


class StoredLayout(FrozenModel):
    """Auto layout, as ``ms_core.spec.AutoLayout``."""

    threshold: float = 0.5
    start_step: int = 5


class StoredRequest(FrozenModel):
    """One validated request, as the artifact store keeps it; ``None`` means the model card's default."""

    prompt: str
    negative_prompt: str | None = None
    subjects: tuple[StoredSubject, ...]
    height: int | None = None
    width: int | None = None
    num_images: Annotated[int, Field(ge=1, le=MAX_IMAGES)] = 1
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    scale: float | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)]
    layout: StoredLayout | None = None
    grounding: bool = True
    scheduler: str | None = None
    timestep_spacing: str | None = None
    preset: str | None = None
    loras: tuple[StoredLora, ...] = ()
    controls: tuple[StoredControl, ...] = ()
    start: StoredStart | None = None
    previews: bool = False
    score: bool = False
    retries: int = 0
    model: Annotated[str, Field(pattern=rf"^{MODEL_NAME_PATTERN}$")]

    @property
    def pictures(self) -> frozenset[str]:
        """SHA-256 of every picture of the request."""
        subjects = {sha256 for subject in self.subjects for sha256 in (*subject.images, subject.mask)}
        others = {control.image for control in self.controls} | ({self.start.image} if self.start else set())
        return frozenset(sha256 for sha256 in subjects | others if sha256 is not None)

    def seeds(self) -> list[int]:
        """The seed of each picture: counting up from ``seed``, wrapping at 2**53."""
        return [(self.seed + index) % (MAX_SEED + 1) for index in range(self.num_images)]

    def to_specs(self, load_image: LoadImage) -> list[GenerationSpec]:
        """One spec for each picture.

        Args:
            load_image: gives the stored picture of a SHA-256, such as ``ArtifactStore.load_picture``.

        Raises:
            InvalidInputError: a value is out of range; its ``pointer`` names the field.
        """
        subjects = (subject.to_subject(load_image, f"/subjects/{index}") for index, subject in enumerate(self.subjects))
        controls = (
            Control(control.name, load_image(control.image), control.scale, control.start, control.end)
            for control in self.controls
        )
        start = self.start
        spec = GenerationSpec(
            prompt=self.prompt,
            subjects=tuple(subjects),
            negative_prompt=self.negative_prompt,
            height=self.height,
            width=self.width,
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            scale=self.scale,
            layout=None if self.layout is None else AutoLayout(self.layout.threshold, self.layout.start_step),
            grounding=self.grounding,
            scheduler=self.scheduler,
            timestep_spacing=self.timestep_spacing,
            preset=self.preset,
            loras=tuple(Lora(lora.name, lora.weight) for lora in self.loras),
            controls=tuple(controls),
            start=None if start is None else StartPicture(load_image(start.image), start.strength, start.redraw),
            score=self.score,
            retries=self.retries,
        )
        return [replace(spec, seed=seed) for seed in self.seeds()]
