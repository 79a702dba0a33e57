"""A benchmark of the shape of MS-Bench, made for the tests: other pictures, other prompts."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

# Colours of pictures, by type and name.
PICTURES = {
    "living": {"otter": "orange", "heron": "navy"},
    "object": {"kettle": "green", "lamp_1": "purple"},
    "upwearing": {"beret": "red"},
    "scene": {"harbour": "teal"},
}
NUM_COMBINATIONS, NUM_SAMPLES = 16, 24

PROMPT_FILE = '''"""Prompts."""

data_class_dict = {
    "otter": "otter",
    "heron": "heron",
    "kettle": "kettle",
    "lamp_1": "desk lamp",
    "beret": "beret",
    "harbour": "harbour",
}

two_subject_combinations = ["living_living", "living_object", "object_object", "living_upwearing", "living_scene",
                            "object_scene"]
three_subject_combinations = ["living_object_scene"]

side_by_side = [[0., 0.2, 0.5, 0.8], [0.5, 0.2, 1., 0.8]]
before_it = [[0.2, 0.2, 0.8, 0.8], [0., 0., 1., 1.]]

subject_combination_boxes = {
    "living_living": side_by_side,
    "living_object": side_by_side,
    "object_object": side_by_side,
    "living_upwearing": [[0.2, 0.3, 0.8, 1.], [0.2, 0., 0.8, 0.3]],
    "living_scene": before_it,
    "object_scene": before_it,
    "living_object_scene": [[0., 0.2, 0.5, 0.8], [0.5, 0.2, 1., 0.8], [0., 0., 1., 1.]],
}

pairs = [
    "a {0} beside a {1} in a kitchen",
    "a {0} beside a {1} on the moon",
]
hats = ["a {0} in a {1} in a kitchen", "a {0} in a {1} on the moon"]
before = ["a {0} in front of a {1}"]

subject_combination_prompts = {
    "living_living": pairs,
    "living_object": pairs,
    "object_object": pairs,
    "living_upwearing": hats,
    "living_scene": before,
    "object_scene": before,
    "living_object_scene": ["a {0} and a {1} in front of a {2}"],
}
'''


def write_checkout(folder: Path) -> Path:
    """A checkout with the file of prompts, and a picture of a square on white for each name."""
    prompts = folder / "msdiffusion" / "dataset" / "prompts" / "msbench.py"
    prompts.parent.mkdir(parents=True)
    prompts.write_text(PROMPT_FILE)
    for kind, names in PICTURES.items():
        (folder / "msbench" / kind).mkdir(parents=True)
        for name, colour in names.items():
            picture = Image.new("RGB", (64, 48), "white")
            picture.paste(colour, (8, 8, 56, 40))
            picture.save(folder / "msbench" / kind / f"{name}.png")
    return folder
