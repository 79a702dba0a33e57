"""Openly licensed emoji sets as sprites: which things are drawn, by whom, and which are held out from training.

The sets are npm packages of Iconify (``@iconify-json/NAME``): ``icons.json`` holds SVG bodies, ``chars.json``, where
a set has it, code points. A concept is a code point. Sets without code points are matched by name without separators,
then by alias; what matches nothing is left out, so that a held-out concept cannot slip in under another name.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ms_core.errors import ModelNotFoundError
from ms_lab.mini.sprites import Sprite, SpritePack

TRAINING_SETS = ("noto", "noto-v1", "fluent-emoji-flat", "fluent-emoji", "fxemoji", "twemoji", "emojione")
HELD_OUT_SET = "openmoji"
NUM_HELD_OUT_CONCEPTS = 120
HELD_OUT_SEED = 20261122
SPRITE_SIZE = 96
MIN_ARTISTS = 4

_CATEGORIES = ("Animals & Nature", "Food & Drink", "Objects", "Activities", "Travel & Places")
_EXCLUDED_WORDS = re.compile(
    r"(?<![a-z])(clock|oclock|o-clock|thirty|keycap|button|arrow|sign|flag|person|people|man|woman|moon-face|"
    r"globe-showing|japanese|squared|ideograph|suit|symbol|trigram|star-and-crescent|light-skin|dark-skin|medium)(?![a-z])"
)
_COLOUR_WORDS = frozenset(
    [
        "red",
        "orange",
        "yellow",
        "green",
        "blue",
        "purple",
        "brown",
        "black",
        "white",
        "pink",
        "grey",
        "gray",
        "light",
        "dark",
    ]
)


@dataclass(frozen=True, slots=True)
class IconSet:
    """One emoji set as it lies in its package.

    Attributes:
        artist: the package's name without its scope.
        licence: SPDX name.
        icons: name to SVG body and size.
        code_points: name to concept, empty where the set gives none.
        aliases: other name to name.
        categories: category to names.
    """

    artist: str
    licence: str
    icons: dict[str, dict[str, Any]]
    code_points: dict[str, str]
    aliases: dict[str, str]
    categories: dict[str, list[str]]

    @classmethod
    def load(cls, directory: Path) -> IconSet:
        """Read a set from its package's folder.

        Raises:
            ModelNotFoundError: the folder does not hold the package.
        """
        try:
            icons, info, metadata = (
                json.loads((directory / f"{name}.json").read_text(encoding="utf-8"))
                for name in ("icons", "info", "metadata")
            )
        except FileNotFoundError as error:
            raise ModelNotFoundError(
                f"{directory} does not hold an Iconify package; docs/mini.md says how to get the artwork."
            ) from error
        characters_file = directory / "chars.json"
        characters: dict[str, str] = {}
        if characters_file.is_file():
            characters = json.loads(characters_file.read_text(encoding="utf-8"))
        size = {"width": icons.get("width", 16), "height": icons.get("height", 16)}
        return cls(
            artist=directory.name,
            licence=info["license"]["spdx"],
            icons={name: {**size, **icon} for name, icon in icons["icons"].items()},
            code_points={name: _plain_code_points(points) for points, name in characters.items()},
            aliases={alias: data["parent"] for alias, data in icons.get("aliases", {}).items()},
            categories=metadata.get("categories", {}),
        )

    def svg(self, name: str) -> str:
        """The whole SVG document of one icon."""
        icon = self.icons[name]
        width, height = icon["width"], icon["height"]
        return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">{icon["body"]}</svg>'


@dataclass(frozen=True, slots=True)
class Concepts:
    """Things that are drawn by several artists.

    Attributes:
        names: concept to its name in the held-out set, which names every concept.
        by_plain_name: name or alias without separators to concept.
    """

    names: dict[str, str]
    by_plain_name: dict[str, str]

    def of(self, icons: IconSet, name: str) -> str | None:
        """The concept of an icon: by code point, else by plain name, else by alias; ``None`` if it matches nothing."""
        if name in icons.code_points:
            concept = icons.code_points[name]
            return concept if concept in self.names else None
        candidates = [name, *(alias for alias, parent in icons.aliases.items() if parent == name)]
        return next((c for c in map(self.by_plain_name.get, map(plain_name, candidates)) if c is not None), None)


def plain_name(name: str) -> str:
    """A name without separators and case: ``red-apple`` and ``redApple`` are the same."""
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def phrase_of(name: str) -> str:
    """The words for a caption: blanks for dashes, without colours, since colours are turned."""
    words = name.split("-")
    kept = [word for word in words if word not in _COLOUR_WORDS]
    return " ".join(kept or words)


def find_concepts(sets: dict[str, IconSet]) -> Concepts:
    """Concepts of the kept categories that have a name in the held-out set and a code point."""
    reference = sets[HELD_OUT_SET]
    wanted = {plain_name(category) for category in _CATEGORIES}
    listed = {
        name
        for icons in sets.values()
        for category, names in icons.categories.items()
        if plain_name(category) in wanted | {plain_name(c.replace("& ", "")) for c in _CATEGORIES}
        for name in names
    }
    names = {
        concept: name
        for name, concept in reference.code_points.items()
        if name in listed and name in reference.icons and not _EXCLUDED_WORDS.search(name)
    }
    plain: dict[str, str] = {}
    for icons in sets.values():
        for name, concept in icons.code_points.items():
            plain.setdefault(plain_name(name), concept)
        for alias, parent in icons.aliases.items():
            if parent in icons.code_points:
                plain.setdefault(plain_name(alias), icons.code_points[parent])
    for concept in names:
        official = unicodedata.name(chr(int(concept.split("-")[0], 16)), "") if "-" not in concept else ""
        if official:
            plain.setdefault(plain_name(official), concept)
    return Concepts(names, {name: concept for name, concept in plain.items() if concept in names})


def render(svg: str, size: int) -> Image.Image:
    """A square RGBA picture of an SVG document, cut to its opaque part and centred."""
    import resvg_py

    data = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size * 2))
    return fit_square(Image.open(io.BytesIO(data)).convert("RGBA"), size)


def fit_square(picture: Image.Image, size: int) -> Image.Image:
    """An RGBA picture cut to its opaque part, centred on a clear square, and resized to this side."""
    extent = picture.getchannel("A").point([0] * 17 + [255] * 239).getbbox()
    if extent is not None:
        picture = picture.crop(extent)
    side = max(picture.size)
    square = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square.resize((size, size), Image.Resampling.BOX if side > 4 * size else Image.Resampling.LANCZOS)


def held_out_concepts(sets: dict[str, IconSet], concepts: Concepts) -> list[str]:
    """The concepts never trained on: a fixed draw from those that at least four artists drew."""
    drawn: dict[str, set[str]] = {}
    for icons in sets.values():
        for name in icons.icons:
            concept = concepts.of(icons, name)
            if concept is not None:
                drawn.setdefault(concept, set()).add(icons.artist)
    eligible = sorted(c for c, artists in drawn.items() if len(artists) > MIN_ARTISTS and HELD_OUT_SET in artists)
    return sorted(random.Random(HELD_OUT_SEED).sample(eligible, NUM_HELD_OUT_CONCEPTS))  # noqa: S311 - a draw, no secret


def list_sprites(icons: IconSet, concepts: Concepts) -> list[tuple[Sprite, str]]:
    """Every sprite of a set that shows a known concept, with its SVG; one for each concept."""
    found: dict[str, tuple[Sprite, str]] = {}
    for name in sorted(icons.icons):
        concept = concepts.of(icons, name)
        if concept is None or concept in found:
            continue
        svg = icons.svg(name)
        digest = hashlib.sha256(svg.encode()).hexdigest()
        phrase = phrase_of(concepts.names[concept])
        found[concept] = (Sprite(icons.artist, name, concept, phrase, digest, icons.licence), svg)
    return list(found.values())


def _plain_code_points(points: str) -> str:
    """Code points without variation selectors, so that all sets write them alike."""
    return "-".join(point for point in points.lower().split("-") if point != "fe0f")


def load_sets(directory: Path) -> dict[str, IconSet]:
    """Every emoji set below ``directory/node_modules/@iconify-json`` or ``directory`` itself."""
    return {name: IconSet.load(_icon_root(directory) / name) for name in (*TRAINING_SETS, HELD_OUT_SET)}


def has_icon_sets(directory: Path) -> bool:
    """Whether a folder holds Iconify packages, all of them or some."""
    return any((_icon_root(directory) / name / "icons.json").is_file() for name in (*TRAINING_SETS, HELD_OUT_SET))


def _icon_root(directory: Path) -> Path:
    scope = directory / "node_modules" / "@iconify-json"
    return scope if scope.is_dir() else directory


def build_packs(directory: Path, size: int = SPRITE_SIZE) -> tuple[SpritePack, SpritePack]:
    """Render the training pack and the held-out pack.

    The held-out pack has every artist's drawing of the held-out concepts, and nothing else; the training pack has
    the other concepts, without those that share a held-out concept's phrase, and without the held-out set.
    """
    sets = load_sets(directory)
    concepts = find_concepts(sets)
    held_out = set(held_out_concepts(sets, concepts))
    held_out_phrases = {phrase_of(concepts.names[concept]) for concept in held_out}
    training: list[tuple[Sprite, str]] = []
    unseen: list[tuple[Sprite, str]] = []
    for icons in sets.values():
        for sprite, svg in list_sprites(icons, concepts):
            if sprite.concept in held_out:
                unseen.append((sprite, svg))
            elif icons.artist != HELD_OUT_SET and sprite.phrase not in held_out_phrases:
                training.append((sprite, svg))
    return _render_pack(training, size), _render_pack(unseen, size)


def _render_pack(rows: list[tuple[Sprite, str]], size: int) -> SpritePack:
    return SpritePack([sprite for sprite, _ in rows], [render(svg, size) for _, svg in rows])
