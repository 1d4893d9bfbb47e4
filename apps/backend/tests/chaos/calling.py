"""The program behind `callers.py`: reads commands and says what came of them, one JSON document a line, until its stdin ends."""

import asyncio
import hashlib
import json
import sys
import time
from collections import defaultdict
from typing import Any

import uvloop

from tests.chaos.line import Heard, Line

LONGEST_LINE = 64 * 1024 * 1024


class _Clients:
    def __init__(self) -> None:
        self._idle: defaultdict[str, list[Line]] = defaultdict(list)
        self._ends: dict[int, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        stdin = asyncio.StreamReader(LONGEST_LINE)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
        while line := await stdin.readline():
            command = json.loads(line)
            do = command.pop("do")
            if do == "stop":
                self._ends[command["number"]].set()
                continue
            task = asyncio.create_task(self._activate(**command) if do == "activate" else self._read(**command))
            self._tasks.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            raise SystemExit(f"the callers failed: {error!r}") from error

    async def _activate(self, number: int, secret: str, calls: list[tuple[str, int]], per_s: float | None) -> None:
        begun = time.monotonic()
        waiting = []
        for nth, (url, order_id) in enumerate(calls):
            if per_s is not None:
                await asyncio.sleep(max(begun + nth / per_s - time.monotonic(), 0))
            line = await self._line(url)
            answer = line.send("POST", "/api/esims/activate", secret, {"order_id": order_id})
            waiting.append(asyncio.create_task(self._hear(line, url, answer)))
        await asyncio.sleep(0.001)  # uvloop writes at the end of its round
        _say(number, "sent", None)
        _say(number, "replies", await asyncio.gather(*waiting))

    async def _line(self, url: str) -> Line:
        while self._idle[url]:
            if (line := self._idle[url].pop()).is_open:
                return line
        return await Line.open(url)

    async def _hear(self, line: Line, url: str, answer: asyncio.Future[Heard]) -> list[Any]:
        begun = time.monotonic()
        try:
            heard = await answer
        except ConnectionError:
            return [0, None, False, None, "", begun, time.monotonic() - begun]
        seconds = time.monotonic() - begun
        self._idle[url].append(line)
        headers = heard.headers
        is_replay = headers.get("idempotent-replayed") == "true"
        return [heard.status, heard.problem, is_replay, headers.get("retry-after"), _digest(heard), begun, seconds]

    async def _read(self, number: int, secret: str, urls: list[str], per_s: float) -> None:
        end = self._ends[number] = asyncio.Event()
        begun = time.monotonic()
        reads: list[asyncio.Task[tuple[str, float, float, int]]] = []
        while not end.is_set():
            url = urls[len(reads) % len(urls)]
            reads.append(asyncio.create_task(self._one_read(url, secret)))
            await asyncio.sleep(max(begun + len(reads) / per_s - time.monotonic(), 0))
        _say(number, "reads", await asyncio.gather(*reads))

    async def _one_read(self, url: str, secret: str) -> tuple[str, float, float, int]:
        scheme, _, rest = url.partition("://")
        host, _, path = rest.partition("/")
        at = time.monotonic()
        try:
            line = await self._line(f"{scheme}://{host}")
            heard = await line.ask("GET", "/" + path, secret)
        except OSError:
            return url, at, time.monotonic() - at, 0
        self._idle[f"{scheme}://{host}"].append(line)
        return url, at, time.monotonic() - at, heard.status


def _digest(heard: Heard) -> str:
    body = heard.body
    if heard.problem is not None:  # the only part of it that is the call's own
        body = json.dumps({name: value for name, value in heard.json().items() if name != "request_id"}).encode()
    return hashlib.sha256(body).hexdigest()[:16]


def _say(number: int, what: str, value: object) -> None:
    sys.stdout.write(json.dumps([number, what, value]) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(_Clients().run())
