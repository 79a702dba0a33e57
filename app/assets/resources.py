"""JSON resources of assets."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, Field

from ms_core.spec.pictures import ASSET_ID_PATTERN
from ms_jobs import asset_variants
from ms_jobs.records import SHA256_PATTERN


class AssetUrls(BaseModel):
    """URLs of an asset, relative to the service's address."""

    asset: str = Field(serialization_alias="self", description="GET shows the asset, DELETE erases it.")
    picture: str = Field(description="Its PNG.")


class Asset(BaseModel):
    """An uploaded picture."""

    id: str = Field(
        description="Name it in requests as `asset:` and this id. The same pixels always have the same id.",
        json_schema_extra={"pattern": f"^{ASSET_ID_PATTERN}$"},
    )
    sha256: str = Field(
        description="SHA-256 of its PNG, by which recipes and `GET /jobs/{job_id}/request` name a reference.",
        json_schema_extra={"pattern": f"^{SHA256_PATTERN}$"},
    )
    width: int = Field(description="Of its PNG, in pixels.")
    height: int = Field(description="Of its PNG, in pixels.")
    has_alpha: bool = Field(description="Whether parts of it are transparent.")
    created_at: datetime = Field(description="When it was uploaded first.")
    expires_at: datetime = Field(description="When it is erased, unless it is used or uploaded again before.")
    urls: AssetUrls = Field(description="URLs of the asset.")


class AssetsUploaded(BaseModel):
    """Assets in the order in which their pictures were sent."""

    assets: list[Asset] = Field(description="One for each picture.")


class AssetsPage(BaseModel):
    """A page of assets, newest first."""

    assets: list[Asset] = Field(description="At most `limit` assets.")
    next_cursor: str | None = Field(description="Value of `cursor` for the next page; null on the last page.")
    next: str | None = Field(
        description="URL of the next page, relative to the service's address; null on the last page."
    )


def asset_resource(asset: asset_variants.Asset, base_url: str) -> Asset:
    """Make the resource of an asset; ``base_url`` is that of the service."""
    url = f"{base_url}/assets/{asset.id}"
    shown = asset.variants["shown"]
    return Asset(
        id=asset.id,
        sha256=shown.sha256,
        width=shown.width,
        height=shown.height,
        has_alpha=asset.has_alpha,
        created_at=datetime.fromtimestamp(asset.created_at, UTC),
        expires_at=datetime.fromtimestamp(asset.expires_at, UTC),
        urls=AssetUrls(asset=url, picture=f"{url}/picture"),
    )
