"""JSON resources of the cast."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, Field

from ms_core.spec.limits import CAST_NAME_PATTERN
from ms_jobs.cast import Member
from ms_jobs.records import SHA256_PATTERN


class CastPicture(BaseModel):
    """A picture of a subject of the cast."""

    url: str = Field(description="URL of its PNG, relative to the service's address.")
    sha256: str = Field(
        description="SHA-256 of its PNG, by which recipes name it.",
        json_schema_extra={"pattern": f"^{SHA256_PATTERN}$"},
    )
    width: int = Field(description="In pixels.")
    height: int = Field(description="In pixels.")


class CastMember(BaseModel):
    """A subject that is kept under a name."""

    name: str = Field(
        description="Name it in requests as `cast`.", json_schema_extra={"pattern": f"^{CAST_NAME_PATTERN}$"}
    )
    phrase: str = Field(description="The words that name it in prompts.")
    pictures: list[CastPicture] = Field(description="One to eight pictures of it.")
    cutout: bool = Field(description="Whether it is cut out of its pictures.")
    scale: float | None = Field(description="Its strength; null is the request's.")
    changed_at: datetime = Field(description="When it was put there last.")
    url: str = Field(description="URL of the subject, relative to the service's address.")


class CastPage(BaseModel):
    """A page of the cast, those that were changed last first."""

    cast: list[CastMember] = Field(description="At most `limit` subjects.")
    next_cursor: str | None = Field(description="Value of `cursor` for the next page; null on the last page.")
    next: str | None = Field(
        description="URL of the next page, relative to the service's address; null on the last page."
    )


def cast_member(member: Member, base_url: str) -> CastMember:
    """Make the resource of a subject; ``base_url`` is that of the service."""
    url = f"{base_url}/cast/{member.name}"
    pictures = [
        CastPicture(url=f"{url}/pictures/{index}", sha256=item.sha256, width=item.width, height=item.height)
        for index, item in enumerate(member.pictures)
    ]
    return CastMember(
        name=member.name,
        phrase=member.traits.phrase,
        pictures=pictures,
        cutout=member.traits.cutout,
        scale=member.traits.scale,
        changed_at=datetime.fromtimestamp(member.changed_at, UTC),
        url=url,
    )
