"""What a user asks for, in the user's own frame; free of torch.

Boxes are normalised ``[x_min, y_min, x_max, y_max]`` in [0, 1], origin at the top left, x to the right, y down.
``None`` means "no layout" or "the model's default", never zero.
"""

from ms_core.spec.additions import (
    Control,
    Lora,
    StartPicture,
    check_strength,
)
from ms_core.spec.generation import (
    GenerationSpec,
    GenerationWarning,
    check_redraw,
)
from ms_core.spec.layout import (
    AutoLayout,
    Box,
)
from ms_core.spec.limits import (
    MAX_CONTROL_SCALE,
    MAX_CONTROLS,
    MAX_FEATHER,
    MAX_GUIDANCE_SCALE,
    MAX_IMAGES_PER_SUBJECT,
    MAX_LORA_WEIGHT,
    MAX_LORAS,
    MAX_NAME_CHARACTERS,
    MAX_PHRASE_CHARACTERS,
    MAX_PROMPT_CHARACTERS,
    MAX_SEED,
    MAX_STEPS,
    MAX_SUBJECT_SCALE,
    MAX_SUBJECTS,
    MAX_Z_INDEX,
    SCHEDULERS,
    SIZE_MULTIPLE,
    TIMESTEP_SPACINGS,
    check_name,
    check_range,
    check_scheduler,
    check_size,
    check_text,
    check_timestep_spacing,
)
from ms_core.spec.phrases import (
    find_phrases,
    require_phrases,
)
from ms_core.spec.subject import (
    SCENE_SCALE,
    WHOLE_PICTURE,
    Subject,
    grey_mask,
    mask_bounds,
)

__all__ = [
    "AutoLayout",
    "Box",
    "Control",
    "GenerationSpec",
    "GenerationWarning",
    "Lora",
    "MAX_CONTROLS",
    "MAX_CONTROL_SCALE",
    "MAX_FEATHER",
    "MAX_GUIDANCE_SCALE",
    "MAX_IMAGES_PER_SUBJECT",
    "MAX_LORAS",
    "MAX_LORA_WEIGHT",
    "MAX_NAME_CHARACTERS",
    "MAX_PHRASE_CHARACTERS",
    "MAX_PROMPT_CHARACTERS",
    "MAX_SEED",
    "MAX_STEPS",
    "MAX_SUBJECTS",
    "MAX_SUBJECT_SCALE",
    "MAX_Z_INDEX",
    "SCENE_SCALE",
    "SCHEDULERS",
    "SIZE_MULTIPLE",
    "StartPicture",
    "Subject",
    "TIMESTEP_SPACINGS",
    "WHOLE_PICTURE",
    "check_name",
    "check_range",
    "check_redraw",
    "check_scheduler",
    "check_size",
    "check_strength",
    "check_text",
    "check_timestep_spacing",
    "find_phrases",
    "grey_mask",
    "mask_bounds",
    "require_phrases",
]
