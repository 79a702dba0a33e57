"""Small models compute with one thread on a CPU; nobody else notices."""

from __future__ import annotations

from collections.abc import Generator

import pytest
import torch
from torch import nn

from ms_core.device.threads import iterate_with, threads_of


@pytest.fixture(autouse=True)
def two_threads() -> Generator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def counts(ended: list[str]) -> Generator[int]:
    try:
        yield torch.get_num_threads()
        yield torch.get_num_threads()
    finally:
        ended.append("closed")


@pytest.mark.parametrize(("threads", "within"), [(1, 1), (3, 3), (None, 2)])
def test_only_the_work_itself_has_the_threads(threads: int | None, within: int) -> None:
    for count in iterate_with(threads, counts([])):
        assert count == within
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 2


def test_work_that_is_left_is_closed() -> None:
    ended: list[str] = []
    work = iterate_with(1, counts(ended))
    next(work)
    work.close()
    assert ended == ["closed"]


def test_work_that_fails_gives_the_threads_back() -> None:
    def failing() -> Generator[None]:
        raise ValueError("stop")
        yield

    with pytest.raises(ValueError, match="stop"):
        next(iterate_with(1, failing()))
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("side", "device", "threads"), [(9_999, "cpu", 1), (10_001, "cpu", None), (9, "cuda", None)])
def test_one_thread_is_for_small_models_on_the_cpu(side: int, device: str, threads: int | None) -> None:
    unet = nn.Linear(side, side, bias=False, device="meta")
    assert threads_of(unet, torch.device(device)) == threads
