"""A source that was erased is gone, stays so, and is easily named; what else lay there stays."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from cli.main import app
from ms_core.errors import InvalidInputError
from ms_lab.data.config import PipelineConfig
from ms_lab.data.engine.footage_jobs import read_job
from ms_lab.data.engine.run import finish
from ms_lab.data.items import Source
from ms_lab.data.sources import Footage
from ms_lab.data.writing.erase import erase_source
from ms_lab.data.writing.folder import RunFolder, write_json
from ms_lab.data.writing.parts import write_part
from ms_lab.data.writing.reading import read_samples
from tests.ms_lab.data.made_clips import config_without_models, judged_clip, takes, write_video

CONFIG = config_without_models(write={"heldout_share": 0.0})


@pytest.fixture
def film(tmp_path: Path) -> Footage:
    (tmp_path / "videos").mkdir()
    path = tmp_path / "videos" / "holiday 🏖️.mp4"
    write_video(path, takes(1))
    return Footage(path, "video")


def call_it(film: Footage, name: str) -> Source:
    """The source, after its notes were given this name."""
    write_json(film.path.with_name(f"{film.path.name}.json"), {"source": name})
    return film.source(film.notes())


def finished(path: Path, source: Source, config: PipelineConfig = CONFIG) -> RunFolder:
    """A set of this source and two others."""
    folder = RunFolder(path)
    for seed in range(6):
        clip = judged_clip(config, seed, source=f"{seed % 3}" * 24)
        write_part(folder.parts, replace(clip, source=source) if seed % 3 == 0 else clip, config.write)
    finish(folder, (), config)
    folder.page.write_text("<p>shows all</p>")
    return folder


@pytest.mark.parametrize(("before", "after"), [("", "reel 7"), ("reel 7", ""), ("reel 7", "another"), ("", "")])
def test_what_was_erased_stays_out_whatever_its_notes_say_later(
    tmp_path: Path, film: Footage, before: str, after: str
) -> None:
    folder = finished(tmp_path / "out", call_it(film, before))
    assert list(read_job(RunFolder(tmp_path / "new"), film, CONFIG))
    assert erase_source(folder, str(film.path)).samples > 0
    shutil.rmtree(folder.path / "work")
    call_it(film, after)
    assert not list(read_job(folder, film, CONFIG))


def test_a_source_is_named_by_its_video_its_name_or_its_id(tmp_path: Path, film: Footage) -> None:
    source = call_it(film, "reel 7")
    for number, name in enumerate((str(film.path), str(film.path.parent), "reel 7", source.id, source.content[:24])):
        folder = finished(tmp_path / str(number), source)
        assert erase_source(folder, name).source == source.id
        assert {own.source for path in folder.shards.glob("*.tar") for own in read_samples(path)} == {
            "1" * 24,
            "2" * 24,
        }


def test_one_of_several_videos_must_be_named(tmp_path: Path, film: Footage) -> None:
    write_video(film.path.with_name("other.mp4"), takes(2))
    folder = finished(tmp_path / "out", call_it(film, ""))
    with pytest.raises(InvalidInputError, match="There are 2 videos"):
        erase_source(folder, str(film.path.parent))
    with pytest.raises(InvalidInputError, match="There is no source"):
        erase_source(folder, str(film.path.with_name("other.mp4")))


def test_what_was_dropped_of_others_stays_even_without_the_work(tmp_path: Path, film: Footage) -> None:
    source = call_it(film, "")
    folder = finished(tmp_path / "out", source, config_without_models(filters={"min_area": 0.5}))
    before = [json.loads(line) for line in folder.dropped.read_text().splitlines()]
    assert {line["source"] for line in before} == {source.id, "1" * 24, "2" * 24}
    shutil.rmtree(folder.path / "work")
    erase_source(folder, source.id)
    after = [json.loads(line) for line in folder.dropped.read_text().splitlines()]
    assert after == [line for line in before if line["source"] != source.id]


def test_the_page_goes_and_the_user_is_told_what_else_may_hold_it(tmp_path: Path, film: Footage) -> None:
    folder = finished(tmp_path / "out", call_it(film, "reel 7"))
    said = CliRunner().invoke(app, ["data", "erase", str(folder.path), "--source", "reel 7"]).output
    assert not folder.page.exists()
    assert f"msd data view {folder.path}" in said.replace("\n", "")
    assert "caches" in said
    again = CliRunner().invoke(app, ["data", "erase", str(folder.path), "--source", "reel 7"]).output
    assert again.startswith("0 samples")
    assert "page" not in again


def test_counts_of_before_are_said_to_be_so_until_the_next_run(tmp_path: Path, film: Footage) -> None:
    folder = finished(tmp_path / "out", call_it(film, ""))
    for name in (str(film.path), "1" * 24):
        erase_source(folder, name)
        remarks = json.loads(folder.manifest.read_text())["remarks"]
        assert [remark for remark in remarks if "still counts what was erased" in remark] == remarks[-1:]
    assert not any("still counts" in remark for remark in finish(folder, (), CONFIG)["remarks"])


def draw(folder: Path, *seeds: int) -> None:
    """Pictures of these seeds."""
    folder.mkdir(exist_ok=True)
    for seed in seeds:
        Image.fromarray(takes(seed + 1, 1)[-1]).save(folder / f"{seed}.png")


def run(folder: RunFolder, footage: Footage) -> int:
    """Add footage to a set, with a made result for each of its clips; how many there are."""
    clips = list(read_job(folder, footage, CONFIG))
    for clip in clips:
        made = judged_clip(CONFIG, int(clip.id[:4], 16))
        samples = tuple(replace(sample, id=clip.id) for sample in made.samples)
        write_part(folder.parts, replace(made, id=clip.id, source=clip.source, samples=samples), CONFIG.write)
    finish(folder, (), CONFIG)
    return len(clips)


def test_erased_pictures_stay_out_of_a_folder_that_grows_and_of_others(tmp_path: Path) -> None:
    pictures, folder = Footage(tmp_path / "pictures", "pictures"), RunFolder(tmp_path / "out")
    draw(pictures.path, 1, 2)
    assert run(folder, pictures) == 2
    assert erase_source(folder, str(pictures.path))[1:3] == (2, 2)
    draw(pictures.path, 3)
    assert run(folder, pictures) == 1
    other = Footage(tmp_path / "other", "pictures")
    draw(other.path, 1, 4)
    assert run(folder, other) == 1


def test_a_folder_that_has_grown_since_is_erased_by_its_path_and_in_several_sources_by_their_ids(
    tmp_path: Path,
) -> None:
    pictures, folder = Footage(tmp_path / "pictures", "pictures"), RunFolder(tmp_path / "out")
    draw(pictures.path, 1, 2)
    run(folder, pictures)
    shutil.copytree(folder.path, tmp_path / "copy")
    draw(pictures.path, 3)
    assert erase_source(RunFolder(tmp_path / "copy"), str(pictures.path)).samples == 2
    run(folder, pictures)
    sources = json.loads(folder.manifest.read_text())["sources"]
    with pytest.raises(InvalidInputError, match=f"is in 2 sources of .*: {', '.join(sources)}; give the id of one"):
        erase_source(folder, str(pictures.path))
    assert sum(erase_source(folder, source).samples for source in sources) == 3


def test_one_picture_and_an_empty_name_erase_nothing(
    tmp_path: Path, film: Footage, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures, folder = Footage(tmp_path / "pictures", "pictures"), RunFolder(tmp_path / "out")
    draw(pictures.path, 1, 2)
    run(folder, pictures)
    monkeypatch.chdir(pictures.path)
    refused = [("1.png", "A picture goes with its folder"), *((name, "There is no source") for name in ("", "x" * 300))]
    for name, said in refused:
        with pytest.raises(InvalidInputError, match=said):
            erase_source(folder, name)
    assert erase_source(folder, ".").samples == 2


def test_a_name_comes_before_a_folder_that_is_called_so(
    tmp_path: Path, film: Footage, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = finished(tmp_path / "out", call_it(film, "reel 7"))
    (tmp_path / "reel 7").mkdir()
    monkeypatch.chdir(tmp_path)
    assert erase_source(folder, "reel 7").samples > 0


def test_an_id_is_taken_as_it_is_though_another_source_has_the_same_video(tmp_path: Path, film: Footage) -> None:
    folder, plain = RunFolder(tmp_path / "out"), call_it(film, "")
    for seed, source in enumerate((plain, call_it(film, "reel 7"))):
        write_part(folder.parts, replace(judged_clip(CONFIG, seed), source=source), CONFIG.write)
    finish(folder, (), CONFIG)
    with pytest.raises(InvalidInputError, match="is in 2 sources"):
        erase_source(folder, str(film.path))
    assert erase_source(folder, plain.id).source == plain.id


def test_the_user_is_told_of_all_files_of_a_shared_name(tmp_path: Path, film: Footage) -> None:
    folder, source = RunFolder(tmp_path / "out"), call_it(film, "reel 7")
    for seed, content in enumerate((source.content, "e" * 64)):
        clip = replace(judged_clip(CONFIG, seed), source=replace(source, content=content))
        write_part(folder.parts, clip, CONFIG.write)
    finish(folder, (), CONFIG)
    said = CliRunner().invoke(app, ["data", "erase", str(folder.path), "--source", str(film.path)]).output
    assert "made of 2 videos or pictures" in said
    assert "made of" not in CliRunner().invoke(app, ["data", "erase", str(folder.path), "--source", source.id]).output


def test_what_a_killed_run_wrote_of_it_since_does_not_come_in(tmp_path: Path, film: Footage) -> None:
    source = call_it(film, "reel 7")
    folder = finished(tmp_path / "out", source)
    erase_source(folder, "reel 7")
    for seed, late in ((0, source), (3, replace(source, id="another"))):
        write_part(folder.parts, replace(judged_clip(CONFIG, seed), source=late), CONFIG.write)
    assert finish(folder, (), CONFIG)["sources"].keys() == {"1" * 24, "2" * 24}
    assert len(list(folder.all_parts())) == 4


def test_a_set_from_before_contents_and_sources_were_kept_is_erased_too(tmp_path: Path, film: Footage) -> None:
    folder = finished(tmp_path / "out", call_it(film, "reel 7"), config_without_models(filters={"min_area": 0.5}))
    manifest = json.loads(folder.manifest.read_text())
    for facts in manifest["sources"].values():
        del facts["contents"]
    write_json(folder.manifest, manifest)
    lines = [json.loads(line) for line in folder.dropped.read_text().splitlines()]
    for line in lines:
        del line["source"]
    folder.dropped.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    erase_source(folder, "reel 7")
    assert folder.dropped.read_text() == ""
