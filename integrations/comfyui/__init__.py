"""Nodes for ComfyUI."""

from .nodes import MsdExtension


async def comfy_entrypoint() -> MsdExtension:
    """Called by ComfyUI when it starts."""
    return MsdExtension()
