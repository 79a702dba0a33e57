"""What is asked of the cast: a subject to be kept under a name."""

from __future__ import annotations

from typing import Any

from PIL import Image
from pydantic import model_validator

from app.requests.pictures import SentPictures
from ms_core.spec.appearance import SubjectCutout, SubjectImages, SubjectPhrase, SubjectScale, image_or_images
from ms_core.spec.declared import Declared, declared
from ms_core.spec.picture_notes import dump_notes
from ms_core.spec.pictures import one_name_for_pictures
from ms_jobs.cast import NewPicture, Traits
from ms_jobs.kept_pictures import Variant


@declared(json_schema_extra=image_or_images)
class CastMemberRequest(Declared):
    """A subject to be kept: what it is called and how it looks."""

    phrase: SubjectPhrase
    image: SubjectImages
    scale: SubjectScale = None
    cutout: SubjectCutout = False

    @model_validator(mode="before")
    @classmethod
    def _read_pictures(cls, data: Any) -> Any:
        return one_name_for_pictures(data)

    @property
    def traits(self) -> Traits:
        """What is stored beside the pictures."""
        return Traits(phrase=self.phrase, cutout=self.cutout, scale=self.scale)

    def new_pictures(self, sent: SentPictures) -> list[NewPicture]:
        """The pictures to be stored, which ``sent`` has read."""
        images = self.image if isinstance(self.image, tuple) else (self.image,)
        return [_new_picture(image, sent) for image in images]


def _new_picture(image: Image.Image, sent: SentPictures) -> NewPicture:
    sha256 = sent.name(image)
    variant = Variant(sha256=sha256, width=image.width, height=image.height, notes=dump_notes(image))
    return NewPicture(sent.kept[sha256].path if sha256 in sent.kept else sent.pngs[sha256], variant)
