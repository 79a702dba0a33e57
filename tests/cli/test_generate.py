"""How ``msd generate`` reads what is asked for."""

from __future__ import annotations

import base64
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from cli.generate import _print_score
from cli.main import app
from cli.request_options import (
    CommandError,
    ControlOption,
    SubjectOption,
    option_of,
    parse_control,
    parse_lora,
    parse_subject,
    picture_at,
    refusal_lines,
    start_to_json,
)
from ms_jobs.job_request import GenerateRequest
from msd_client import Client, MsdError, Score

unit = st.floats(0, 1)
BOX = (0.0, 0.0, 1.0, 1.0)


def cat(*paths: str, **values: Any) -> SubjectOption:
    return SubjectOption("cat", tuple(map(Path, paths or ("cat.png",))), **values)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("cat=cat.png", cat()),
        ("cat=cat.png@0.05,0.3,.45,1", cat(box=(0.05, 0.3, 0.45, 1.0))),
        ("cat=cat.png@10,20,64.5,128px", cat(box=(10.0, 20.0, 64.5, 128.0), in_pixels=True)),
        ("cat=cat.png@m.png@0,0,1,1px*2;z=1", cat(mask=Path("m.png"), box=BOX, scale=2.0, z_index=1, in_pixels=True)),
        ("cat=cat.png*0.8", cat(scale=0.8)),
        ("cat=cat.png@0,0,1,1*2", cat(box=BOX, scale=2.0)),
        ("red tea pot=a=b@c*d.png", SubjectOption("red tea pot", (Path("a=b@c*d.png"),))),
        ("cat=me@home/cat.png@0,0,1,1", cat("me@home/cat.png", box=BOX)),
        ("cat=a+b;c.png@0,0,1,1", cat("a+b;c.png", box=BOX)),
        ("猫=猫.png@0,0,1,1", SubjectOption("猫", (Path("猫.png"),), BOX)),
        ("cat=a.png+b.JPG+c d.webp@0,0,1,1", cat("a.png", "b.JPG", "c d.webp", box=BOX)),
        ("cat=a.jpeg+me@home/b.png", cat("a.jpeg", "me@home/b.png")),
        ("cat=cat.png@mask.png", cat(mask=Path("mask.png"))),
        ("cat=cat.png@me@home/mask.png*0.5", cat(mask=Path("me@home/mask.png"), scale=0.5)),
        ("cat=a.png+b.png@m.png@0,0,1,1*1", cat("a.png", "b.png", mask=Path("m.png"), box=BOX, scale=1.0)),
        ("beach=b.png;scene", SubjectOption("beach", (Path("b.png"),), scene=True)),
        ("cat=cat.png@0,0,1,1;cutout;z=-1;feather=.05", cat(box=BOX, cutout=True, z_index=-1, feather=0.05)),
        ("cat=cat.png ; Z = 2 ; cutout", cat("cat.png ", z_index=2, cutout=True)),
        ("cat=cat.png;start=0.2;end=.8", cat(start=0.2, end=0.8)),
        ("cat=cat.png@0,0,1,1;prompt=A cat, in RAIN;z=1", cat(box=BOX, z_index=1, prompt="A cat, in RAIN")),
        ("tree@0,0,1,1;prompt=a tall tree", SubjectOption("tree", (), BOX, prompt="a tall tree")),
        (
            "a tree@0,0,8,8px; z=2; Prompt = a=b",
            SubjectOption("a tree", (), (0.0, 0.0, 8.0, 8.0), z_index=2, prompt="a=b", in_pixels=True),
        ),
        ("tree@m.png;prompt=a tree", SubjectOption("tree", (), mask=Path("m.png"), prompt="a tree")),
        ("sky;scene;prompt=clouds", SubjectOption("sky", (), scene=True, prompt="clouds")),
        # A strength does nothing without a picture, and is no part of a name either.
        ("tree@0,0,1,1*0.8;prompt=a tree", SubjectOption("tree", (), BOX, 0.8, prompt="a tree")),
        ("sky*0.8;scene;prompt=clouds", SubjectOption("sky", (), scale=0.8, scene=True, prompt="clouds")),
        ("a\ntree@0,0,1,1;prompt=wood", SubjectOption("a\ntree", (), BOX, prompt="wood")),
        ("cat=cat.png;prompt=see a.png@0,0,1,1*2", cat(prompt="see a.png@0,0,1,1*2")),
    ],
)
def test_subjects_are_read(option: str, expected: SubjectOption) -> None:
    assert parse_subject(option) == expected


@given(box=st.tuples(unit, unit, unit, unit), scale=st.floats(0, 2))
def test_numbers_are_read_as_they_are(box: tuple[float, ...], scale: float) -> None:
    option = parse_subject(f"cat=cat.png@{','.join(map(repr, box))}*{scale!r}")
    assert (option.box, option.scale) == (box, scale)


names = st.text(st.characters(codec="utf-8", exclude_characters="=;\n"), min_size=1, max_size=12)
endings = st.sampled_from([".png", ".PNG", ".jpg", ".jpeg", ".webp"])
# "~" may be the home of a person, which a test below tries.
pictures = st.builds(lambda name, ending: name + ending, names, endings).filter(
    lambda path: path[0] != "~" and "@" not in path
)
plain = pictures.filter(lambda path: "+" not in path)


@given(
    phrase=names.filter(lambda text: text == text.strip()),
    paths=st.lists(plain, min_size=1, max_size=3),
    mask=st.none() | plain,
    box=st.none() | st.tuples(unit, unit, unit, unit),
    scale=st.none() | st.floats(0, 2),
    flags=st.fixed_dictionaries(
        {},
        optional={"z": st.integers(-100, 100), "feather": st.floats(0, 0.5), "start": unit, "end": unit},
    ),
    switches=st.sets(st.sampled_from(["cutout", "scene"])),
)
def test_what_is_written_is_read(
    phrase: str,
    paths: list[str],
    mask: str | None,
    box: tuple[float, ...] | None,
    scale: float | None,
    flags: dict[str, Any],
    switches: set[str],
) -> None:
    option = f"{phrase}={'+'.join(paths)}"
    option += "" if mask is None else f"@{mask}"
    option += "" if box is None else f"@{','.join(map(repr, box))}"
    option += "" if scale is None else f"*{scale!r}"
    option += "".join(f";{switch}" for switch in sorted(switches))
    option += "".join(f";{name}={value!r}" for name, value in flags.items())
    assert parse_subject(option) == SubjectOption(
        phrase,
        tuple(map(Path, paths)),
        box,
        scale,
        None if mask is None else Path(mask),
        flags.get("feather"),
        flags.get("z"),
        "scene" in switches or None,
        "cutout" in switches or None,
        flags.get("start"),
        flags.get("end"),
    )


@pytest.mark.parametrize(
    ("path", "expected"),
    [("~/cat.png", Path.home() / "cat.png"), ("~cat.png", Path("~cat.png")), ("~.png", Path("~.png"))],
)
def test_home_is_found_and_a_file_may_begin_with_its_sign(path: str, expected: Path) -> None:
    option = parse_subject(f"cat={path}@{path}")
    assert (option.paths, option.mask, parse_control(f"canny={path}").path) == ((expected,), expected, expected)


@given(st.text(max_size=30) | st.text("=@+*;.,pngcat0123", max_size=30))
def test_any_text_is_a_subject_or_a_sentence(text: str) -> None:
    try:
        option = parse_subject(text)
    except CommandError:
        return
    assert option.paths or option.prompt is not None


@pytest.mark.parametrize(
    "option",
    [
        *("", "cat", "cat.png", "=cat.png", "cat=", "cat=a.png+", "cat=;prompt=a cat"),
        # Words of its own are no picture, whatever stands before them.
        *("tree@left;prompt=a tree", "tree@0,0,1;prompt=a tree", "tree@a@b.png;prompt=a tree", "tree@0,0,1,1;prompt"),
        "tree*0.8@0,0,1,1;prompt=a tree",
    ],
)
def test_other_forms_are_refused_with_the_right_one(option: str) -> None:
    with pytest.raises(CommandError, match="phrase=picture.png@x_min,y_min,x_max,y_max"):
        parse_subject(option)


def test_a_box_that_can_only_be_in_pixels_says_how() -> None:
    with pytest.raises(CommandError, match="in pixels, end it with px"):
        parse_subject("cat=cat.png@10,20,64,128")


def test_a_pixel_box_is_sent_as_such(picture: Path) -> None:
    option = SubjectOption("cat", (picture,), (0.0, 16.0, 64.0, 128.0), in_pixels=True)
    assert option.to_json()["box"] == {"pixels": [0.0, 16.0, 64.0, 128.0]}
    assert option.normalised_box((128, 256)) == (0.0, 0.0625, 0.5, 0.5)
    assert SubjectOption("cat", (picture,), BOX).normalised_box((128, 256)) == BOX


def test_when_a_subject_acts_is_sent(picture: Path) -> None:
    sent = SubjectOption("cat", (picture,), BOX, start=0.25, end=0.75).to_json()
    assert (sent["start"], sent["end"]) == (0.25, 0.75)
    assert not {"start", "end"} & set(SubjectOption("cat", (picture,), BOX).to_json())


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (";colour=red", "Unknown 'colour'"),
        (";cutout=yes", "'cutout' in .* takes no value"),
        (";z=front", "'z' in .* needs a whole number, such as ;z=1"),
        (";z=0.5", "needs a whole number"),
        (";z", "needs a whole number"),
        (";feather=nan", "'feather' in .* needs a number"),
        (";feather=", "needs a number"),
    ],
)
def test_flags_that_cannot_be_used_are_named(flags: str, sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence):
        parse_subject(f"cat=cat.png@0,0,1,1{flags}")


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("canny=edges.png", ControlOption("canny", Path("edges.png"))),
        ("canny=a=b*c.png*0.7", ControlOption("canny", Path("a=b*c.png"), 0.7)),
        ("depth=d.png*0.7;start=0.1;end=.8", ControlOption("depth", Path("d.png"), 0.7, 0.1, 0.8)),
        ("depth=d.png;end=0.5", ControlOption("depth", Path("d.png"), None, None, 0.5)),
    ],
)
def test_controls_are_read(option: str, expected: ControlOption) -> None:
    assert parse_control(option) == expected


@pytest.mark.parametrize("option", ["", "canny", "=edges.png", "canny=", "canny=edges.png;cutout"])
def test_other_controls_are_refused(option: str) -> None:
    with pytest.raises(CommandError):
        parse_control(option)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("paper", {"name": "paper"}),
        ("paper:0.8", {"name": "paper", "weight": 0.8}),
        ("my style (v2):-1", {"name": "my style (v2)", "weight": -1.0}),
    ],
)
def test_loras_are_read(option: str, expected: dict[str, Any]) -> None:
    assert parse_lora(option) == expected


@pytest.mark.parametrize("option", ["", ":0.8", "paper:", "paper:strong", "paper:0.8:0.9"])
def test_other_loras_are_refused(option: str) -> None:
    with pytest.raises(CommandError, match="name:weight"):
        parse_lora(option)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "cat.jpeg"
    path.write_bytes(b"any bytes")
    return path


def test_the_picture_is_sent_as_it_is(picture: Path) -> None:
    subject = SubjectOption("cat", (picture,), BOX, 0.5).to_json()
    header, _, content = subject["image"].partition(",")
    assert header == "data:image/jpeg;base64"
    assert base64.b64decode(content) == b"any bytes"
    assert (subject["phrase"], subject["box"], subject["scale"]) == ("cat", [0.0, 0.0, 1.0, 1.0], 0.5)


def test_several_pictures_and_a_mask_are_sent(picture: Path) -> None:
    subject = SubjectOption("cat", (picture, picture), mask=picture, z_index=0, cutout=True).to_json()
    assert subject == {
        "phrase": "cat",
        "images": [subject["mask"]] * 2,
        "mask": subject["mask"],
        "z_index": 0,
        "cutout": True,
    }


def test_addresses_are_sent_as_they_are(picture: Path) -> None:
    """The service fetches them, if it may."""
    at, other = "https://pictures.example/cat.png", "HTTPS://pictures.example/cat?size=2&v=1"
    first = parse_subject(f"cat={at}@0,0,1,1*0.5;cutout").to_json()
    assert first == {"phrase": "cat", "image": at, "box": [0, 0, 1, 1], "scale": 0.5, "cutout": True}
    assert parse_subject(f"cat={other}@0,0,1,1").to_json()["image"] == other
    several = parse_subject(f"cat={at}+{picture}@{at}").to_json()
    assert (several["images"][0], several["mask"]) == (at, at)
    assert several["images"][1].startswith("data:")
    assert parse_control(f"canny={at}*0.7").to_json()["image"] == at
    assert start_to_json(picture_at(at), 0.5, ()) == {"image": at, "strength": 0.5}
    assert picture_at("http:/cat.png") == Path("http:/cat.png")


def test_what_is_not_given_is_left_out(picture: Path) -> None:
    assert set(SubjectOption("cat", (picture,)).to_json()) == {"phrase", "image"}
    assert set(ControlOption("canny", picture).to_json()) == {"name", "image"}
    assert set(start_to_json(picture, None, ()) or ()) == {"image"}
    assert start_to_json(None, None, ()) is None


def test_a_start_is_sent(picture: Path) -> None:
    start = start_to_json(picture, 0.5, (1, 0))
    assert start is not None
    assert (start["strength"], start["redraw"]) == (0.5, [1, 0])


@pytest.mark.parametrize(("strength", "redraw"), [(0.5, ()), (None, (0,))])
def test_strength_and_redraw_need_a_start(strength: float | None, redraw: tuple[int, ...]) -> None:
    with pytest.raises(CommandError, match="give it with --start"):
        start_to_json(None, strength, redraw)


def test_numbers_that_json_does_not_know_are_told() -> None:
    with Client() as client, pytest.raises(MsdError, match="cannot be written as JSON"):
        client.submit("a cat", [], guidance_scale=float("inf"))


def test_a_score_that_is_not_known_is_shown_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    known = {"subject": 0, "present": 1.0, "identity": 0.5, "box_iou": 0.25}
    unknown = {"subject": 1, "present": None, "identity": None, "box_iou": None}
    redraws = [{"subject": 1, "kept": True}, {"subject": None, "kept": False}]
    _print_score(Score.from_json({"draws": 3, "subjects": [known, unknown], "redraws": redraws}), ["cat", "teapot"])
    *table, second, third = capsys.readouterr().out.splitlines()
    assert (second, third) == ("draw 2: teapot again, kept", "draw 3: all again, not kept")
    rows = [line.split()[1::2] for line in table if "cat" in line or "teapot" in line]
    assert rows == [["cat", "1.00", "0.50", "0.25"], ["teapot", "-", "-", "-"]]


NOT_ON_THE_COMMAND_LINE = {"grounding", "previews"}


def test_every_field_that_the_command_sends_is_named_by_its_option() -> None:
    command = typer.main.get_group(app).get_command(typer.Context(typer.main.get_group(app)), "generate")
    assert command is not None
    options = {name for parameter in command.params for name in parameter.opts} | {"PROMPT"}
    told = {item.name: option_of(f"/{item.name}") for item in fields(GenerateRequest)}
    assert {name for name, option in told.items() if option not in options} == NOT_ON_THE_COMMAND_LINE


@pytest.mark.parametrize(
    ("pointer", "option"),
    [
        ("/subjects/1", "--subject 2"),
        ("/subjects/0/box", "--subject 1 (box)"),
        ("/subjects/0/z_index", "--subject 1 (z)"),
        ("/subjects/2/images/1", "--subject 3 (pictures)"),
        ("/loras/0/name", "--lora 1 (name)"),
        ("/start/redraw/0", "--redraw"),
        ("/start/strength", "--strength"),
        ("/start/image", "--start"),
        ("/layout/start_step", "--auto-layout"),
        ("/num_inference_steps", "--steps"),
        ("/grounding", "/grounding"),
    ],
)
def test_fields_are_named_by_their_options(pointer: str, option: str) -> None:
    assert option_of(pointer) == option


def test_a_sentence_is_told_once_for_all_its_options() -> None:
    problems = [("/subjects/0/box", "No box."), ("/width", "Too wide."), ("/subjects/1/box", "No box.")]
    assert refusal_lines(problems, "3 errors. /subjects/0/box: No box.") == [
        "2 errors:",
        "--subject 1 (box), --subject 2 (box): No box.",
        "--width: Too wide.",
    ]
    assert refusal_lines(problems[:1], "No box.") == ["--subject 1 (box): No box."]
    assert refusal_lines([("", "Whole.")], "Whole.") == ["Whole."]
    assert refusal_lines([], "Busy.") == ["Busy."]
