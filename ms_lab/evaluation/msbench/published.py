"""What others report on MS-Bench. Each harness is its own: rows compare only with rows of the same one.

The authors released no code for their metrics: which DINO, whole pictures or crops, and how many seeds are not known.
"""

from __future__ import annotations

from dataclasses import dataclass

_PAPER = "MS-Diffusion, arXiv 2406.07209, tables 2 and 3, as a review quotes them"
_PAPERS_HARNESS = "the authors', never released"
_STORY_TAILOR = "StoryTailor, CVPR 2026"
_STORY_TAILORS_HARNESS = "StoryTailor's re-run"
_CONSIST_COMPOSE = "ConsistCompose, README_zh of its repository"
_CONSIST_COMPOSES_HARNESS = "ConsistCompose's own: other DINO numbers for the same pictures' method than the paper's"


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One method's numbers; what is left out was not found.

    Attributes:
        method: its name.
        numbers: by name of the metric.
        source: where they were read.
        harness: whose measurement it is.
    """

    method: str
    numbers: dict[str, float]
    source: str
    harness: str


def _paper(method: str, **numbers: float) -> PublishedRow:
    return PublishedRow(method, numbers, _PAPER, _PAPERS_HARNESS)


def _story_tailor(method: str, clip_i: float, m_dino: float, clip_t: float) -> PublishedRow:
    numbers = {"clip_i": clip_i, "m_dino": m_dino, "clip_t": clip_t}
    return PublishedRow(method, numbers, _STORY_TAILOR, _STORY_TAILORS_HARNESS)


def _consist_compose(method: str, clip_t: float, dino: float, miou: float, ap: float) -> PublishedRow:
    numbers = {"clip_t": clip_t, "dino": dino, "miou": miou, "ap": ap}
    return PublishedRow(method, numbers, _CONSIST_COMPOSE, _CONSIST_COMPOSES_HARNESS)


PUBLISHED = (
    _paper("MS-Diffusion", clip_i=0.698, dino=0.425, m_dino=0.108, clip_t=0.341),
    _paper("lambda-ECLIPSE", clip_t=0.316),
    _paper("SSR-Encoder", clip_i=0.725),
    _story_tailor("MS-Diffusion", 0.692, 0.108, 0.340),
    _story_tailor("FLUX Kontext", 0.732, 0.107, 0.372),
    _story_tailor("Nano-Banana", 0.749, 0.114, 0.389),
    _story_tailor("StoryTailor", 0.717, 0.112, 0.414),
    _consist_compose("MS-Diffusion", 0.336, 0.555, 0.466, 0.108),
    _consist_compose("ConsistCompose", 0.333, 0.660, 0.889, 0.789),
    _consist_compose("MUSE", 0.320, 0.619, 0.698, 0.352),
    _consist_compose("GLIGEN", 0.309, 0.454, 0.868, 0.751),
)
