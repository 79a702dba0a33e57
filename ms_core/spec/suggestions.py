"""What a user may have meant by a name that is not known."""

from __future__ import annotations

import re
from collections.abc import Collection
from difflib import get_close_matches

# How other programs name our fields, in snake case.
OTHER_NAMES = {
    "batch_size": "num_images",
    "bbox": "box",
    "bounding_box": "box",
    "cfg": "guidance_scale",
    "cfg_scale": "guidance_scale",
    "guidance": "guidance_scale",
    "init_image": "start",
    "ip_adapter_scale": "scale",
    "n": "num_images",
    "n_iter": "num_images",
    "negative": "negative_prompt",
    "num_inference_step": "num_inference_steps",
    "num_steps": "num_inference_steps",
    "reference": "image",
    "reference_image": "image",
    "references": "subjects",
    "sampler": "scheduler",
    "sampler_name": "scheduler",
    "steps": "num_inference_steps",
    "text": "prompt",
}


def nearest(name: str, known: Collection[str]) -> str | None:
    """The known name that is meant most probably: by another program's word, another case, or a slip of the pen."""
    plain = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).replace("-", "_").lower()
    if OTHER_NAMES.get(plain) in known:
        return OTHER_NAMES[plain]
    same = {item.lower(): item for item in known}
    close = get_close_matches(plain, same, n=1, cutoff=0.75)
    return same[close[0]] if close else None
