"""
Clients in a process of their own, so that their work is not done by the test's loop nor by the server's.

    async with Callers(secret) as callers:
        crowd = await callers.activate([(url, 1), (url, 1), (other_url, 1)])    # all are sent when this returns
        replies = await crowd.replies()
        reading = await callers.read(["http://…/api/plans"], per_s=20)
        seconds = await reading.stop()

The program is `calling.py`.
"""

import asyncio
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_BACKEND = Path(__file__).parents[2]
_LONGEST_LINE = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """
    What one call heard.

    Attributes:
        status: 0 where the connection broke.
        body: a digest of it, a problem's `request_id` left out: equal for equal bodies.
        at: when the request was written, by `time.monotonic()`.
        seconds: from then on.
    """

    status: int
    problem: str | None
    is_replay: bool
    retry_after: str | None
    body: str
    at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Read:
    """
    What one GET came to.

    Attributes:
        at: when it was sent, by `time.monotonic()`.
        status: 0 where the connection broke.
    """

    url: str
    at: float
    seconds: float
    status: int


class Crowd:
    """Calls that have been sent."""

    def __init__(self, callers: "Callers", number: int) -> None:
        self._callers = callers
        self._number = number

    async def replies(self) -> list[Reply]:
        """In the order of the calls."""
        said = await self._callers.said(self._number, "replies")
        return [Reply(*reply) for reply in said]


class Reading:
    """A reader that goes on until it is stopped."""

    def __init__(self, callers: "Callers", number: int) -> None:
        self._callers = callers
        self._number = number

    async def stop(self) -> list[Read]:
        await self._callers.tell({"do": "stop", "number": self._number})
        return [Read(*read) for read in await self._callers.said(self._number, "reads")]


@dataclass
class Callers:
    """A child process of clients that all hold one service key."""

    secret: str
    _numbers: int = 0
    _awaited: dict[tuple[int, str], asyncio.Future[Any]] = field(default_factory=dict)
    _process: asyncio.subprocess.Process = field(init=False)
    _listening: asyncio.Task[None] = field(init=False)

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.chaos.calling",
            cwd=_BACKEND,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LONGEST_LINE,
        )
        self._listening = asyncio.create_task(self._listen())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        await self._listening

    async def activate(self, calls: Iterable[tuple[str, int]], *, per_s: float | None = None) -> Crowd:
        """
        Activates the order at the URL, each on a connection that no other waits on. Returns when all are sent.

        Args:
            per_s: so many a second; None for as quickly as connections are made.
        """
        self._numbers += 1
        crowd = Crowd(self, self._numbers)
        command = {"do": "activate", "calls": list(calls), "per_s": per_s}
        await self.tell(command | {"number": self._numbers, "secret": self.secret})
        await self.said(self._numbers, "sent")
        return crowd

    async def read(self, urls: list[str], *, per_s: float) -> Reading:
        """Starts to GET these in turn, each on a connection of its own, however long earlier reads take."""
        self._numbers += 1
        await self.tell({"do": "read", "urls": urls, "per_s": per_s, "number": self._numbers, "secret": self.secret})
        return Reading(self, self._numbers)

    async def tell(self, command: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        await self._process.stdin.drain()

    async def said(self, number: int, what: str) -> Any:
        try:
            return await self._future(number, what)
        finally:
            del self._awaited[number, what]

    def _future(self, number: int, what: str) -> asyncio.Future[Any]:
        return self._awaited.setdefault((number, what), asyncio.get_running_loop().create_future())

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            number, what, value = json.loads(line)
            self._future(number, what).set_result(value)
        for future in self._awaited.values():
            if not future.done():
                future.set_exception(ChildProcessError("the callers' process has ended"))
