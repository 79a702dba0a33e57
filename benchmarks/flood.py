"""How long other owners wait while one floods the service with pictures of 49 megapixels.

    python benchmarks/flood.py            all floods, five tries each
    python benchmarks/flood.py --only flat --tries 9

60 connections of one owner send requests with four such pictures each, the next one as soon as the last is answered: ``flat``
ones of some hundred kilobytes, or ``noisy`` ones, bodies of almost 64 MiB; ``refused`` ones have five, and are too large. Another owner asks beside them. Flood, clients, Redis
and the API share the machine's cores. Prints a line for each flood: median (min to max), in seconds, of the 202 for two small pictures and
for one of 12 megapixels, and in milliseconds of polls.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import multiprocessing
import multiprocessing.connection
import os
import random
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from PIL import Image  # noqa: E402

from benchmarks.service_stack import Connection, ServiceStack  # noqa: E402
from ms_jobs.api_keys import ApiKeyStore, Scope  # noqa: E402

CONNECTIONS = 60
PICTURES = {"flat": 4, "noisy": 4, "refused": 5}
SIDE = 7000
# So that four of them make a body of almost 64 MiB.
NOISE_BYTES = 11_900_000
FLOODS = ("none", "flat", "noisy", "refused")
POLLS = 100
POLL_PAUSE_S = 0.02
# Until all of the flood's places are taken.
RISE_S = 15.0


def main(floods: list[str], tries: int) -> None:
    """Measure beside each flood, with a service of its own."""
    for kind in floods:
        with ServiceStack(MSD_AUTH="on", MSD_MAX_SUBMITS_PER_MINUTE="0") as stack:
            stack.start_workers(step_s=0)
            with _flood(kind, stack.port, _key(stack, "flood")):
                print(f"{kind:8}", _row(stack, _key(stack, "other"), tries), flush=True)


def _key(stack: ServiceStack, owner: str) -> str:
    return ApiKeyStore(stack.client).create(owner, owner, (Scope.GENERATE, Scope.READ))[0]


def _row(stack: ServiceStack, key: str, tries: int) -> str:
    small, large = _body([_flat(64)] * 2), _body([_photo()])
    with Connection(stack.port, key) as connection:
        job = json.loads(connection.post("/generate", small)[1])["id"]
        found = [(_202(connection, small), _202(connection, large), _polls(connection, job)) for _ in range(tries)]
    smalls, larges, polls = zip(*found, strict=True)
    medians, p95s = [[1000 * at(poll) for poll in polls] for at in (statistics.median, _p95)]
    longest = 1000 * max(max(poll) for poll in polls)
    return f"small {_told(smalls)}   12 Mpx {_told(larges)}   polls {_told(medians, 0)}, p95 {_told(p95s, 0)}, longest {longest:.0f}"


def _told(values: Any, digits: int = 2) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def _p95(values: list[float]) -> float:
    return sorted(values)[int(0.95 * len(values))]


def _202(connection: Connection, body: bytes) -> float:
    began = time.perf_counter()
    status, answer = connection.post("/generate", body)
    assert status in (200, 202), answer
    return time.perf_counter() - began


def _polls(connection: Connection, job: str) -> list[float]:
    took: list[float] = []
    for _ in range(POLLS):
        began = time.perf_counter()
        assert connection.get(f"/jobs/{job}")[0] == 200
        took.append(time.perf_counter() - began)
        time.sleep(POLL_PAUSE_S)
    return took


@contextmanager
def _flood(kind: str, port: int, key: str) -> Iterator[None]:
    """Run a flood in a process of its own during the block."""
    if kind == "none":
        yield
        return
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=_send, args=(kind, port, key, there), daemon=True)
    process.start()
    time.sleep(RISE_S)
    try:
        yield
        here.send(None)
        print(f"{kind:8} answers to the flood: {dict(here.recv())}")
    finally:
        process.kill()
        process.join()


def _send(kind: str, port: int, key: str, sender: multiprocessing.connection.Connection) -> None:
    picture = _flat() if kind == "flat" else _noisy()
    body = _body([picture] * PICTURES[kind])

    told = Counter[str]()

    def send() -> None:
        while True:
            try:
                with Connection(port, key) as connection:
                    while True:
                        status, answer = connection.post("/generate", body)
                        told[f"{status} {json.loads(answer).get('code', '')}".strip()] += 1
            except OSError:
                # A body that is refused before its end.
                told["cut off"] += 1
                time.sleep(0.05)

    for _ in range(CONNECTIONS):
        threading.Thread(target=send, daemon=True).start()
    sender.recv()
    sender.send(told)


def _body(pictures: list[bytes]) -> bytes:
    """A request that shows these pictures, one subject each."""
    subjects = [
        {
            "phrase": name,
            "image": "data:image/png;base64," + base64.b64encode(picture).decode(),
            "box": [0.1, 0.1, 0.9, 0.9],
        }
        for name, picture in zip(("cat", "dog", "fox", "owl", "hen"), pictures, strict=False)
    ]
    prompt = "a " + " and a ".join(subject["phrase"] for subject in subjects)
    small = {"width": 64, "height": 64, "num_inference_steps": 1}
    return json.dumps({"prompt": prompt, "subjects": subjects, **small}).encode()


def _flat(side: int = SIDE) -> bytes:
    return _png(Image.new("RGB", (side, side), "teal"))


def _noisy() -> bytes:
    """Of noise where the room in the body allows it, and flat below."""
    return _png(Image.frombytes("RGB", (SIDE, SIDE), os.urandom(NOISE_BYTES) + bytes(3 * SIDE**2 - NOISE_BYTES)))


def _photo() -> bytes:
    """Of 12 megapixels, as a camera's: soft, with a little noise."""
    rng = random.Random(1)
    soft = Image.frombytes("RGB", (40, 30), rng.randbytes(3600)).resize((4000, 3000), Image.Resampling.BICUBIC)
    return _png(Image.blend(soft, Image.effect_noise((4000, 3000), 8).convert("RGB"), 0.1))


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=FLOODS)
    parser.add_argument("--tries", type=int, default=5)
    given = parser.parse_args()
    main([given.only] if given.only else list(FLOODS), given.tries)
