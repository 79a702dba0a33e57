"""What a user asks for, in the user's own frame; free of torch.

Boxes are normalised ``[x_min, y_min, x_max, y_max]`` in [0, 1], origin at the top left, x to the right, y down.
``None`` means "no layout" or "the model's default", never zero.
"""

from ms_core.spec.appearance import SCENE_SCALE
from ms_core.spec.extras import Control, Lora, StartPicture
from ms_core.spec.generation import GenerationSpec, GenerationWarning, derived_seed
from ms_core.spec.layout import AutoLayout, Box, PixelBox
from ms_core.spec.limits import (
    FILE_NAME_PATTERN,
    MAX_CONTROL_SCALE,
    MAX_CONTROLS,
    MAX_FEATHER,
    MAX_GUIDANCE_SCALE,
    MAX_IMAGES_PER_SUBJECT,
    MAX_LCM_STEPS,
    MAX_LORA_WEIGHT,
    MAX_LORAS,
    MAX_NAME_CHARACTERS,
    MAX_PHRASE_CHARACTERS,
    MAX_PROMPT_CHARACTERS,
    MAX_RETRIES,
    MAX_SEED,
    MAX_STEPS,
    MAX_SUBJECT_SCALE,
    MAX_SUBJECTS,
    MAX_Z_INDEX,
    SCHEDULERS,
    SIZE_MULTIPLE,
    TIMESTEP_SPACINGS,
    check_scheduler,
)
from ms_core.spec.phrases import find_phrases
from ms_core.spec.pictures import Pictures, grey_mask, mask_bounds
from ms_core.spec.score import SubjectScore
from ms_core.spec.subject import WHOLE_PICTURE, Subject

__all__ = [
    "AutoLayout",
    "Box",
    "Control",
    "FILE_NAME_PATTERN",
    "GenerationSpec",
    "GenerationWarning",
    "Lora",
    "MAX_CONTROLS",
    "MAX_CONTROL_SCALE",
    "MAX_FEATHER",
    "MAX_GUIDANCE_SCALE",
    "MAX_IMAGES_PER_SUBJECT",
    "MAX_LCM_STEPS",
    "MAX_LORAS",
    "MAX_LORA_WEIGHT",
    "MAX_NAME_CHARACTERS",
    "MAX_PHRASE_CHARACTERS",
    "MAX_PROMPT_CHARACTERS",
    "MAX_RETRIES",
    "MAX_SEED",
    "MAX_STEPS",
    "MAX_SUBJECTS",
    "MAX_SUBJECT_SCALE",
    "MAX_Z_INDEX",
    "Pictures",
    "PixelBox",
    "SCENE_SCALE",
    "SCHEDULERS",
    "SIZE_MULTIPLE",
    "StartPicture",
    "Subject",
    "SubjectScore",
    "TIMESTEP_SPACINGS",
    "WHOLE_PICTURE",
    "check_scheduler",
    "derived_seed",
    "find_phrases",
    "grey_mask",
    "mask_bounds",
]
