"""What clients of OpenAI's interface send, translated into a request of ours."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.openai.forms import read_fields
from app.openai.subjects import NO_BOXES, NO_PHRASES
from app.openai.translation import Translation, translate
from app.service.errors import HTTPProblem
from ms_core.errors import InvalidInputError

CAT, TEAPOT = b"a cat's bytes", b"a teapot's bytes"
BOXES = [[0.05, 0.3, 0.45, 0.8], [0.55, 0.3, 0.95, 0.8]]
SUBJECTS = [{"phrase": "cat", "box": BOXES[0]}, {"phrase": "teapot", "box": BOXES[1]}]
UPLOADS = ["upload:image[0]", "upload:image[1]"]
TRANSLATED = [
    {"phrase": "cat", "box": BOXES[0], "image": UPLOADS[0]},
    {"phrase": "teapot", "box": BOXES[1], "image": UPLOADS[1]},
]
PICTURES = [("image[]", CAT), ("image[]", TEAPOT)]


def sent(*fields: tuple[str, str | bytes], pictures: list[tuple[str, bytes]] = PICTURES) -> Translation:
    """A form with these fields, translated."""
    parts = [(name, text if isinstance(text, bytes) else text.encode()) for name, text in fields]
    form = read_fields([*pictures, ("prompt", b"a cat and a teapot"), *parts])
    return translate(form.document, form.pictures, "mini")


def posted(**document: Any) -> Translation:
    """A JSON body, translated."""
    return translate({"prompt": "a cat", **document}, [], "mini")


def refusal(*fields: tuple[str, str | bytes], **options: Any) -> tuple[int, str, str]:
    """Status, pointer and sentence of the error for a form."""
    with pytest.raises((HTTPProblem, InvalidInputError)) as caught:
        sent(*fields, **options)
    error = caught.value
    if isinstance(error, HTTPProblem):
        return error.problem.status, error.pointer, error.detail
    return 422, error.pointer, error.detail


JSON_SUBJECTS = ("subjects", json.dumps(SUBJECTS))


def test_subjects_as_one_json_string_take_the_pictures_in_order() -> None:
    translation = sent(JSON_SUBJECTS, ("seed", "7"), ("scheduler", "euler"))
    assert translation.request == {
        "prompt": "a cat and a teapot",
        "subjects": TRANSLATED,
        "seed": 7,
        "scheduler": "euler",
    }
    assert (translation.warnings, translation.partial_images) == ((), None)


@pytest.mark.parametrize("names", [("image", "image"), ("image[]", "image[]"), ("image[0]", "image[1]")])
def test_pictures_by_every_name(names: tuple[str, str]) -> None:
    pictures = list(zip(names, (CAT, TEAPOT), strict=True))
    form = read_fields([*pictures, ("prompt", b"a cat"), ("subjects", b"[]")])
    assert form.pictures == UPLOADS
    assert form.uploads == {"image[0]": CAT, "image[1]": TEAPOT}


def test_subjects_name_pictures_by_their_numbers_and_the_others_take_what_is_left() -> None:
    subjects = [SUBJECTS[0], SUBJECTS[1] | {"image": 0}]
    assert [item["image"] for item in sent(("subjects", json.dumps(subjects))).request["subjects"]] == UPLOADS[::-1]
    several = [{"phrase": "cat", "images": [1, 0], "mask": 0}]
    (subject,) = sent(("subjects", json.dumps(several))).request["subjects"]
    assert (subject["images"], subject["mask"]) == (UPLOADS[::-1], UPLOADS[0])


def test_a_subject_with_words_takes_only_a_picture_that_it_names() -> None:
    words = {"phrase": "tree", "prompt": "a tree", "box": BOXES[0]}
    subjects = sent(("subjects", json.dumps([words, *SUBJECTS]))).request["subjects"]
    assert subjects == [words, *TRANSLATED]
    subjects = sent(("subjects", json.dumps([words | {"image": 1}, SUBJECTS[0]]))).request["subjects"]
    assert [item["image"] for item in subjects] == UPLOADS[::-1]
    status, pointer, sentence = refusal(("subjects", json.dumps([words, SUBJECTS[0]])))
    assert (status, pointer) == (422, "/image")
    assert '"image": 1' in sentence


def test_words_in_brackets_stay_words() -> None:
    fields = [("subjects[0][phrase]", "cat"), ("subjects[0][prompt]", "7"), ("subjects[1][phrase]", "teapot")]
    first, _ = sent(*fields, pictures=PICTURES[:1]).request["subjects"]
    assert first["prompt"] == "7"


def test_pictures_of_other_parts_of_the_request_by_their_numbers() -> None:
    start = json.dumps({"image": 1, "strength": 0.5})
    translation = sent(
        ("subjects", json.dumps(SUBJECTS[:1])), ("start", start), ("controls", '[{"name": "canny", "image": 1}]')
    )
    assert translation.request["start"] == {"image": UPLOADS[1], "strength": 0.5}
    assert translation.request["controls"] == [{"name": "canny", "image": UPLOADS[1]}]


def test_other_parts_are_pictures_by_their_names() -> None:
    form = read_fields([*PICTURES, ("mask", b"a mask"), JSON_PART])
    assert form.uploads["mask"] == b"a mask"
    assert "mask" not in form.document


JSON_PART = ("subjects", JSON_SUBJECTS[1].encode())


def test_phrases_and_boxes() -> None:
    boxes = [("boxes[]", "0.05,0.3,0.45,0.8"), ("boxes[]", "[0.55, 0.3, 0.95, 0.8]")]
    translation = sent(("phrases[]", "cat"), ("phrases[]", "teapot"), *boxes)
    assert translation.request["subjects"] == TRANSLATED
    assert translation.warnings == ()
    assert translation.renamed("/subjects/1/box/3") == "/boxes/1/3"
    assert translation.renamed("/subjects/0/phrase") == "/phrases/0"
    assert translation.renamed("/subjects/0/image") == "/image/0"


@pytest.mark.parametrize(
    "box", ["0.05 0.3 0.45 0.8", " 0.05, 0.3, 0.45, 0.8 ", "[0.05,0.3,0.45,0.8]", "[[0.05,0.3,0.45,0.8]]"]
)
def test_lists_of_one_may_have_become_their_item(box: str) -> None:
    translation = sent(("phrases", "cat"), ("boxes", box), pictures=[("image", CAT)])
    assert translation.request["subjects"] == [TRANSLATED[0]]
    (subject,) = sent(("subjects[]", json.dumps(SUBJECTS[0])), pictures=[("image", CAT)]).request["subjects"]
    assert subject == TRANSLATED[0]


def test_boxes_whose_numbers_arrive_one_by_one() -> None:
    numbers = [("boxes[][]", str(number)) for box in BOXES for number in box]
    assert sent(("phrases[]", "cat"), ("phrases[]", "teapot"), *numbers).request["subjects"] == TRANSLATED
    assert refusal(("phrases[]", "cat"), ("phrases[]", "teapot"), *numbers[:7])[:2] == (400, "/boxes")


def test_without_boxes_subjects_stand_side_by_side() -> None:
    translation = sent(("phrases[]", "cat"), ("phrases[]", "teapot"))
    first, second = (subject["box"] for subject in translation.request["subjects"])
    assert 0 < first[0] < first[2] <= 0.5 <= second[0] < second[2] < 1
    assert translation.warnings == (NO_BOXES,)
    assert sent(("subjects", '[{"phrase": "cat"}, {"phrase": "teapot"}]')).warnings == (NO_BOXES,)


@pytest.mark.parametrize("place", [{"box": BOXES[0]}, {"mask": "upload:mask"}, {"scene": True}])
def test_with_any_place_no_box_is_made_up(place: dict[str, Any]) -> None:
    translation = sent(("subjects", json.dumps([{"phrase": "cat", **place}, {"phrase": "teapot"}])))
    assert "box" not in translation.request["subjects"][1]
    assert translation.warnings == ()
    assert "box" not in sent(("phrases", '["cat", "teapot"]'), ("layout", '{"mode": "auto"}')).request["subjects"][0]


def test_pictures_and_a_prompt_alone_make_a_picture() -> None:
    translation = sent(pictures=[("image", CAT)])
    (subject,) = translation.request["subjects"]
    assert (subject["phrase"], subject["image"]) == ("a cat and a teapot", UPLOADS[0])
    assert translation.warnings == (NO_PHRASES, NO_BOXES)


IN_ORDER = [("phrase", "cat"), ("box", BOXES[0]), ("phrase", "teapot"), ("box", BOXES[1])]


def flattened(pairs: list[tuple[str, Any]]) -> list[tuple[str, str]]:
    """As clients send nested lists."""
    return [
        (f"subjects[][{key}][]" if key == "box" else f"subjects[][{key}]", str(item))
        for key, value in pairs
        for item in (value if isinstance(value, list) else [value])
    ]


@pytest.mark.parametrize("pairs", [IN_ORDER, sorted(IN_ORDER, key=lambda pair: pair[0])], ids=["node", "python"])
def test_brackets_without_doubt(pairs: list[tuple[str, Any]]) -> None:
    assert sent(*flattened(pairs)).request["subjects"] == TRANSLATED


def test_brackets_with_numbers_say_whose_they_are() -> None:
    fields = [("subjects[1][phrase]", "teapot"), ("subjects[0][phrase]", "7"), ("subjects[1][scale]", "0.5")]
    fields += [(f"subjects[0][box][xywh][{index}]", "0.5") for index in range(4)]
    first, second = sent(*fields).request["subjects"]
    assert first == {"phrase": "7", "box": {"xywh": [0.5] * 4}, "image": UPLOADS[0]}
    assert second == {"phrase": "teapot", "scale": 0.5, "image": UPLOADS[1]}


@pytest.mark.parametrize(
    "fields",
    [
        flattened([*IN_ORDER, ("scale", 0.5)]),
        flattened(IN_ORDER[:3]),
        flattened([("box", BOXES[0])]),
        [("subjects[][phrase]", "cat"), ("subjects[][images][]", "0")],
        [("subjects[][phrase]", "cat"), ("subjects[1][phrase]", "teapot")],
        [("subjects[][phrase]", "cat"), ("subjects[0][phrase]", "teapot")],
        [("subjects[1][phrase]", "cat")],
        [("subjects[0][phrase]", "cat"), ("subjects[0][phrase]", "teapot")],
        [("subjects[0][box]", "cat"), ("subjects[0][box][xywh][]", "1")],
        [("subjects[0][box][]", "1"), ("subjects[0][box][xywh][]", "1")],
        [("subjects", "[]"), ("subjects[0][phrase]", "cat")],
        [("subjects[][]", "cat")],
    ],
)
def test_brackets_with_doubt_are_told_how_to_be_sent(fields: list[tuple[str, str]]) -> None:
    status, pointer, detail = refusal(*fields)
    assert (status, pointer) == (400, "/subjects")
    assert "json.dumps(subjects)" in detail
    assert "JSON.stringify(subjects)" in detail


@pytest.mark.parametrize(
    "fields",
    [
        [("subjects", "[object Object]")],
        [("subjects[]", "[object Object]"), ("subjects[]", "[object Object]")],
        [("subjects", '["[object Object]"]')],
        [("phrases", '["cat", "[object Object]"]')],
        [("start", "[object Object]")],
    ],
)
def test_objects_that_became_texts_are_told_so(fields: list[tuple[str, str]]) -> None:
    status, pointer, detail = refusal(*fields)
    assert (status, pointer) == (400, f"/{fields[0][0].removesuffix('[]')}")
    assert "[object Object]" in detail
    assert "JSON.stringify" in detail


@pytest.mark.parametrize(
    ("fields", "status", "pointer", "words"),
    [
        ([("subjects", "a cat")], 400, "/subjects", "not valid JSON"),
        ([("subjects", "[" * 100_000)], 400, "/subjects", "not valid JSON"),
        ([("subjects", "7")], 422, "/subjects", "list of objects"),
        ([("subjects", json.dumps([*SUBJECTS, SUBJECTS[0]]))], 422, "/subjects/2/image", "3 subjects, but 2 pictures"),
        ([("subjects", json.dumps(SUBJECTS[:1]))], 422, "/image", "2 pictures for 1 subject: picture 1"),
        ([("subjects", '[{"phrase": "cat", "image": 2}]')], 422, "/subjects/0/image", "There is no picture 2"),
        ([("subjects", '[{"phrase": "cat", "images": [0, -1]}]')], 422, "/subjects/0/images/1", "no picture -1"),
        ([JSON_SUBJECTS, ("phrases[]", "cat")], 422, "/subjects", "not both"),
        ([("phrases", "cat")], 422, "/phrases", "1 phrases for 2 pictures"),
        ([("boxes[]", "0,0,1,1")] * 3, 422, "/boxes", "3 boxes for 2 pictures"),
        ([("boxes[]", "left")] * 2, 422, "/boxes/0", "four numbers"),
        ([("boxes[]", "[0,")] * 2, 400, "/boxes", "not valid JSON"),
        ([("loras", "paper")], 400, "/loras", "not valid JSON"),
        ([("loras[][name]", "paper")], 400, "/loras", "one JSON string"),
        ([("seed", "1"), ("seed", "2")], 400, "/seed", "one value"),
        ([("seed[]", "1")], 400, "/seed", "one value"),
        ([("negative_prompt", b"\xff")], 422, "/negative_prompt", "broken character"),
        ([("size", "large")], 422, "/size", "WIDTHxHEIGHT"),
        ([("size", "1024*1024")], 422, "/size", "WIDTHxHEIGHT"),
        ([("size", "64x64"), ("width", "128")], 422, "/size", "not both"),
        ([("n", "2"), ("num_images", "3")], 422, "/n", "not both"),
        ([("stream", "maybe")], 422, "/stream", "true or false"),
        ([("stream", "true"), ("partial_images", "4")], 422, "/partial_images", "0 to 3"),
        ([("model", "gpt-image-1")], 404, "/model", "no model 'gpt-image-1' here; this service has mini"),
    ],
)
def test_bad_input(fields: list[tuple[str, str | bytes]], status: int, pointer: str, words: str) -> None:
    found = refusal(*fields)
    assert found[:2] == (status, pointer)
    assert words in found[2]


def test_no_picture_at_all() -> None:
    assert refusal(pictures=[])[:2] == (422, "/image")
    assert refusal(("mask", b"x"), ("mask", b"x"))[:2] == (400, "/mask")


def test_fields_of_the_interface_have_other_names_here() -> None:
    translation = sent(
        ("n", "2"), ("size", "64x128"), ("output_compression", "80"), ("output_format", "webp"), ("model", "mini")
    )
    request = translation.request
    assert (request["num_images"], request["width"], request["height"]) == (2, 64, 128)
    assert (request["quality"], request["output_format"]) == (80, "webp")
    assert not {"n", "size", "output_compression", "model"} & request.keys()
    assert [translation.renamed(f"/{name}") for name in ("num_images", "width", "height", "quality", "seed")] == [
        "/n",
        "/size",
        "/size",
        "/output_compression",
        "/seed",
    ]


def test_automatic_size_is_the_models_and_null_is_nothing() -> None:
    assert not {"width", "height"} & sent(("size", "auto")).request.keys()
    assert posted(subjects=[{"phrase": "cat"} | {"cast": "rex"}], size=None, n=None, seed=None).request == {
        "prompt": "a cat",
        "subjects": [{"phrase": "cat", "cast": "rex", "box": [0.1, 0.2, 0.9, 0.8]}],
    }


@pytest.mark.parametrize(
    ("field", "plain", "other"),
    [
        ("quality", "auto", "high"),
        ("background", "opaque", "transparent"),
        ("moderation", "auto", "low"),
        ("response_format", "b64_json", "url"),
        ("input_fidelity", None, "high"),
        ("style", None, "vivid"),
        ("user", None, "ann"),
    ],
)
def test_what_has_no_meaning_here_is_named(field: str, plain: str | None, other: str) -> None:
    assert sent(JSON_SUBJECTS, (field, other)).warnings == (f"ignored: {field}",)
    assert field not in sent(JSON_SUBJECTS, (field, other)).request
    assert plain is None or sent(JSON_SUBJECTS, (field, plain)).warnings == ()


def test_streams_have_as_many_previews_as_are_asked_for() -> None:
    asked = sent(JSON_SUBJECTS, ("stream", "true"), ("partial_images", "2"))
    assert (asked.partial_images, asked.request["previews"]) == (2, True)
    for fields in ([("stream", "true")], [("stream", "true"), ("partial_images", "0")]):
        translation = sent(JSON_SUBJECTS, *fields)
        assert (translation.partial_images, "previews" in translation.request) == (0, False)
    assert sent(JSON_SUBJECTS, ("stream", "false"), ("partial_images", "2")).partial_images is None


def test_bodies_in_json_hold_subjects_with_data_uris() -> None:
    subjects = [{"phrase": "cat", "image": "data:...", "box": BOXES[0]}]
    for given in (subjects, json.dumps(subjects), [json.dumps(subjects[0])]):
        assert posted(subjects=given, extra="x").request == {"prompt": "a cat", "subjects": subjects, "extra": "x"}
    with pytest.raises(InvalidInputError) as caught:
        posted()
    assert caught.value.pointer == "/image"
