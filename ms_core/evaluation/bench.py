"""The evaluation of a model: the same scenes asked of the model, of two crippled models, and of the truth.

Columns:

- ``model``: the scene's references, at the model card's scale.
- ``scale 0``: the same with the subjects switched off; phrases, references and boxes then reach nothing but the
  prompt's own words, so the exchanged picture equals the original and no scene can flip.
- ``shuffled``: every scene gets the references of the next one; phrases, boxes and prompt stay. A model that obeys
  its references sets the same two wrong things in turn, so it flips more often than 1/16: a perfect painter in 16 %.
- ``composites``: the composed targets themselves: what the judge can see at best.
- ``through VAE``: the composed targets, encoded and decoded by the model's VAE.

The exchanged picture is asked for with the same prompt, seed and boxes; phrases and references change places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from ms_core.evaluation.metrics import Estimate, SceneOutcome, judge_scene, summarise
from ms_core.evaluation.scenes import EvaluationScene
from ms_core.mini.sprites import SpritePack
from ms_core.pipeline import MSDiffusionPipeline
from ms_core.spec import GenerationSpec, Subject

MODEL, SCALE_ZERO, SHUFFLED, COMPOSITES, THROUGH_VAE = COLUMNS = (
    "model",
    "scale 0",
    "shuffled",
    "composites",
    "through VAE",
)
MIN_LAYOUT, MIN_BACKGROUND = 0.70, 0.80

Generate = Callable[[Sequence[GenerationSpec]], list[Image.Image]]
Reconstruct = Callable[[Sequence[Image.Image]], list[Image.Image]]


@dataclass(frozen=True, slots=True)
class Maker:
    """Where pictures come from.

    Attributes:
        generate: one picture for each spec, in order.
        reconstruct: the same pictures through the model's VAE.
        batch_size: most pictures in one call of either.
    """

    generate: Generate
    reconstruct: Reconstruct
    batch_size: int

    @classmethod
    def of_pipeline(cls, pipeline: MSDiffusionPipeline, batch_size: int) -> Maker:
        """Pictures of a loaded model."""
        return cls(
            generate=lambda specs: [generation.image for generation in pipeline.run(specs)],
            reconstruct=lambda pictures: reconstruct(pipeline.components, pictures),
            batch_size=batch_size,
        )


@dataclass(frozen=True, slots=True)
class Column:
    """One column: the pictures of every scene and what was found in them.

    Attributes:
        originals, exchanged: one picture for each scene.
        outcomes: of each scene.
        estimates: over all scenes, by metric.
    """

    originals: tuple[Image.Image, ...]
    exchanged: tuple[Image.Image, ...]
    outcomes: tuple[SceneOutcome, ...]
    estimates: dict[str, Estimate]


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition of the gate: what it asks for, and whether it was met."""

    condition: str
    passed: bool


def run_columns(
    scenes: Sequence[EvaluationScene], pack: SpritePack, maker: Maker, advance: Callable[[int], None]
) -> dict[str, Column]:
    """Make and judge the pictures of all columns.

    Args:
        scenes: at least two, for shuffling.
        pack: the drawings that the scenes' candidates point into.
        maker: of the pictures.
        advance: called with the number of pictures that have just been made and judged.
    """
    columns: dict[str, Column] = {}
    for name in COLUMNS:
        pairs: list[tuple[Image.Image, Image.Image]] = []
        outcomes: list[SceneOutcome] = []
        for batch, made in _make_pairs(name, scenes, maker):
            pairs += made
            outcomes += [judge_scene(scene, pack, *pair) for scene, pair in zip(batch, made, strict=True)]
            advance(2 * len(batch))
        originals, exchanged = zip(*pairs, strict=True)
        columns[name] = Column(originals, exchanged, tuple(outcomes), summarise(outcomes))
    return columns


def check_gate(columns: dict[str, Column]) -> list[Gate]:
    """The conditions that the small model's first version must meet."""
    model = columns[MODEL].estimates
    gates = [
        Gate(
            f"{metric} above {control}, intervals apart",
            model[metric].clearly_above(columns[control].estimates[metric]),
        )
        for metric in ("identity", "swap")
        for control in (SCALE_ZERO, SHUFFLED)
    ]
    gates.append(Gate(f"layout at least {MIN_LAYOUT:.0%}", model["layout"].value >= MIN_LAYOUT))
    gates.append(Gate(f"background at least {MIN_BACKGROUND:.0%}", model["background"].value >= MIN_BACKGROUND))
    return gates


def build_spec(
    scene: EvaluationScene, references: EvaluationScene, exchanged: bool, scale: float | None
) -> GenerationSpec:
    """The request for one picture.

    Args:
        scene: gives prompt, phrases, boxes and seed.
        references: the scene whose references are shown: the same one, or another.
        exchanged: whether phrases and references change places; prompt, boxes and seed stay.
        scale: of the subjects; ``None`` for the model's own.
    """
    contents = [
        (own.phrase, shown.reference)
        for own, shown in zip(scene.original.subjects, references.original.subjects, strict=True)
    ]
    if exchanged:
        contents.reverse()
    subjects = tuple(Subject(phrase, image, box) for (phrase, image), box in zip(contents, scene.boxes, strict=True))
    return GenerationSpec(scene.original.caption, subjects, scale=scale, seed=scene.scene.seed)


@torch.no_grad()
def reconstruct(components: Any, pictures: Sequence[Image.Image]) -> list[Image.Image]:
    """RGB pictures encoded and decoded again by the VAE of a ``StableDiffusionXLPipeline``."""
    vae = components.vae
    pixels = components.image_processor.preprocess(list(pictures)).to(vae.device, vae.dtype)
    decoded = vae.decode(vae.encode(pixels).latent_dist.mode(), return_dict=False)[0]
    return components.image_processor.postprocess(decoded.float(), output_type="pil")


def _make_pairs(
    name: str, scenes: Sequence[EvaluationScene], maker: Maker
) -> Iterator[tuple[Sequence[EvaluationScene], list[tuple[Image.Image, Image.Image]]]]:
    """Scenes with their original and exchanged pictures, in pieces of at most one batch each."""
    following = [*scenes[1:], scenes[0]]
    for start in range(0, len(scenes), maker.batch_size):
        batch = scenes[start : start + maker.batch_size]
        if name in (COMPOSITES, THROUGH_VAE):
            sides = [[scene.original.image for scene in batch], [scene.exchanged.image for scene in batch]]
            if name == THROUGH_VAE:
                sides = [maker.reconstruct(pictures) for pictures in sides]
        elif name == SCALE_ZERO:
            # Exchanging what reaches nothing changes nothing, to the last bit; a test holds the pipeline to that.
            sides = [maker.generate([build_spec(scene, scene, False, 0.0) for scene in batch])] * 2
        else:
            shown = following[start : start + maker.batch_size] if name == SHUFFLED else batch
            sides = [
                maker.generate([build_spec(*pair, exchanged, None) for pair in zip(batch, shown, strict=True)])
                for exchanged in (False, True)
            ]
        yield batch, list(zip(*sides, strict=True))
