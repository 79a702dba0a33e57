"""Every filter on items that it is for and on their neighbours that it must leave."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from ms_core.spec import Box
from ms_lab.data.filters.colours import colour_fit
from ms_lab.data.filters.edges import edge_ratios, edge_strength
from ms_lab.data.filters.hashes import duplicates, perceptual_hash
from ms_lab.data.filters.measures import border_share, box_fit, covered_share, sharpness
from ms_lab.data.filters.text import text_share
from ms_lab.data.filters.tracks import track_fit
from ms_lab.data.filters.verdicts import FILTERS
from ms_lab.data.items import Clip, Detection, Frame, Place
from ms_lab.data.run_lengths import run_lengths
from ms_lab.data.stages.filter import FilterStage
from ms_lab.mini.backgrounds import BACKGROUNDS
from tests.ms_lab.data.made_clips import config_without_models, judged_clip, scene


def changed(clip: Clip, place: Place, detection: Detection) -> Clip:
    frames = list(clip.frames)
    own = list(frames[place.frame].detections)
    own[place.detection] = detection
    frames[place.frame] = replace(frames[place.frame], detections=tuple(own))
    return replace(clip, frames=tuple(frames))


def reasons(clip: Clip, **filters: object) -> set[str]:
    """What speaks against the clip's first detection."""
    (judged,) = FilterStage(config_without_models(filters=filters))([clip])
    return {reason.filter for reason in judged.reasons[Place(0, 0)]}


def test_good_items_pass_all_filters() -> None:
    clip = judged_clip(config_without_models())
    assert not any(clip.reasons.values())
    assert all(pair.reasons == () for pair in clip.pairs)
    assert len(clip.samples[0].subjects) == 2


def test_a_phrase_that_the_caption_lacks_is_dropped() -> None:
    clip = judged_clip(config_without_models())
    own = clip.frames[0].detections[0]
    assert reasons(changed(clip, Place(0, 0), replace(own, phrase="cat dog"))) == {"not_in_caption"}


def test_small_and_huge_boxes_are_dropped() -> None:
    clip = judged_clip(config_without_models())
    own = clip.frames[0].detections[0]
    assert "size" in reasons(changed(clip, Place(0, 0), replace(own, box=Box(0.1, 0.1, 0.15, 0.15), mask=None)))
    assert "size" in reasons(changed(clip, Place(0, 0), replace(own, box=Box(0, 0, 1, 0.95), mask=None)))


def test_a_pair_inherits_what_speaks_against_its_ends() -> None:
    clip = judged_clip(config_without_models())
    own = clip.frames[0].detections[0]
    (judged,) = FilterStage(config_without_models())([changed(clip, Place(0, 0), replace(own, phrase="blue cat"))])
    against = [pair for pair in judged.pairs if Place(0, 0) in (pair.one, pair.other)]
    assert against
    assert all(pair.reasons[0].filter == "not_in_caption" for pair in against)
    assert all(not pair.reasons for pair in judged.pairs if pair not in against)


def test_weak_and_too_alike_pairs_are_dropped() -> None:
    clip = judged_clip(config_without_models())
    pairs = (
        replace(clip.pairs[0], similarity=0.3, alike=0.3, same_pixels=0.5),
        replace(clip.pairs[1], similarity=0.8, alike=0.9995, same_pixels=0.5),
        replace(clip.pairs[2], similarity=0.8, alike=0.8, same_pixels=0.999),
        replace(clip.pairs[3], similarity=0.8, alike=0.8, same_pixels=0.5),
    )
    (judged,) = FilterStage(config_without_models())([replace(clip, pairs=pairs)])
    assert [[reason.filter for reason in pair.reasons] for pair in judged.pairs] == [
        ["match_weak"],
        ["too_alike"],
        ["too_alike"],
        [],
    ]


def test_filters_can_be_turned_off_alone_and_together() -> None:
    clip = judged_clip(config_without_models())
    bad = changed(clip, Place(0, 0), replace(clip.frames[0].detections[0], phrase="cat"))
    assert reasons(bad, off=["not_in_caption"]) == set()
    assert reasons(bad, enabled=False) == set()
    (judged,) = FilterStage(config_without_models(filters={"enabled": False}))([bad])
    assert not any(pair.reasons for pair in judged.pairs)


def test_frames_that_are_one_moment_are_dropped() -> None:
    clip = judged_clip(config_without_models())
    frames = (clip.frames[0], replace(clip.frames[1], time_s=0.1), *clip.frames[2:])
    (judged,) = FilterStage(config_without_models())([replace(clip, frames=frames)])
    near = [pair for pair in judged.pairs if (pair.one.frame, pair.other.frame) == (0, 1)]
    assert {pair.reasons[0].filter for pair in near} == {"same_moment"}


def test_blur_is_measured_within_the_mask() -> None:
    crop = scene(0, 0)[:40, :40]
    whole = np.ones(crop.shape[:2], bool)
    assert sharpness(cv2.GaussianBlur(crop, (0, 0), 4), whole) < 0.5 < sharpness(crop, whole)
    blurred = cv2.GaussianBlur(crop, (0, 0), 4)
    blurred[:, 34:] = np.random.default_rng(0).integers(0, 255, (40, 6, 3))
    inside = whole.copy()
    inside[:, 32:] = False
    assert sharpness(blurred, inside) < 0.5 < sharpness(blurred, whole)


def seen_through(clip: Clip, strength: float) -> Clip:
    """The clip whose first frame has sharp stripes everywhere, softly fading to this strength within the first detection."""
    frame, own = clip.at(Place(0, 0))
    pixels = np.zeros_like(frame.pixels)
    pixels[:, ::4] = 120
    wide = cv2.dilate(frame.mask_of(own).astype(np.float32), np.ones((9, 9), np.uint8))
    fade = 1 - (1 - strength) * cv2.GaussianBlur(wide, (0, 0), 2)[..., None]
    pixels = (60 + (pixels.astype(float) - 60) * fade).astype(np.uint8)
    return replace(clip, frames=(replace(frame, pixels=pixels), *clip.frames[1:]))


def test_what_lets_the_sharp_background_through_is_blurred() -> None:
    clip = judged_clip(config_without_models())
    frame, own = seen_through(clip, 0.3).at(Place(0, 0))
    x_min, y_min, x_max, y_max = frame.pixel_box(own.box)
    assert sharpness(frame.crop(own.box), frame.mask_of(own)[y_min:y_max, x_min:x_max]) > 0.5
    assert "blur" in reasons(seen_through(clip, 0.3))
    assert "blur" not in reasons(seen_through(clip, 1.0))


def test_what_is_soft_but_stands_out_is_kept() -> None:
    clip = judged_clip(config_without_models())
    frame, own = clip.at(Place(0, 0))
    inside = frame.mask_of(own)
    rows = np.broadcast_to(np.arange(frame.height)[:, None], inside.shape)
    # A steep ramp with one step: little of it is edges.
    ramp = np.where(inside, rows * 3 % 256, 128).astype(np.uint8)
    ratios = edge_ratios(replace(frame, pixels=np.stack([ramp] * 3, -1)), own)
    assert ratios is not None
    assert ratios.inside > 2.0
    softer = replace(clip, frames=(replace(frame, pixels=np.stack([ramp] * 3, -1)), *clip.frames[1:]))
    assert "blur" in reasons(softer, min_sharpness=99.0, clear_edges=99.0)
    assert "blur" not in reasons(softer, min_sharpness=99.0)


@pytest.mark.parametrize(("levels", "blurred"), [(16, True), (60, False)])
def test_what_is_faint_has_to_be_sharper(levels: int, blurred: bool) -> None:
    clip = judged_clip(config_without_models())
    frame, own = clip.at(Place(0, 0))
    columns = np.broadcast_to(np.arange(frame.width), (frame.height, frame.width))
    # Waves on a plain ground: soft for their contrast, and nothing around them is stronger.
    waves = np.where(frame.mask_of(own), 128 + levels * np.sin(columns / 1.6), 128).astype(np.uint8)
    soft = replace(frame, pixels=np.stack([waves] * 3, -1))
    assert (edge_strength(soft, own) < 20.0) == blurred
    faint = replace(clip, frames=(soft, *clip.frames[1:]))
    assert ("blur" in reasons(faint)) == blurred
    assert "blur" not in reasons(faint, faint_edges=0.0)
    assert "blur" not in reasons(faint, min_faint_sharpness=0.0)


def test_the_edges_of_any_colour_count() -> None:
    clip = judged_clip(config_without_models())
    frame, own = clip.at(Place(0, 0))
    blue = np.full_like(frame.pixels, 100)
    blue[:, ::4, 2] = 220
    assert edge_strength(replace(frame, pixels=blue), own) == pytest.approx(60.0, abs=5)


def test_without_surroundings_no_edges_are_compared() -> None:
    frame = Frame("f", "c", 0.0, np.zeros((60, 60, 3), np.uint8))
    assert edge_ratios(frame, Detection("a", Box(0, 0, 1, 1), 1.0, run_lengths(np.ones((60, 60), bool)))) is None


def test_what_is_cut_by_the_border_touches_it() -> None:
    frame = Frame("f", "c", 0.0, np.zeros((100, 100, 3), np.uint8))
    inside, cut = np.zeros((100, 100), bool), np.zeros((100, 100), bool)
    inside[10:40, 10:40] = True
    cut[10:40, :20] = True
    shares = [border_share(frame, Detection("a", Box(0, 0, 1, 1), 1.0, run_lengths(mask))) for mask in (inside, cut)]
    assert shares == [0.0, 0.3]


def test_what_touches_the_border_with_little_of_its_outline_is_cut() -> None:
    clip = judged_clip(config_without_models())
    own = clip.frames[0].detections[0]
    for touching, dropped in ((2, False), (8, True)):
        mask = np.zeros((96, 96), bool)
        mask[20:50, 10:40] = True
        mask[:20, 20 : 20 + touching] = True
        assert ("border" in reasons(changed(clip, Place(0, 0), replace(own, mask=run_lengths(mask))))) == dropped


def test_covered_by_another_box() -> None:
    box = Box(0.2, 0.2, 0.4, 0.4)
    assert covered_share(box, [Box(0.5, 0.5, 0.9, 0.9), Box(0.3, 0.2, 0.4, 0.4)]) == pytest.approx(0.5)
    assert covered_share(box, []) == 0.0


@pytest.mark.parametrize("size", [18, 28])
def test_lines_of_text_are_found(size: int) -> None:
    picture = Image.fromarray(scene(0, 0, 256))
    pen = ImageDraw.Draw(picture)
    for number, line in enumerate(("fresh offer today", "call now and save", "only this week")):
        pen.text((8, 20 + number * 40), line, font=ImageFont.load_default(size), fill=(255, 255, 255))
    assert text_share(np.asarray(picture)) > 0.04


def test_text_on_a_fainter_pattern_is_found() -> None:
    # Mortar joins the letters at a low contrast.
    canvas = BACKGROUNDS["in front of a brick wall"](np.random.default_rng(8), 256)
    picture = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(23)
    for number, line in enumerate(("offer sale now new", "best fresh win sale")):
        pen.text((10, 20 + number * 32), line, font=font, fill=(255, 255, 255), stroke_width=1, stroke_fill=(0, 0, 0))
    # Both lines as a whole, not some of their letters.
    assert text_share(np.asarray(picture)) > 0.15


@pytest.mark.parametrize("name", sorted(BACKGROUNDS))
def test_no_background_looks_like_text(name: str) -> None:
    for seed in range(3):
        canvas = BACKGROUNDS[name](np.random.default_rng(seed), 256)
        assert text_share(np.clip(canvas, 0, 255).astype(np.uint8)) <= 0.04


def test_a_box_that_colours_contradict_fits_badly() -> None:
    clip = judged_clip(config_without_models())
    frame, own = clip.at(Place(0, 0))
    moved = Box(own.box.x_min + 0.12, own.box.y_min + 0.12, own.box.x_max + 0.12, own.box.y_max + 0.12)
    assert box_fit(frame, own) > 0.8
    assert box_fit(frame, replace(own, box=moved, mask=None)) < 0.6


def shifted(own: Detection, x: float) -> Detection:
    """The detection with its box moved to the right, and no mask."""
    return replace(own, box=Box(own.box.x_min + x, own.box.y_min, own.box.x_max + x, own.box.y_max), mask=None)


def test_a_box_goes_with_the_others_of_its_track() -> None:
    clip = judged_clip(config_without_models())
    first, middle, last = (Place(number, 0) for number in range(3))
    assert track_fit(clip, middle, [first, last]) > 0.9
    assert track_fit(clip, last, [first, middle]) > 0.8
    _, own = clip.at(middle)
    assert track_fit(changed(clip, middle, shifted(own, 0.1)), middle, [first, last]) < 0.6
    assert track_fit(clip, middle, [first]) == 0.0


def test_one_wrong_box_among_the_others_leads_no_track_astray() -> None:
    clip = judged_clip(config_without_models(), num_frames=6)
    places = [Place(number, 0) for number in range(6)]
    _, own = clip.at(places[4])
    astray = changed(clip, places[4], shifted(own, 0.2))
    assert track_fit(astray, places[2], [place for place in places if place != places[2]]) > 0.8


def test_nearer_frames_count_more_for_where_a_box_should_be() -> None:
    clip = judged_clip(config_without_models(), num_frames=6)
    places = [Place(number, 0) for number in range(6)]
    bent = clip
    for place in places[3:]:
        bent = changed(bent, place, shifted(clip.at(place)[1], 0.25))
    others = [place for place in places if place != places[1]]
    assert track_fit(bent, places[1], others) > 0.9


def test_a_mask_holds_the_colours_of_its_entity_in_the_other_frames() -> None:
    clip = judged_clip(config_without_models())
    places = [Place(number, 0) for number in range(3)]
    _, own = clip.at(places[0])
    assert colour_fit(clip, places[0], places[1:]) > 0.8
    assert colour_fit(changed(clip, places[0], shifted(own, 0.12)), places[0], places[1:]) < 0.6
    assert colour_fit(clip, places[0], [Place(1, 1)]) < 0.5
    assert colour_fit(clip, places[0], []) == 0.0


def test_what_reaches_out_of_its_box_is_no_background() -> None:
    pixels = np.full((60, 60, 3), 128, np.uint8)
    pixels[10:50, 10:50] = (220, 30, 30)
    # One reaches a pixel into the ground, whose colour is not the square's for that.
    whole, part = Box(9 / 60, 9 / 60, 51 / 60, 51 / 60), Box(10 / 60, 10 / 60, 40 / 60, 50 / 60)
    frames = [
        Frame(str(number), "c", float(number), pixels, detections=(Detection("square", box, 1.0),))
        for number, box in enumerate((part, whole))
    ]
    clip = replace(judged_clip(config_without_models()), frames=tuple(frames))
    # Three quarters of it lie in the box; what is around counts a little, for pixels are compared with their neighbours.
    assert colour_fit(clip, Place(0, 0), [Place(1, 0)]) == pytest.approx(0.73, abs=0.02)


def test_a_box_is_dropped_only_if_nothing_confirms_it() -> None:
    clip = judged_clip(config_without_models())
    wrong = changed(clip, Place(0, 0), shifted(clip.frames[0].detections[0], 0.14))
    assert reasons(wrong) == {"box_fit"}
    for confirmed in ("min_track_fit", "min_box_fit", "min_colour_fit"):
        assert reasons(wrong, **{confirmed: 0.0}) == set()


def test_of_duplicates_the_lowest_id_stays() -> None:
    hashes = {"c": 0b1011, "a": 0b1000, "b": 0b1001, "z": 1 << 63 | 1 << 40 | 1 << 20 | 0b1111 << 8}
    assert duplicates(hashes.items(), 1) == {"b": "a"}
    assert duplicates(hashes.items(), 2) == {"b": "a", "c": "a"}
    assert duplicates(hashes.items(), -1) == {}


def test_hashes_far_apart_in_any_bit_are_found(subtests: pytest.Subtests) -> None:
    for bit in range(64):
        with subtests.test(bit=bit):
            assert duplicates({"a": 7, "b": 7 ^ (1 << bit)}.items(), 3) == {"b": "a"}


def test_a_brighter_smaller_copy_has_nearly_the_same_hash() -> None:
    pixels = scene(3, 0)
    copy = cv2.resize(np.clip(pixels.astype(int) + 5, 0, 255).astype(np.uint8), (80, 80), interpolation=cv2.INTER_AREA)
    other = scene(4, 2)
    assert (perceptual_hash(pixels) ^ perceptual_hash(copy)).bit_count() <= 4
    assert (perceptual_hash(pixels) ^ perceptual_hash(other)).bit_count() > 4


def test_every_filter_has_one_name() -> None:
    assert len(set(FILTERS)) == len(FILTERS) == 12
