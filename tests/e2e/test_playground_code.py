"""The code that the playground writes for a request, as it stands there, run against the live service."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.e2e.http_service import QUICK, HttpService
from tests.support import typescript
from tests.support.paths import PYTHON_PATH, ROOT
from tests.support.sample_requests import drawing, encoded

SNIPPETS = ROOT / "web" / "src" / "snippets.ts"
LANGUAGES = ["curl", "Python", "TypeScript", "OpenAI"]
PROMPT = """a child's "cat" [ 1, 2 ] and a teapot,\non the $beach"""
FIRST: dict[str, Any] = {"prompt": "a cat on the beach", "subjects": ["cat"]}
WHOLE: dict[str, Any] = {
    "prompt": PROMPT,
    "subjects": ["cat", "teapot"],
    "num_images": 2,
    "output_format": "jpeg",
    "negative_prompt": "fog",
    "loras": [{"name": "paper", "weight": 0.5}],
    "controls": [{"name": "canny", "scale": 0.5}],
    "start": {"strength": 0.8, "redraw": [1]},
    "score": True,
    "grounding": False,
}


def request_of(values: dict[str, Any], service: HttpService) -> dict[str, Any]:
    """A request as the page makes it, with its pictures as assets."""

    def asset(colour: str) -> str:
        picture = drawing(colour).resize((QUICK["width"], QUICK["height"]))
        answer = service.client.post("/assets", files={"picture": encoded(picture)})
        return f"asset:{answer.json()['assets'][0]['id']}"

    request = json.loads(json.dumps(values)) | QUICK | {"seed": 7}
    cat = {"phrase": "cat", "images": [asset("orange"), asset("red")], "box": [0.1, 0.2, 0.5, 0.6], "z_index": 1}
    teapot = {"phrase": "teapot", "image": asset("teal"), "scene": True, "scale": 0.5, "cutout": True, "z_index": 0}
    request["subjects"] = [{"cat": cat, "teapot": teapot}[name] for name in values["subjects"]]
    for part in [*request.get("controls", []), *([request["start"]] if "start" in request else [])]:
        part["image"] = asset("navy")
    return request


def written(language: str, request: dict[str, Any], service: HttpService) -> str:
    """The code of a request."""
    script = f"import {{ snippet }} from {json.dumps(str(SNIPPETS))}; process.stdout.write(snippet(...JSON.parse(process.argv[1])));"
    words = json.dumps([language, request, service.url, "golden"])
    return typescript.run([typescript.node(), "--no-warnings", "--input-type=module", "-e", script, words], ROOT)


def run(language: str, code: str, folder: Path) -> None:
    """Run code as its reader does, in a folder."""
    if language == "TypeScript":
        (folder / "main.mjs").write_text(code)
        main = typescript.bundle(folder / "main.mjs", folder / "bundle.mjs", "node")
        typescript.run([typescript.node(), main], folder)
    elif language == "curl":
        if shutil.which("curl") is None:
            typescript.skip("there is no curl here")
        typescript.run(["bash", "-euo", "pipefail", "-c", code], folder)
    else:
        typescript.run([sys.executable, "-c", code], folder, PYTHONPATH=PYTHON_PATH)


def asked(job: str, service: HttpService) -> dict[str, Any]:
    """What a job was asked for."""
    shown = service.client.get(f"/jobs/{job}/request").text
    # The addresses of its pictures are its own.
    return json.loads(shown.replace(job, "JOB"))["request"]


@pytest.mark.parametrize("values", [FIRST, WHOLE], ids=["first", "whole"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_it_runs_and_asks_for_the_same(
    service: HttpService, tmp_path: Path, language: str, values: dict[str, Any]
) -> None:
    service.wait_until_ready()
    request = request_of(values, service)
    own = service.client.post("/generate", json=request).json()["id"]
    run(language, written(language, request, service), tmp_path)
    (job,) = service.client.get("/jobs?limit=1").json()["jobs"]
    assert job["id"] != own
    assert asked(job["id"], service) == asked(own, service)
    ending = values.get("output_format", "png")
    count = values.get("num_images", 1)
    names = [f"picture.{ending}"] if count == 1 else [f"picture-{number}.{ending}" for number in range(count)]
    pictures = [Image.open(io.BytesIO((tmp_path / name).read_bytes())) for name in names]
    assert [(picture.format, picture.size) for picture in pictures] == [(ending.upper(), (64, 64))] * count
