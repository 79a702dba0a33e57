"""Noun phrases of English captions, found by rules: which words end a phrase, and which are no things."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from ms_lab.data.config import PipelineConfig
from ms_lab.data.items import NO_ENTITIES, Clip, Entity
from ms_lab.data.stages.base import all_frames


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DETERMINERS = _words(
    "a an the this that these those his her its their our my your some any each every another other several many few "
    "one two three four five six seven eight nine ten both all no"
)
_BREAKS = _words(
    "and or but nor with without in on at of to from into onto over under by for near behind beside besides between "
    "beneath above below through across along around against during while as than then is are was were be been being "
    "has have had do does did can could will would may might must should who which where when what there here it he "
    "she they we you i him them not very just also too up down out off away back next inside outside toward towards "
    "that"
)
# Words that name a place in the picture or the picture itself.
_NO_THINGS = _words(
    "background foreground front side top bottom left right middle center centre edge end view picture photo image "
    "photograph close-up closeup scene shot lot group pair couple piece set kind type day night sunset dark light "
    "sepia black white air distance"
)
_VERBS = _words(
    "sits stands lies holds wears rides walks runs looks plays eats drinks sleeps jumps flies hangs rests leans sat "
    "stood lay held worn ridden seen shown made parked seated covered filled placed topped surrounded dressed"
)
_WORD = re.compile(r"[^\W_]+(?:['\u2019-]+[^\W_]+)*")


class EntityStage:
    """Finds the entities of every caption."""

    def __init__(self, config: PipelineConfig) -> None:
        self.most = config.entities.max_entities

    def __call__(self, clips: Sequence[Clip]) -> list[Clip]:
        found = {caption: noun_phrases(caption) for caption in {frame.caption for frame in all_frames(clips)}}
        return [self._with_entities(clip, found) for clip in clips]

    def _with_entities(self, clip: Clip, found: dict[str, tuple[Entity, ...]]) -> Clip:
        frames = tuple(replace(frame, entities=found[frame.caption][: self.most]) for frame in clip.frames)
        too_many = any(len(found[frame.caption]) > self.most for frame in clip.frames)
        none = not any(frame.entities for frame in frames)
        notes = (*clip.notes, *(["too_many_entities"] if too_many else []), *([NO_ENTITIES] if none else []))
        return replace(clip, frames=frames, notes=notes)


def noun_phrases(caption: str) -> tuple[Entity, ...]:
    """The things that a caption names, without their articles, with half-open character spans."""
    found: list[Entity] = []
    run: list[re.Match[str]] = []
    end, opened, article = 0, False, False
    for match in _WORD.finditer(caption):
        word = match.group().lower()
        parted = bool(caption[end : match.start()].strip())
        if parted or _ends(word, run):
            found += _entity(caption, run, opened)
            run = []
        if not _ends(word, []) and word not in _VERBS:
            opened = article if not run else opened
            run.append(match)
        article, end = word in _DETERMINERS, match.end()
    return tuple(found + _entity(caption, run, opened))


def _ends(word: str, run: list[re.Match[str]]) -> bool:
    """Whether no phrase goes on with this word; a participle ends one but may begin another, as in "a running dog"."""
    if word in _DETERMINERS or word in _BREAKS:
        return True
    return bool(run) and (word in _VERBS or (word.endswith("ing") and len(word) > 5))


def _entity(caption: str, run: list[re.Match[str]], opened: bool) -> list[Entity]:
    # A participle alone is what something does; behind an article it is a thing, as in "a wedding".
    does = len(run) == 1 and run[0].group().lower().endswith("ing") and len(run[0].group()) > 5 and not opened
    if not run or does or run[-1].group().lower() in _NO_THINGS or run[-1].group().isdigit():
        return []
    span = (run[0].start(), run[-1].end())
    return [Entity(caption[span[0] : span[1]], span)]


def head_noun(phrase: str) -> str:
    """What a noun phrase names at its core: its last word, in lower case and without a plural's s."""
    words = _WORD.findall(phrase.lower())
    last = words[-1] if words else phrase.lower()
    return last[:-1] if len(last) > 3 and last.endswith("s") and not last.endswith("ss") else last
