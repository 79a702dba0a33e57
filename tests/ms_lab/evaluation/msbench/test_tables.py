"""Only tables of literals are read, and nothing of the file runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ms_core.errors import InvalidInputError
from ms_core.spec import Box
from ms_lab.evaluation.msbench.tables import fill_prompt, read_tables
from tests.support.small_msbench import PROMPT_FILE


def written(folder: Path, text: str) -> Path:
    path = folder / "msbench.py"
    path.write_text(text)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InvalidInputError) as caught:
        read_tables(path)
    return caught.value.detail


def test_the_tables_are_read_with_the_names_above_them(tmp_path: Path) -> None:
    tables = read_tables(written(tmp_path, PROMPT_FILE))
    assert tables.phrases["lamp_1"] == "desk lamp"
    assert [kind.name for kind in tables.types][-2:] == ["object_scene", "living_object_scene"]
    worn = next(kind for kind in tables.types if kind.name == "living_upwearing")
    assert worn.parts == ("living", "upwearing")
    assert worn.boxes == (Box(0.2, 0.3, 0.8, 1.0), Box(0.2, 0.0, 0.8, 0.3))
    assert worn.prompts[1] == "a {0} in a {1} on the moon"
    assert fill_prompt(worn.prompts[1], ("heron", "beret")) == "a heron in a beret on the moon"


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("import os", "Import"),
        ("open('/tmp/ran', 'w')", "Expr"),
        ("more = dict(a=1)", "Call"),
        ("more = [name for name in pairs]", "ListComp"),
        ("more = pairs + hats", "BinOp"),
        ("more = pairs[0]", "Subscript"),
        ("more = later", "no table above is called later"),
        ("more = {**data_class_dict}", "a key must be a literal"),
        ("more = {pairs: 1}", "a key must be a literal"),
        ("more = f'{pairs}'", "JoinedStr"),
        ("more = -pairs", "UnaryOp"),
        ("more = -'text'", "UnaryOp"),
        ("more = -1j", "UnaryOp"),
        ("one = two = 3", "Assign"),
        ("pairs[0] = 3", "Assign"),
        ("def more(): pass", "FunctionDef"),
        ("pairs += hats", "AugAssign"),
        ("more: list", "AnnAssign"),
        ("more = [", "no Python"),
    ],
)
def test_anything_else_is_refused_with_its_line(tmp_path: Path, statement: str, says: str) -> None:
    above = PROMPT_FILE.splitlines()
    sentence = refusal(written(tmp_path, "\n".join([*above, statement, "later = []"])))
    assert f"line {len(above) + 1}: " in sentence
    assert says in sentence
    assert not Path("/tmp/ran").exists()


def test_a_name_that_stands_below_is_refused(tmp_path: Path) -> None:
    first, *rest = PROMPT_FILE.split("side_by_side = ")
    moved = first + "early = side_by_side\nside_by_side = " + "side_by_side = ".join(rest)
    assert "no table above is called side_by_side" in refusal(written(tmp_path, moved))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("data_class_dict = {", "classes = {", "has no table data_class_dict"),
        ('"otter": "otter"', '"otter": 5', "data_class_dict['otter']"),
        ('"otter": "otter"', '"../otter": "otter"', "is no name of a picture"),
        ("[0.5, 0.2, 1., 0.8]]\nbefore", "[0.5, 0.2, 1.]]\nbefore", "subject_combination_boxes"),
        ("[0.5, 0.2, 1., 0.8]]\nbefore", "[0.5, 0.2, 1.5, 0.8]]\nbefore", "every number from 0 to 1"),
        ("[0.5, 0.2, 1., 0.8]]\nbefore", "[0.5, 0.2, -1., 0.8]]\nbefore", "every number from 0 to 1"),
        (", [0.5, 0.2, 1., 0.8]]\nbefore", "]\nbefore", "one type of picture for each of its boxes"),
        ('"living_scene": before,', "", "subject_combination_prompts has nothing for living_scene"),
        ('["a {0} in front of a {1}"]', '["a {0} in front of it"]', "must have {0} to {1}"),
        ('["a {0} in front of a {1}"]', '["a {0} and {1} and {2}"]', "must have {0} to {1}"),
        ('["a {0} in front of a {1}"]', '["a {0.__class__} and {1}"]', "must have {0} to {1}"),
        ('["a {0} in front of a {1}"]', '["a {0} and {1} }"]', "no other braces"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in PROMPT_FILE
    assert says in refusal(written(tmp_path, PROMPT_FILE.replace(old, new)))


def test_what_is_no_file_of_prompts_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path / "nothing.py")
    (tmp_path / "binary.py").write_bytes(b"a\0b")
    assert "no Python" in refusal(tmp_path / "binary.py")
    assert "too large" in refusal(written(tmp_path, "#" * 1_000_001))
    refusal(written(tmp_path, "a = " + "[" * 5000 + "]" * 5000))
    assert "nested too deeply" in refusal(written(tmp_path, "a = " + "-" * 20_000 + "1"))
