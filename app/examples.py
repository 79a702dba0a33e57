"""Examples for the API's documentation; the requests can be sent as they are."""

from __future__ import annotations

from typing import Any

_CAT = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAABgAAAAYAgMAAACdGdVrAAAACVBMVEX/////jAAAAADug18CAAAAU0lEQVR42mXOsQ2EMBQE0fc/"
    "vvhcAqU4ISc4WqUpJy4ACQIiuElWGm0wPGloqRJSoUhBVVi+0QsVed//Zo32kmFDf8pJn9nT4JQODulkwOf3ynIBnmEL5EBPN9wAAAAASUVORK5CYII="
)
_TEAPOT = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAABgAAAAYAQMAAADaua+7AAAABlBMVEX///8AgICD+cgVAAAAS0lEQVR42m3MoQ2DQAAF0Jd/CVhwFQjS"
    "CViBybpOB2AcTA0ah7n0ait4AzzuTOIpyEzO9VGGbcxl0bcjSCV0Sqv52tO8eSna53/6AQHgDoq8X3uYAAAAAElFTkSuQmCC"
)
_CAT_FROM_THE_OTHER_SIDE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAABgAAAAYAgMAAACdGdVrAAAACVBMVEX/////jAAAAADug18CAAAASElEQVR42mXKMQ6AIBQE0cfPt6fx"
    "NhYcnSPRa4IFlTjNbibDh4IiNFKoVCFpUjkv6xOr36e0Y5dp9n85MYXOIwyG8NCF2W8bL3G5DX4iiHttAAAAAElFTkSuQmCC"
)
_BEACH = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAABgAAAAYAgMAAACdGdVrAAAACVBMVEWHzusebrTu1qDA2mx/AAAAHElEQVR42mNgoAZgDGVg"
    "YGBgYGIgSLEQrRKVAgA47ADIajDTgQAAAABJRU5ErkJggg=="
)
_OVAL_ON_THE_RIGHT = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAACAAAAAgAQAAAABbAUdZAAAAQUlEQVR42p3NoRGAMBTA0NdfBK4rYHF0A0ZnJRyCo5jKqkbk"
    "4sIERXBcwbkl2h2SNSCEpddIn7dX82TsGRVluPoB+WYH2s19dL8AAAAASUVORK5CYII="
)

REQUEST_EXAMPLES: list[Any] = [
    {
        "prompt": "a cat and a teapot on the beach",
        "subjects": [
            {"phrase": "cat", "image": _CAT, "box": [0.05, 0.3, 0.45, 0.8]},
            {"phrase": "teapot", "image": _TEAPOT, "box": {"xywh": [0.55, 0.35, 0.4, 0.4]}, "scale": 0.8},
        ],
        "seed": 7,
    },
    {
        "prompt": "a cat beside a teapot in a meadow",
        "subjects": [{"phrase": "cat", "image": _CAT}, {"phrase": "teapot", "image": _TEAPOT}],
        "layout": {"mode": "auto", "threshold": 0.5, "start_step": 5},
        "num_images": 2,
        "num_inference_steps": 20,
    },
    {
        "prompt": "a cat in front of a teapot on the beach",
        "subjects": [
            {"phrase": "cat", "images": [_CAT, _CAT_FROM_THE_OTHER_SIDE], "box": [0.1, 0.35, 0.6, 0.9], "z_index": 1},
            {"phrase": "teapot", "image": _TEAPOT, "mask": _OVAL_ON_THE_RIGHT, "feather": 0.05, "cutout": True},
            {"phrase": "beach", "image": _BEACH, "scene": True, "z_index": -1},
        ],
        "scheduler": "euler_ancestral",
        "seed": 7,
    },
]

JOB_EXAMPLE: Any = {
    "id": "V6m3yQ0kq2mXo8sJv1bW4A",
    "status": "running",
    "version": 9,
    "owner": "local",
    "model": "mini",
    "position": None,
    "eta_seconds": 1.9,
    "cancel_requested": False,
    "progress": {"phase": "denoise", "step": 5, "steps": 20, "fraction": 0.25},
    "seed": 7,
    "images": [],
    "references": [],
    "warnings": [],
    "error": None,
    "retried_from": None,
    "attempt": 1,
    "device": "cpu",
    "created_at": "2026-11-22T12:00:00Z",
    "started_at": "2026-11-22T12:00:01Z",
    "ended_at": None,
    "expires_at": None,
    "cancel_at": "2026-11-22T12:05:00Z",
    "start_before": None,
    "timings": {"queued_s": 1.0, "running_s": 0.6},
    "urls": {
        "self": "/jobs/V6m3yQ0kq2mXo8sJv1bW4A",
        "events": "/jobs/V6m3yQ0kq2mXo8sJv1bW4A/events",
        "cancel": "/jobs/V6m3yQ0kq2mXo8sJv1bW4A/cancel",
        "retry": "/jobs/V6m3yQ0kq2mXo8sJv1bW4A/retry",
        "request": "/jobs/V6m3yQ0kq2mXo8sJv1bW4A/request",
        "signed": None,
    },
}
