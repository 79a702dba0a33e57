"""One picture of the first headline scenes as they come: references, composed target with its boxes, made picture."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from ms_core.errors import InvalidInputError
from ms_lab.evaluation.questions.columns import COMPOSITES, HEADLINE, MODEL, PictureKey
from ms_lab.evaluation.report.results import SceneRow
from ms_lab.evaluation.run.folder import RunFolder

SHEET_SCENES, SHEET_COLUMNS = 24, 2
# In the order of a scene's subjects; colours that can be told apart by most people who see colours differently.
BOX_COLOURS = ((213, 48, 0), (0, 98, 217), (0, 138, 84), (160, 60, 190), (130, 110, 0))
_CELL, _GAP, _CAPTION = 128, 4, 14
_HEADINGS = ("reference 1", "reference 2", "composed", "made")


def draw_sheet(rows: Sequence[SceneRow], folder: RunFolder) -> Image.Image:
    """The first 24 headline scenes, in two columns.

    Raises:
        InvalidInputError: the run has no headline scenes.
    """
    scenes = [row for row in rows if row.group == HEADLINE][:SHEET_SCENES]
    if not scenes:
        raise InvalidInputError("The sheet shows headline scenes, and this run has none.")
    strips = [_draw_strip(row, folder) for row in scenes]
    width, height = strips[0].size
    lines = -(-len(strips) // SHEET_COLUMNS)
    sheet = Image.new(
        "RGB", (SHEET_COLUMNS * (width + _GAP) + _GAP, lines * (height + _GAP) + _GAP + _CAPTION), "white"
    )
    pen = ImageDraw.Draw(sheet)
    for column in range(SHEET_COLUMNS):
        for position, heading in enumerate(_HEADINGS):
            pen.text((_GAP + column * (width + _GAP) + position * (_CELL + _GAP), 1), heading, fill="black")
    for index, strip in enumerate(strips):
        line, column = divmod(index, SHEET_COLUMNS)
        sheet.paste(strip, (_GAP + column * (width + _GAP), _CAPTION + _GAP + line * (height + _GAP)))
    return sheet


def _draw_strip(row: SceneRow, folder: RunFolder) -> Image.Image:
    cell = (_CELL, _CELL)
    composed = folder.load(PictureKey(COMPOSITES, row.group, row.number)).resize(cell)
    pen = ImageDraw.Draw(composed)
    for subject, colour in zip(row.subjects, BOX_COLOURS, strict=False):
        left, top, right, bottom = (min(_CELL - 1, round(_CELL * value)) for value in subject.box)
        pen.rectangle((left, top, right, bottom), outline=colour)
    references = [
        folder.load_reference(row.group, row.number, index).resize(cell) for index in range(len(row.subjects))
    ]
    made = folder.load(PictureKey(MODEL, row.group, row.number)).resize(cell)
    pictures = [*references, composed, made]
    strip = Image.new("RGB", (len(pictures) * (_CELL + _GAP) - _GAP, _CELL + _CAPTION), "white")
    for position, picture in enumerate(pictures):
        strip.paste(picture, (position * (_CELL + _GAP), _CAPTION))
    ImageDraw.Draw(strip).text((0, 1), row.caption, fill="black")
    return strip
