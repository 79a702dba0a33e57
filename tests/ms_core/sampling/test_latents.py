"""Large pictures go through the VAE in tiles, in every memory mode; nothing of that is left for the next one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from PIL import Image

from benchmarks.random_sdxl import TINY, sdxl_parts
from ms_core.sampling.latents import decode_latents, encode_picture


@pytest.fixture(scope="module")
def components() -> Any:
    return sdxl_parts(TINY).components


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 64 pixels for pictures of more than 64 x 96."""
    monkeypatch.setattr("ms_core.sampling.latents.TILE_SIDE", 64)
    monkeypatch.setattr("ms_core.sampling.latents.is_tiled", lambda height, width, _: height * width > 64 * 96)


@pytest.fixture
def seen(components: Any) -> Iterator[list[tuple[int, ...]]]:
    """Height and width of what the decoder and the encoder get."""
    shapes: list[tuple[int, ...]] = []
    handles = [
        module.register_forward_pre_hook(lambda _, args: shapes.append(tuple(args[0].shape[-2:])))
        for module in (components.vae.decoder, components.vae.encoder)
    ]
    yield shapes
    for handle in handles:
        handle.remove()


def latents(height: int, width: int) -> torch.Tensor:
    return torch.randn(1, 4, height // 8, width // 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.usefixtures("small_tiles")
def test_a_large_picture_is_decoded_in_tiles(components, seen) -> None:
    image = decode_latents(components, latents(128, 136))
    assert image.size == (136, 128)
    assert len(seen) > 1
    assert max(side for shape in seen for side in shape) == 64 // 8


@pytest.mark.usefixtures("small_tiles")
def test_a_large_picture_is_encoded_in_tiles(components, seen) -> None:
    encoded = encode_picture(components, Image.new("RGB", (30, 30), "red"), 128, 136, torch.Generator())
    assert encoded.shape == (1, 4, 16, 17)
    assert len(seen) > 1
    assert max(side for shape in seen for side in shape) == 64


@pytest.mark.usefixtures("small_tiles")
def test_a_picture_longer_than_a_tile_stays_whole_if_it_is_not_large(components, seen) -> None:
    decode_latents(components, latents(64, 96))
    assert seen == [(8, 12)]


def test_a_large_picture_changes_nothing_for_the_next(components, seen, request: pytest.FixtureRequest) -> None:
    expected = decode_latents(components, latents(64, 96))
    request.getfixturevalue("small_tiles")
    decode_latents(components, latents(128, 136))
    seen.clear()
    assert decode_latents(components, latents(64, 96)).tobytes() == expected.tobytes()
    assert seen == [(8, 12)]
