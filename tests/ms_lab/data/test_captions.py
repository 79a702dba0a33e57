"""Captions that come with the footage, without any model to make others."""

from __future__ import annotations

from dataclasses import replace

from ms_lab.data.engine.run import check_models
from ms_lab.data.stages.caption import CaptionStage
from tests.ms_lab.data.made_clips import colour_clip, config_without_models


def test_captions_of_the_notes_need_no_model() -> None:
    config = config_without_models(caption={"use": "ms_lab.data.models.no_captions:NoCaptions", "options": {}})
    check_models(config)
    clip = colour_clip(num_frames=2)
    said, silent = (
        replace(clip, frames=tuple(replace(frame, caption=text) for frame in clip.frames)) for text in ("a  dog", "")
    )
    done = CaptionStage(config)([said, silent])
    assert [[frame.caption for frame in own.frames] for own in done] == [["a dog"] * 2, [""] * 2]
