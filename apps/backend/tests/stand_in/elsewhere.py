"""The stand-in outside the test's own event loop: in a thread, or as a child process."""

import asyncio
import contextlib
import http.client
import json
import ssl
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from tests.stand_in.server import StandIn

PROGRAM = Path(__file__).with_name("__main__.py")
START_S = 20.0


@contextlib.contextmanager
def stand_in_thread(**options: Any) -> Iterator[StandIn]:
    """
    A stand-in with a loop of its own, for tests that block theirs. `script`, `release`, the lists and counts may be
    used from any thread, the `wait_…` methods from any loop; `listen` and `refuse` only from its own.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="stand-in", daemon=True)
    thread.start()
    stand_in = StandIn(**options)
    try:
        asyncio.run_coroutine_threadsafe(stand_in.__aenter__(), loop).result(START_S)
        try:
            yield stand_in
        finally:
            asyncio.run_coroutine_threadsafe(stand_in.__aexit__(None, None, None), loop).result(START_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(START_S)
        loop.close()


class StandInChild:
    """
    A stand-in as a child process, ended with the test that started it even if that is killed.

    Args:
        arguments: of the program, see `__main__.py`: "--ledger", path, …
        tls: to speak to it, where it was given a certificate.
    """

    def __init__(self, *arguments: str | Path, tls: ssl.SSLContext | None = None) -> None:
        self._arguments = [str(argument) for argument in arguments]
        self._tls = tls
        self.url = ""
        self.process: asyncio.subprocess.Process

    async def __aenter__(self) -> Self:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(PROGRAM),
            "--exit-with-stdin",
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(START_S):
                line = await self.process.stdout.readline()
            self.url = json.loads(line)["url"]
        except BaseException:
            await self.end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.end()

    async def end(self) -> int:
        """SIGTERM, and SIGKILL if that doesn't help; returns the exit status."""
        if self.process.returncode is None:
            self.process.terminate()
        try:
            async with asyncio.timeout(START_S):
                # Also closes the pipes; a child that was killed leaves them open.
                await self.process.communicate()
        except TimeoutError:
            self.process.kill()
            await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode

    async def get(self, what: str) -> Any:
        """GET /_stand_in/<what>, see `admin.py`."""
        return await asyncio.to_thread(self._ask, "GET", what, None)

    async def post(self, what: str, said: dict[str, Any] | None = None) -> Any:
        """POST /_stand_in/<what>; returns the state after it."""
        return await asyncio.to_thread(self._ask, "POST", what, said or {})

    def _ask(self, method: str, what: str, said: dict[str, Any] | None) -> object:
        parts = urlsplit(self.url)
        host, port = parts.hostname or "", parts.port
        connection = (
            http.client.HTTPSConnection(host, port, context=self._tls, timeout=60)
            if parts.scheme == "https"
            else http.client.HTTPConnection(host, port, timeout=60)
        )
        with contextlib.closing(connection):
            connection.request(method, f"/_stand_in/{what}", json.dumps(said) if said is not None else None)
            answer = connection.getresponse()
            decoded = json.loads(answer.read())
            if answer.status != 200:
                raise ValueError(f"{answer.status}: {decoded}")
            return decoded
