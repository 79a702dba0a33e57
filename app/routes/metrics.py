"""What Prometheus scrapes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Response
from prometheus_client.exposition import choose_encoder

from app.dependencies import MetricsDependency

router = APIRouter()


@router.get("/metrics", include_in_schema=False)
def scrape(metrics: MetricsDependency, accept: Annotated[str, Header()] = "") -> Response:
    """Plain text, or OpenMetrics for who asks for it; 200 with Redis away too, and then ``msd_redis_up 0``."""
    encode, content_type = choose_encoder(accept)
    return Response(encode(metrics.registry), headers={"Cache-Control": "no-store"}, media_type=content_type)
