"""A child process that loads torch and prints its version and usable devices, as one line of JSON.

Run as ``python -m cli.checks.torch_probe``; a crash of the driver's library ends this process and not its parent.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any


def probe() -> dict[str, Any]:
    """Version, CUDA build, and for each device a word on whether torch could compute on it."""
    try:
        import torch
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "torch"
        return {"missing": missing, "problem": str(error)}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
        devices = [_try_device(torch, index) for index in range(torch.cuda.device_count())] if available else []
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
        "available": available,
        "devices": devices,
        "warnings": [str(warning.message) for warning in caught],
    }


def _try_device(torch: Any, index: int) -> dict[str, Any]:
    """A device's name and compute capability, and what went wrong in one small sum on it."""
    told: dict[str, Any] = {"index": index}
    try:
        told["name"] = torch.cuda.get_device_name(index)
        told["capability"] = "{}.{}".format(*torch.cuda.get_device_capability(index))
        works = float(torch.ones(2, device=f"cuda:{index}").sum()) == 2.0
        told["problem"] = None if works else "it computes wrongly"
    except RuntimeError as error:
        told["problem"] = str(error).splitlines()[0]
    return told


if __name__ == "__main__":
    sys.stdout.write(json.dumps(probe()) + "\n")
