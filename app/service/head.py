"""Answers HEAD wherever GET is answered (RFC 9110, section 9.1); FastAPI's routes do not."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadMiddleware:
    """ASGI middleware that answers HEAD with the head of GET's answer, and ends there, also where GET streams."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        # A copy, because the server looks into its own scope to know that it sends no body.
        as_get = {**scope, "method": "GET"}

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                # Whoever streams hears that the client is gone.
                await send({"type": "http.response.body"})

        await self._app(as_get, receive, send_head)
        scope["route"] = as_get.get("route")
