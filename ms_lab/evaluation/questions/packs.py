"""The drawings of the bench: held-out things by every artist, and known things by some of those who were trained on.

The second pack also has the held-out set's drawing of every known thing: an unseen artist at a seen concept.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from ms_lab.mini.artwork import (
    HELD_OUT_SET,
    SPRITE_SIZE,
    Concepts,
    IconSet,
    find_concepts,
    held_out_concepts,
    list_sprites,
    load_sets,
    phrase_of,
    render,
)
from ms_lab.mini.halves import half_of, take_half
from ms_lab.mini.sprites import Sprite, SpritePack

HELD_OUT_PACK, KNOWN_PACK = "heldout-sprites.zip", "bench-sprites.zip"
# Whether a model has been trained on the artist, on the concept, on both or on neither: what of a cell it has NOT seen.
CELLS = BOTH, ARTIST, CONCEPT, NEITHER = ("both", "artist", "concept", "neither")
NUM_KNOWN_CONCEPTS = 58
# Trained artists of each known thing; the held-out set's drawing comes on top.
NUM_KNOWN_ARTISTS = 4
_DRAW_SEED = 20261123


class BenchPack(SpritePack):
    """The bench's two packs as one; candidates are indexes into it.

    Attributes:
        held_out: the concepts of which nobody's drawing was trained on.
        by_cell: for each of ``CELLS``, the indexes of its sprites by concept.
    """

    def __init__(self, held_out: SpritePack, known: SpritePack) -> None:
        super().__init__([*held_out.sprites, *known.sprites], [*held_out.pictures, *known.pictures])
        self.held_out = frozenset(held_out.by_concept)
        self.by_cell: dict[str, dict[str, list[int]]] = {cell: defaultdict(list) for cell in CELLS}
        for index, sprite in enumerate(self.sprites):
            self.by_cell[self.cell_of(index)][sprite.concept].append(index)

    @classmethod
    def read(cls, assets: Path, half: str | None = None) -> BenchPack:
        """The bench's pack from the folder that holds both.

        Args:
            assets: that folder.
            half: one of ``HALVES``, of the drawings that were never trained on; ``None`` for all of them. What was
                trained on has no halves.

        Raises:
            ModelNotFoundError: one of the packs is missing.
            InvalidInputError: there is no such half.
        """
        held_out, known = (SpritePack.load(assets / name) for name in (HELD_OUT_PACK, KNOWN_PACK))
        return cls(held_out, known) if half is None else cls(take_half(held_out, half), _unseen_half(known, half))

    def cell_of(self, sprite: int) -> str:
        """What of a drawing was never trained on: one of ``CELLS``."""
        unseen_artist = self.sprites[sprite].artist == HELD_OUT_SET
        if self.sprites[sprite].concept in self.held_out:
            return BOTH if unseen_artist else CONCEPT
        return ARTIST if unseen_artist else NEITHER


def _unseen_half(known: SpritePack, half: str) -> SpritePack:
    """All that was trained on, and a half of what was not."""
    sprites = enumerate(known.sprites)
    return known.subset([i for i, s in sprites if s.artist != HELD_OUT_SET or half_of(s.phrase) == half])


def build_known_pack(artwork: Path, size: int = SPRITE_SIZE) -> SpritePack:
    """Render the pack of known things: ``assets/bench-sprites.zip`` is what this makes.

    Args:
        artwork: folder with the Iconify packages of all eight sets.
        size: side of the sprites, in pixels.
    """
    sets = load_sets(artwork)
    rows = draw_known(sets, find_concepts(sets))
    return SpritePack([sprite for sprite, _ in rows], [render(svg, size) for _, svg in rows])


def draw_known(sets: dict[str, IconSet], concepts: Concepts) -> list[tuple[Sprite, str]]:
    """The known things' drawings with their SVG: a fixed draw, ordered by concept, then artist.

    A thing is eligible if enough trained artists drew it and it shares its phrase with no other: two things of one
    phrase (books in two colours) would be one and the same once their colours are turned.
    """
    held_out = set(held_out_concepts(sets, concepts))
    drawn: defaultdict[str, dict[str, tuple[Sprite, str]]] = defaultdict(dict)
    for icons in sets.values():
        for sprite, svg in list_sprites(icons, concepts):
            drawn[sprite.concept][sprite.artist] = sprite, svg
    phrases = [phrase_of(concepts.names[concept]) for concept in drawn]
    eligible = sorted(
        concept
        for concept, by_artist in drawn.items()
        if concept not in held_out
        and HELD_OUT_SET in by_artist
        and len(by_artist) > NUM_KNOWN_ARTISTS
        and phrases.count(phrase_of(concepts.names[concept])) == 1
    )
    draw = random.Random(_DRAW_SEED)  # noqa: S311 - a draw, no secret
    rows: list[tuple[Sprite, str]] = []
    for concept in sorted(draw.sample(eligible, NUM_KNOWN_CONCEPTS)):
        by_artist = drawn[concept]
        rows += [by_artist[artist] for artist in sorted([*_draw_artists(draw, list(by_artist)), HELD_OUT_SET])]
    return rows


def _draw_artists(draw: random.Random, artists: Sequence[str]) -> list[str]:
    return draw.sample(sorted(artist for artist in artists if artist != HELD_OUT_SET), NUM_KNOWN_ARTISTS)
