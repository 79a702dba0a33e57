"""The columns: the model, what it must beat, and what is possible at best.

Scenes of more subjects than the model's card allows are not asked of the model; they have the other columns alone.

- ``model``: the scene's references, at the model card's scale.
- ``fast``: the same with the model's preset of that name, if it has one; the headline only.
- ``scale 0``: the subjects are switched off; phrases, references and boxes then reach nothing but the prompt's own words.
- ``shuffled``: every scene gets the references of the following one; prompt, phrases, boxes and seed stay.
- ``no grounding``: the model reads each reference without phrase and box; the headline only, as the next two.
- ``exchanged phrases``: each of two subjects is called what the other one is; the prompt stays.
- ``wrong phrases``: prompt and subjects name the things of the following scene; references, boxes and seed stay.
- ``composites``: the composed targets themselves: what the judge can see at best.
- ``through VAE``: the composed targets, encoded and decoded by the model's VAE: the ceiling of any model with that VAE.
- ``pasted``: the reference's drawing set into its box as it is, over the right background in the right light: what
  copy and paste gives.
- ``mosaic 16`` to ``mosaic 3``: the composites with their mean colours in so many cells a side of each silhouette's box.
- ``blur 5``: the composites, blurred by five pixels in each silhouette's box.
- ``wrong order``: the composites with the other subject in front; contact only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import Image

from ms_core.config import ModelCard
from ms_core.spec import GenerationSpec, Subject
from ms_core.spec.resolve import ResolvedSpec
from ms_lab.evaluation.questions.mosaics import blurred, mosaic
from ms_lab.evaluation.questions.scenes import GROUPS, BenchScene
from ms_lab.mini.scenes import caption_of

MODEL, FAST, SCALE_ZERO, SHUFFLED = ("model", "fast", "scale 0", "shuffled")
NO_GROUNDING, EXCHANGED_PHRASES, WRONG_PHRASES = WORDS = ("no grounding", "exchanged phrases", "wrong phrases")
COMPOSITES, THROUGH_VAE, PASTED = ("composites", "through VAE", "pasted")
GENERATED = (MODEL, FAST, SCALE_ZERO, SHUFFLED, *WORDS)
KEPT = (*GENERATED, COMPOSITES, THROUGH_VAE, PASTED)
# Cells a side, and pixels; such pictures are made from the composites whenever they are looked at.
MOSAICS = {f"mosaic {cells}": cells for cells in (16, 12, 8, 6, 4, 3)}
BLUR, BLUR_PIXELS = "blur 5", 5.0
WRONG_ORDER = "wrong order"
COLUMNS = (*KEPT, *MOSAICS, BLUR, WRONG_ORDER)
HEADLINE = "headline"
# The first scenes of these groups have these columns in the core; in the full bench all have.
CORE_CONTROLLED = (SCALE_ZERO, SHUFFLED, *WORDS)
CORE_CONTROLS = {HEADLINE: 40, "twins": 16, "contact": 12}
# Side of the square scenes, in pixels; a model of another size is asked for its own.
_SCENE_SIDE = 128


@dataclass(frozen=True, slots=True)
class PictureKey:
    """Which picture of the bench: its column, its scene, and whether the references are exchanged."""

    column: str
    group: str
    number: int
    exchanged: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """How the model is asked; ``None`` leaves a value to preset and model card."""

    preset: str | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A picture that the model is asked for."""

    key: PictureKey
    spec: GenerationSpec


class Requests:
    """Everything that a model is asked for.

    Args:
        scenes: of the groups that are measured.
        full: whether all scenes have all columns.
        card: of the model; gives the pictures' size.
        settings: the same for all pictures, but for the column ``fast``, which is left out if they are not the card's.
    """

    def __init__(self, scenes: Sequence[BenchScene], full: bool, card: ModelCard, settings: Settings) -> None:
        self.scenes = scenes
        self.full = full
        self.card = card
        self.settings = settings
        self.has_fast = FAST in card.presets and settings == Settings()
        self._following = _following(scenes)

    def keys(self, column: str, scene: BenchScene) -> list[PictureKey]:
        """The pictures of one scene in one column; none where the column leaves the scene out."""
        key = PictureKey(column, scene.group, scene.number)
        if column in GENERATED and len(scene.original.subjects) > self.card.max_subjects:
            return []
        if column == FAST and not (self.has_fast and scene.group == HEADLINE):
            return []
        if column == WRONG_ORDER and scene.reordered is None:
            return []
        if column in WORDS and scene.group != HEADLINE:
            return []
        if column in CORE_CONTROLLED and not self.full and scene.number >= CORE_CONTROLS.get(scene.group, 0):
            return []
        if column in (SHUFFLED, WRONG_PHRASES) and (scene.group, scene.number) not in self._following:
            return []
        # Exchanging what reaches nothing changes nothing, to the last bit; and what is pasted is never exchanged.
        if scene.exchanged is None or column in (SCALE_ZERO, PASTED):
            return [key]
        return [key, PictureKey(column, scene.group, scene.number, exchanged=True)]

    def __iter__(self) -> Iterator[Request]:
        for column in GENERATED:
            for scene in self.scenes:
                for key in self.keys(column, scene):
                    yield Request(key, self.spec(key, scene))

    def spec(self, key: PictureKey, scene: BenchScene) -> GenerationSpec:
        """What the model is asked for. A scene reference is a subject like any other: its box is the whole picture.

        Where it is asked who is in front, a later subject's ``z_index`` is higher.
        """
        shown = self._following[scene.group, scene.number] if key.column == SHUFFLED else scene
        references = [subject.reference for subject in shown.original.subjects]
        if key.exchanged:
            references.reverse()
        own = scene.original
        prompt, phrases = self._words(key.column, scene)
        subjects = tuple(
            Subject(phrase, image, subject.box, z_index=0 if scene.reordered is None else index)
            for index, (phrase, subject, image) in enumerate(zip(phrases, own.subjects, references, strict=True))
        )
        height, width = self.size(own.height, own.width)
        return GenerationSpec(
            prompt,
            subjects,
            height=height,
            width=width,
            scale=0.0 if key.column == SCALE_ZERO else None,
            seed=scene.scene.seed,
            preset=FAST if key.column == FAST else self.settings.preset,
            num_inference_steps=self.settings.num_inference_steps,
            guidance_scale=self.settings.guidance_scale,
            grounding=key.column != NO_GROUNDING,
        )

    def _words(self, column: str, scene: BenchScene) -> tuple[str, list[str]]:
        """The prompt of a column, and what it calls each subject."""
        phrases = [subject.phrase for subject in scene.original.subjects]
        if column == EXCHANGED_PHRASES:
            return scene.original.caption, phrases[::-1]
        if column == WRONG_PHRASES:
            phrases = [subject.phrase for subject in self._following[scene.group, scene.number].original.subjects]
            return caption_of(phrases, scene.scene.background, scene.scene.treatment)[0], phrases
        return scene.original.caption, phrases

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The size that the model is asked for in the place of a scene's, in pixels: its own for squares."""
        side = self.card.defaults.height
        return height * side // _SCENE_SIDE, width * side // _SCENE_SIDE

    @property
    def square_size(self) -> tuple[int, int]:
        """Height and width that the model is asked for in the place of a square scene's."""
        return self.size(_SCENE_SIDE, _SCENE_SIDE)

    def resolved(self) -> ResolvedSpec:
        """What the settings come to for the first scene; errors as ``ResolvedSpec.of``."""
        scene = self.scenes[0]
        return ResolvedSpec.of(self.spec(PictureKey(MODEL, scene.group, scene.number), scene), self.card)


def composed_picture(key: PictureKey, scene: BenchScene) -> Image.Image:
    """The picture of a column that asks the model for none, before any VAE; RGB."""
    if key.column == PASTED:
        return scene.pasted
    if key.column == WRONG_ORDER and scene.reordered is not None:
        return scene.reordered
    exchanged = scene.exchanged if key.exchanged else None
    sample = scene.original if exchanged is None else exchanged
    if key.column in MOSAICS:
        return mosaic(sample, len(scene.subjects), MOSAICS[key.column])
    return blurred(sample, len(scene.subjects), BLUR_PIXELS) if key.column == BLUR else sample.image


def _following(scenes: Sequence[BenchScene]) -> dict[tuple[str, int], BenchScene]:
    """The next scene of the same group with as many subjects, the last one's being the first; not for one that is alone."""
    following: dict[tuple[str, int], BenchScene] = {}
    for group in GROUPS:
        for count in range(1, 1 + max(len(scene.original.subjects) for scene in scenes)):
            alike = [scene for scene in scenes if scene.group == group and len(scene.original.subjects) == count]
            if len(alike) > 1:
                pairs = zip(alike, [*alike[1:], alike[0]], strict=True)
                following |= {(scene.group, scene.number): other for scene, other in pairs}
    return following
