"""The node for ComfyUI, with a stand-in of ComfyUI's interface and the real client."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from tests.support.paths import ROOT
from tests.support.sample_requests import encoded
from tests.support.scripted_service import Script, answer, event, job, scripted_service, step, stream


class Type:
    """A type of sockets, such as ``io.Image``."""

    def __init__(self, *options: str) -> None:
        """``options`` are those that ComfyUI's class takes beside the ones of every input."""
        self._options = {*options, "optional", "tooltip", "display_name"}

    def Input(self, name: str, **options: Any) -> tuple[str, Type, dict[str, Any]]:
        assert set(options) <= self._options
        return name, self, options

    def Output(self) -> Type:
        return self


@dataclass
class StandIn:
    """What of ComfyUI the node sees."""

    progress: list[float] = field(default_factory=list)
    interrupted: bool = False

    def modules(self) -> dict[str, ModuleType]:
        number = ("default", "min", "max", "step", "control_after_generate")
        interface = SimpleNamespace(
            ComfyNode=object,
            Schema=lambda **parts: SimpleNamespace(**parts),
            NodeOutput=lambda *values: SimpleNamespace(args=values),
            String=Type("default", "multiline"),
            Int=Type(*number),
            Image=Type(),
            BoundingBoxes=Type("socketless", "default", "advanced"),
        )
        names = ("comfy", "comfy.utils", "comfy.model_management", "comfy_api", "comfy_api.latest")
        modules = {name: ModuleType(name) for name in names}
        modules["comfy_api.latest"].__dict__.update(io=interface, ComfyExtension=object)
        modules["comfy"].__dict__.update(
            utils=modules["comfy.utils"], model_management=modules["comfy.model_management"]
        )
        modules["comfy.utils"].__dict__["ProgressBar"] = lambda total: SimpleNamespace(
            update_absolute=lambda value: self.progress.append(value / total)
        )
        modules["comfy.model_management"].__dict__["throw_exception_if_processing_interrupted"] = self.check
        return modules

    def check(self) -> None:
        if self.interrupted:
            raise Interrupted


class Interrupted(Exception):
    """As ComfyUI's own."""


@pytest.fixture
def comfy(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    for name, module in stand_in.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    return stand_in


@pytest.fixture
def package(comfy: StandIn, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The folder as ComfyUI loads it: under a name of ComfyUI's choice."""
    folder = ROOT / "integrations" / "comfyui"
    spec = importlib.util.spec_from_file_location(
        "custom_nodes_msd", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    for name in ("custom_nodes_msd", "custom_nodes_msd.nodes", "custom_nodes_msd.boxes"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "custom_nodes_msd", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def node(package: ModuleType) -> Any:
    (node,) = asyncio.run(asyncio.run(package.comfy_entrypoint()).get_node_list())
    return node


@pytest.fixture
def script() -> Iterator[Script]:
    with scripted_service() as script:
        picture = {"index": 0, "seed": 7, "width": 4, "height": 2, "content_type": "image/png", "sha256": "0"}
        end = job("succeeded", 5) | {"images": [picture]}
        script.plays = {
            "generate": [answer(job("queued", 1), 202)],
            "job": [answer(job("running", 2))],
            "events": [stream(step(3, 1), event("succeeded", 5, end))],
            "images": [answer(encoded(Image.new("RGB", (4, 2), "red")), 200, "image/png")],
            "cancel": [answer(job("canceled", 4))],
        }
        yield script


def box(x: int, y: int, width: int, height: int, **metadata: Any) -> dict[str, Any]:
    metadata = {"type": "obj", "text": "", "desc": "cat", "palette": []} | metadata
    return {"x": x, "y": y, "width": width, "height": height, "metadata": metadata}


def pictures(*colours: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(colours)[:, None, None, :].expand(-1, 2, 3, -1)


BOXES = [box(0, 0, 64, 32), box(64, 64, 64, 64, desc=" red teapot ")]
PAIR = pictures((1.0, 0.0, 0.0), (0.0, 0.0, 1.0))


def test_it_takes_the_sockets_of_comfyui(node: Any) -> None:
    schema = node.define_schema()
    inputs = {name: (kind, options) for name, kind, options in schema.inputs}
    interface = sys.modules["comfy_api.latest"].io
    assert inputs["boxes"] == (interface.BoundingBoxes, inputs["boxes"][1])
    assert inputs["boxes"][1]["socketless"] is False
    assert inputs["pictures"][0] is interface.Image
    assert schema.outputs == [interface.Image]
    optional = {name for name, (_, options) in inputs.items() if options.get("optional")}
    required = node.execute.__code__.co_varnames[1 : node.execute.__code__.co_argcount]
    assert list(inputs) == list(required)
    assert len(optional) == len(node.execute.__defaults__)


def test_each_box_is_a_subject_with_its_picture(node: Any, comfy: StandIn, script: Script) -> None:
    output = node.execute("a cat and a red teapot", BOXES, PAIR, 128, 128, 7, url=script.url)
    (made,) = output.args
    assert (made.shape, made.dtype, made[0, 0, 0].tolist()) == ((1, 2, 4, 3), torch.float32, [1.0, 0.0, 0.0])
    (request,) = script.sent("generate")
    first, second = request.pop("subjects")
    assert request == {"prompt": "a cat and a red teapot", "width": 128, "height": 128, "seed": 7}
    assert (first["phrase"], first["box"]) == ("cat", [0, 0, 0.5, 0.25])
    assert (second["phrase"], second["box"]) == ("red teapot", [0.5, 0.5, 1.0, 1.0])
    sent = Image.open(io.BytesIO(base64.b64decode(second["image"].partition(",")[2])))
    assert (sent.size, sent.getpixel((0, 0))) == ((3, 2), (0, 0, 255))
    assert comfy.progress == [0.0, 0.25, 0.0]


def test_what_is_chosen_is_sent(node: Any, script: Script) -> None:
    chosen = {"negative_prompt": "rain", "preset": "fast", "steps": 5}
    node.execute("two", BOXES, PAIR, 128, 128, 7, **chosen, url=script.url, api_key="secret")
    (request,) = script.sent("generate")
    sent = [request[name] for name in ("negative_prompt", "preset", "num_inference_steps")]
    assert sent == ["rain", "fast", 5]
    assert script.headers("generate", "authorization") == ["Bearer secret"]


def test_transparent_pictures_stay_so(node: Any, script: Script) -> None:
    node.execute("a cat", BOXES[:1], pictures((1.0, 0.0, 0.0, 0.5)), 128, 128, 7, url=script.url)
    uri = script.sent("generate")[0]["subjects"][0]["image"]
    assert Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).getpixel((0, 0)) == (255, 0, 0, 128)


def test_the_cancel_button_cancels_the_job(node: Any, comfy: StandIn, script: Script) -> None:
    comfy.interrupted = True
    with pytest.raises(Interrupted):
        node.execute("two", BOXES, PAIR, 128, 128, 7, url=script.url)
    assert script.kinds.count("cancel") == 1


@pytest.mark.parametrize(
    ("boxes", "sentence"),
    [
        (BOXES[:1], "There are 1 boxes and 2 pictures"),
        ([], "There are 0 boxes"),
        ([BOXES[0], box(0, 0, 9, 9, desc=" ")], "Box 2 has no description"),
        ([BOXES[0], {"x": 0, "y": 0, "width": 9, "height": 9}], "Box 2 has no description"),
        ([BOXES[0], box(200, 0, 9, 9)], "has no area within the picture"),
        ([BOXES[0], box(0, 0, 0, 9)], "has no area within the picture"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_sent(
    node: Any, script: Script, boxes: list[dict[str, Any]], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        node.execute("two", boxes, PAIR, 128, 128, 7, url=script.url)
    assert script.kinds == []


def test_boxes_are_cut_at_the_edge(package: ModuleType) -> None:
    boxes = sys.modules["custom_nodes_msd.boxes"]
    assert boxes.from_comfyui(box(-10, 50, 60, 100), 100, 200) == (0.0, 0.25, 0.5, 0.75)
    assert boxes.from_ideogram([250, 0, 1200, 500]) == (0.0, 0.25, 0.5, 1.0)
    with pytest.raises(ValueError, match="no area"):
        boxes.from_ideogram([500, 0, 500, 500])
