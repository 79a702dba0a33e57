"""Both clients behind one face, before a service that plays a script."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from msd_client import AsyncClient, Client
from tests.support.scripted_service import Script, scripted_service


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    monkeypatch.setattr("msd_client._flow.POLL_INTERVAL_S", 0.01)
    monkeypatch.setattr("msd_client._calls.POLL_INTERVAL_S", 0.01)
    with scripted_service() as script:
        yield script


class Awaited:
    """An ``AsyncClient`` whose calls are awaited for the caller."""

    def __init__(self, runner: asyncio.Runner, client: AsyncClient) -> None:
        self._runner = runner
        self._client = client

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._client, name)
        if not inspect.ismethod(value):
            return value

        def call(*arguments: Any, **options: Any) -> Any:
            return self._runner.run(_outcome(value, arguments, options))

        return call


async def _outcome(method: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    outcome = method(*arguments, **options)
    return [item async for item in outcome] if isinstance(outcome, AsyncIterator) else await outcome


Make = Callable[..., Any]


@pytest.fixture(params=["blocking", "async"])
def make_client(request: pytest.FixtureRequest, script: Script) -> Iterator[Make]:
    """Makes a client of the scripted service, with the arguments of ``Client``."""
    with ExitStack() as stack:

        def make(url: str = script.url, **arguments: Any) -> Any:
            if request.param == "blocking":
                return stack.enter_context(Client(url, **arguments))
            runner = stack.enter_context(asyncio.Runner())
            client = Awaited(runner, AsyncClient(url, **arguments))
            stack.callback(client.close)
            return client

        yield make


@pytest.fixture
def client(make_client: Make) -> Any:
    return make_client()
