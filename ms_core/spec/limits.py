"""Limits of what may be asked for, and the checks of single values."""

from __future__ import annotations

import re
import unicodedata

from ms_core.config import SCHEDULERS, TIMESTEP_SPACINGS
from ms_core.errors import InvalidInputError, UnsupportedSchedulerError
from ms_core.spec.declared import BROKEN_TEXT

MAX_SEED = 2**53 - 1
MAX_STEPS = 150
MAX_LCM_STEPS = 50
MAX_SUBJECTS = 16
MAX_IMAGES_PER_SUBJECT = 8
MAX_LORAS = 8
MAX_CONTROLS = 4
MAX_RETRIES = 3
MAX_PROMPT_CHARACTERS = 20_000
MAX_PHRASE_CHARACTERS = 200
MAX_NAME_CHARACTERS = 200
MAX_GUIDANCE_SCALE = 50.0
MAX_SUBJECT_SCALE = 2.0
MAX_LORA_WEIGHT = 4.0
MAX_CONTROL_SCALE = 2.0
MAX_FEATHER = 0.5
MAX_Z_INDEX = 100
SIZE_MULTIPLE = 8
# Of any picture, in pixels, whatever the model; so that no arithmetic meets a number without bounds.
MAX_SIDE = 16_384
# Of a subject that is kept under a name.
CAST_NAME_PATTERN = "[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
# Of a file or folder, without its ending: no path, no address, nothing hidden.
FILE_NAME_PATTERN = rf"[^\s\x00-\x1f\x7f./\\:][^\x00-\x1f\x7f/\\:]{{0,{MAX_NAME_CHARACTERS - 1}}}"


def check_range(value: float, low: float, high: float, pointer: str) -> None:
    """Raise ``InvalidInputError`` unless ``value`` is a number from ``low`` to ``high``; NaN is in no range."""
    if not low <= value <= high:
        raise InvalidInputError(f"Must be a number from {low} to {high}, not {value!r}.", pointer)


def check_count(count: int, low: int, high: int, things: str, pointer: str) -> None:
    """Raise ``InvalidInputError`` unless there are ``low`` to ``high`` of these ``things``."""
    if not low <= count <= high:
        span = f"at most {high}" if low == 0 else f"{low} to {high}"
        raise InvalidInputError(f"Give {span} {things}, not {count}.", pointer)


def check_text(text: str, pointer: str, max_characters: int) -> None:
    """Raise ``InvalidInputError`` for text that is too long or holds a NUL character or a lone surrogate."""
    if len(text) > max_characters:
        raise InvalidInputError(f"At most {max_characters} characters, not {len(text)}.", pointer)
    if any(character == "\0" or unicodedata.category(character) == "Cs" for character in text):
        raise InvalidInputError(BROKEN_TEXT, pointer)


def check_size(value: int, pointer: str) -> None:
    """Raise ``InvalidInputError`` unless ``value`` is a multiple of 8 pixels, from 8 to ``MAX_SIDE``."""
    if value > MAX_SIDE:
        raise InvalidInputError(f"Must be at most {MAX_SIDE} pixels.", pointer)
    if value < SIZE_MULTIPLE or value % SIZE_MULTIPLE:
        nearest = max(SIZE_MULTIPLE, round(value / SIZE_MULTIPLE) * SIZE_MULTIPLE)
        raise InvalidInputError(f"Must be a multiple of {SIZE_MULTIPLE} pixels; the nearest is {nearest}.", pointer)


def check_scheduler(name: str, pointer: str = "/scheduler") -> None:
    """Raise ``UnsupportedSchedulerError`` unless ``name`` is one of ``SCHEDULERS``."""
    if name not in SCHEDULERS:
        raise UnsupportedSchedulerError(f"Unknown scheduler {name!r}; choose one of {', '.join(SCHEDULERS)}.", pointer)


def check_scheduler_steps(scheduler: str, num_inference_steps: int) -> None:
    """Raise ``InvalidInputError`` for more steps than the scheduler has; LCM was distilled on 50."""
    if scheduler == "lcm" and num_inference_steps > MAX_LCM_STEPS:
        detail = f"The scheduler lcm takes at most {MAX_LCM_STEPS} steps, best 4 to 8, not {num_inference_steps}."
        raise InvalidInputError(detail, "/num_inference_steps")


def check_timestep_spacing(name: str, pointer: str = "/timestep_spacing") -> None:
    """Raise ``InvalidInputError`` unless ``name`` is one of ``TIMESTEP_SPACINGS``."""
    if name not in TIMESTEP_SPACINGS:
        known = ", ".join(TIMESTEP_SPACINGS)
        raise InvalidInputError(f"Unknown timestep spacing {name!r}; choose one of {known}.", pointer)


def check_name(name: str, pointer: str) -> None:
    """Raise ``InvalidInputError`` for a name that is empty, too long or holds a broken character."""
    if not name.strip():
        raise InvalidInputError("The name is empty.", pointer)
    check_text(name, pointer, MAX_NAME_CHARACTERS)


def check_file_name(name: str, pointer: str) -> None:
    """Raise ``InvalidInputError`` unless ``name`` can name a file of the model directory; a path or an address
    cannot."""
    check_name(name, pointer)
    if re.fullmatch(FILE_NAME_PATTERN, name) is None or name.lower().endswith(".safetensors"):
        detail = f"{name!r} is not a name; give the name alone, without folders, address or .safetensors."
        raise InvalidInputError(detail, pointer)


def check_times(start: float, end: float) -> None:
    """Raise ``InvalidInputError`` at ``/end`` unless the end is above the start."""
    if not start < end:
        raise InvalidInputError(f"The end must be above the start, which is {start}.", "/end")


def check_strength(value: float, pointer: str) -> None:
    """Raise ``InvalidInputError`` unless ``value`` is above 0 and at most 1."""
    if not 0.0 < value <= 1.0:
        raise InvalidInputError(f"Must be above 0 and at most 1, not {value!r}.", pointer)
