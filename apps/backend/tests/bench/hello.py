"""
The yardstick of answers: an ASGI application that says hello, under the very server and settings of `tribi serve`.

`python -m tests.bench.hello PORT`
"""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from app import server

_HEAD = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"5")],
}
_BODY = {"type": "http.response.body", "body": b"hello"}


async def hello(_scope: Any, _receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
    await send(_HEAD)
    await send(_BODY)


@asynccontextmanager
async def _open(_: object) -> AsyncIterator[None]:
    yield


class _Hello:
    """In place of what `app.main.create_app` gives."""

    def __init__(self, _settings: object) -> None:
        self.app = SimpleNamespace(
            state=SimpleNamespace(has_given_up=False), router=SimpleNamespace(lifespan_context=_open)
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await hello(scope, receive, send)


if __name__ == "__main__":
    setattr(server, "create_app", _Hello)  # noqa: B010 - a type of its own
    sys.exit(server.serve("127.0.0.1", int(sys.argv[1]), 1))
