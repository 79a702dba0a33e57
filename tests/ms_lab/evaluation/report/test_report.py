"""What a run leaves to read: files, tables, the page and the sheet."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image, ImageChops
from rich.console import Console
from rich.table import Table

from ms_core.errors import InvalidInputError
from ms_lab.evaluation.judge.outcome import Outcome
from ms_lab.evaluation.questions.columns import COMPOSITES, MODEL, PictureKey
from ms_lab.evaluation.report.report import WORST, build_report
from ms_lab.evaluation.report.results import Results, SceneRow, SubjectRow, build_results, read_results, write_results
from ms_lab.evaluation.report.sheet import draw_sheet
from ms_lab.evaluation.report.tables import build_tables
from ms_lab.evaluation.run.folder import Run, RunFolder, Timing
from tests.ms_lab.evaluation.report.bench_outcomes import columns_of, found, outcome

RUN = Run(1, 7, "test", False, "f" * 64, "painter", "d" * 64, 128, 128, None, 20, 3.0, 1.0, "euler", "")
SUBJECTS = (SubjectRow("cat", "openmoji/cat", (0.1, 0.1, 0.5, 0.5)), SubjectRow("tea & pot", "x/y", (0.5, 0.5, 1, 1)))


def outcomes() -> list[Outcome]:
    """Nine headline scenes, the last one all wrong; two twins, the first one's swap wrong; a treated one."""
    wrong = found(identity=False, identity_easy=False, present=False, intruded=True, iou=0.0)
    rows = [outcome(number=number) for number in range(8)]
    rows.append(outcome([wrong, wrong], number=8, background=False, recognised="at sea"))
    rows += [outcome(group="twins", number=number, swapped=number == 1) for number in range(2)]
    tilted = [found(treatment="tilted"), found(treatment="")]
    return [*rows, outcome(tilted, "treatment", 0, treated=True, treatment=False)]


def scene_rows(found_rows: Sequence[Outcome]) -> list[SceneRow]:
    columns = columns_of(found_rows)
    return [
        SceneRow(
            group=o.group,
            number=o.number,
            cell="both",
            caption=f"a cat and a tea & pot, scene {o.group} {o.number}",
            seed=1,
            height=96 if o.group == "twins" else 128,
            width=128,
            background="at sea",
            treatment="tilted" if o.treated else "",
            subjects=SUBJECTS,
            outcomes={column: rows[index] for column, rows in columns.items()},
        )
        for index, o in enumerate(found_rows)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run with pictures, each in one colour of its own."""
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    for row in scene_rows(outcomes()):
        size = (row.width, row.height)
        for column in (MODEL, COMPOSITES):
            colour = (9 * row.number, 200 if column == MODEL else 90, 250)
            folder.save(PictureKey(column, row.group, row.number), Image.new("RGB", size, colour))
            folder.save(PictureKey(column, row.group, row.number, exchanged=True), Image.new("RGB", size, "red"))
        for subject in range(2):
            path = folder.reference_path(row.group, row.number, subject)
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (64, 64), "green").save(path)
    folder.add_timing(Timing(12, 13.2, 8, {MODEL: (1.7, 1.8, 2.6)}))
    return folder


@pytest.fixture
def rows() -> list[SceneRow]:
    return scene_rows(outcomes())


@pytest.fixture
def results(folder: RunFolder, rows: list[SceneRow]) -> Results:
    return build_results(folder, RUN, {"vae": {"pictures": 5}}, rows, 2.5)


def test_results_come_back_from_their_files(results: Results, rows: list[SceneRow], tmp_path: Path) -> None:
    write_results(tmp_path, results, rows)
    read, read_rows = read_results(tmp_path)
    assert read_rows == rows
    assert replace(read, goals=(), groups={}) == replace(results, goals=(), groups={})
    assert [(r.goal, r.outcome) for r in read.goals] == [(r.goal, r.outcome) for r in results.goals]
    identity = read.groups["headline"].columns[MODEL]["identity"]
    assert identity.value == pytest.approx(8 / 9, abs=1e-4)


def test_a_folder_without_results_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="msd eval mini --out"):
        read_results(tmp_path)


def test_results_of_another_version_are_told(results: Results, rows: list[SceneRow], tmp_path: Path) -> None:
    write_results(tmp_path, results, rows)
    (tmp_path / "results.json").write_text('{"judge_version": 1}')
    with pytest.raises(InvalidInputError, match="measure anew"):
        read_results(tmp_path)


def test_groups_that_the_model_was_not_asked_have_dashes_and_a_sentence(folder: RunFolder) -> None:
    rows = scene_rows([outcome(group="number-2"), outcome([found()] * 6, "number-6")])
    del rows[1].outcomes[MODEL]
    for row in rows:
        for subject in range(2):
            path = folder.reference_path(row.group, row.number, subject)
            Image.new("RGB", (64, 64), "green").save(path)
        for column in (MODEL, COMPOSITES):
            folder.save(PictureKey(column, row.group, row.number), Image.new("RGB", (128, 128), "red"))
    results = build_results(folder, RUN, {}, rows, 1.0)
    sentence = "–: not asked, for the model's card allows fewer subjects than number-6 have."
    _, overview, numbers, *_ = build_tables(results)
    assert overview.caption == numbers.caption == sentence
    assert list(overview.columns[2].cells)[1] == "–"
    assert list(numbers.columns[1].cells)[0].startswith("100.0")
    assert list(numbers.columns[2].cells)[0] == "–"
    page = " ".join(build_report(results, rows, folder).split())
    assert "Over the number of subjects" in page
    assert sentence.replace("'", "&#39;") in page
    assert page.count("<td>–</td>") > 10


def printed(table: Table) -> dict[str, str]:
    """The lines of a printed table by their first cell."""
    console = Console(width=240, file=io.StringIO(), record=True)
    console.print(table)
    lines = [line.partition("  ") for line in console.export_text().splitlines()]
    return {first.strip(): " ".join(rest.split()) for first, _, rest in lines}


def test_the_table_of_goals_tells_what_became_of_them(results: Results) -> None:
    goals = printed(build_tables(results)[0])
    assert goals["identity, random candidates"].startswith("at least 85 % 88.9 (")
    assert goals["identity, random candidates"].endswith(" met")
    assert goals["swap"].startswith("at least 85 % 50.0 (")
    assert goals["swap"].endswith(" missed")
    assert goals["a picture alone"] == "at most 1.2 s 1.80 (1.70 to 2.60) missed"
    assert goals["three subjects: identity, hard, below the headline's"] == "at most 12 points not measured"


def test_the_table_of_groups_has_a_row_for_each_and_the_others_one_for_each_number(results: Results) -> None:
    _, overview, headline, twins, treatment = (printed(table) for table in build_tables(results))
    assert {"headline", "twins", "treatment"} <= set(overview)
    assert headline["identity, hard"].split()[:2] == ["88.9", "100.0"]
    assert twins["swap"].startswith("50.0")
    assert {"treatment", "background"} <= set(treatment)
    assert "identity, hard" not in treatment


def test_of_few_groups_every_column_is_printed(folder: RunFolder, rows: list[SceneRow]) -> None:
    few = [replace(row, group="tiny") for row in rows if row.group == "twins"]
    few = [replace(r, outcomes={c: replace(o, group="tiny") for c, o in r.outcomes.items()}) for r in few]
    titles = [table.title for table in build_tables(build_results(folder, RUN, {}, few, 1.0))]
    assert titles[-1] == "tiny, all columns, in %"


class Page(HTMLParser):
    """What a page holds: texts, pictures, and everything that would be fetched."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.pictures: list[str] = []
        self.fetched: list[str] = []
        self.ids: set[str] = set()
        self.anchors: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given["id"]} if "id" in given else set()
        if tag == "img":
            self.pictures.append(given["src"])
        if tag == "a":
            self.anchors.append(given["href"])
        if tag in ("script", "link", "iframe") or not given.get("src", "data:").startswith("data:"):
            self.fetched.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture
def page(results: Results, rows: list[SceneRow], folder: RunFolder) -> Page:
    return Page(build_report(results, rows, folder))


def captions(page: Page) -> list[str]:
    return [text.strip() for text in page.text if "scene" in text and "tea" in text]


def test_the_page_needs_nothing_but_itself(page: Page) -> None:
    assert page.fetched == []
    assert all(source.startswith("data:image/webp;base64,") for source in page.pictures)
    assert {anchor.removeprefix("#") for anchor in page.anchors} <= page.ids


def test_every_scene_is_shown_in_order_and_the_worst_once_more_before_them(page: Page) -> None:
    of_group = [text for text in captions(page) if "headline" in text]
    everything = [f"a cat and a tea & pot, scene headline {number}" for number in range(9)]
    assert of_group == [everything[8], *everything]
    twins = [text[-1] for text in captions(page) if "twins" in text]
    assert twins == ["0", "0", "1"]
    assert len(of_group) <= 9 + WORST


def test_of_the_worst_the_one_with_most_wrong_comes_first_then_the_one_farthest_off(folder: RunFolder) -> None:
    near, far = found(identity=False, iou=0.9), found(identity=False, iou=0.2)
    several = found(identity=False, identity_easy=False, iou=0.9)
    subjects = [[near, found()], [found(), found()], [several, found()], [far, found()]]
    few = scene_rows([outcome(pair, number=number) for number, pair in enumerate(subjects)])
    page = Page(build_report(build_results(folder, RUN, {}, few, 1.0), few, folder))
    assert [text[-1] for text in captions(page)] == ["2", "3", "0", "0", "1", "2", "3"]


def test_twins_show_their_exchanged_picture(page: Page) -> None:
    assert page.text.count("references exchanged") == 3
    cards = len(captions(page))
    assert len(page.pictures) == cards * 4 + 3


def test_the_page_says_what_was_found_and_how(page: Page) -> None:
    text = " ".join(" ".join(page.text).split())
    for part in ("✗ hard", "✗ absent", "✗ another's", "✗ background: at sea", "✗ swap", "✗ untreated", "✓ tilted"):
        assert part in text
    for part in (
        "ffffffffffffffff",
        "dddddddddddddddd",
        "20 steps of euler",
        "12 pictures in 0.2 minutes",
        "version 3",
    ):
        assert part in text


def test_the_sheet_shows_what_was_made(rows: list[SceneRow], folder: RunFolder) -> None:
    sheet = draw_sheet(rows, folder)
    made = folder.load(PictureKey(MODEL, "headline", 3))
    # The fourth scene is the second of the right half; what was made comes last.
    column, line = 1, 1
    left = 4 + column * (4 * 132 - 4 + 4) + 3 * 132
    top = 14 + 4 + line * (128 + 14 + 4) + 14
    shown = sheet.crop((left, top, left + 128, top + 128))
    assert ImageChops.difference(shown, made).getbbox() is None


def test_a_sheet_needs_headline_scenes(rows: list[SceneRow], folder: RunFolder) -> None:
    with pytest.raises(InvalidInputError, match="headline"):
        draw_sheet([row for row in rows if row.group != "headline"], folder)
