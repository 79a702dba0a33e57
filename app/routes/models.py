"""What can be asked for."""

from __future__ import annotations

from fastapi import APIRouter, Response

from app.dependencies import ModelsDependency
from app.documentation import problem_responses
from app.schemas import ModelsResource

router = APIRouter(tags=["models"])


@router.get("/models", operation_id="list_models", summary="What can be asked for?", responses=problem_responses(503))
def list_models(models: ModelsDependency, response: Response) -> ModelsResource:
    """Each model with its sizes, presets, LoRAs and ControlNets, and whether a worker is ready for it."""
    response.headers["Cache-Control"] = "no-store"
    return models.all()
