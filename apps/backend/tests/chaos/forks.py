"""
Servers quickly: a parent that has imported the application forks a child for each. `python -m tests.chaos.forks` is that parent.

It has no thread, no event loop and no connection, so a fork of it is as good as a process of its own; it is ready in a tenth of
the time that Python takes to import the application. The child runs what `tribi serve` and `tribi worker` run.

Orders come as lines of JSON on stdin, and news leave as lines on stdout: {"pid": 7} and, when one has ended, {"ended": 7,
"status": -9}. All children are killed when stdin ends.
"""

import asyncio
import gc
import json
import os
import selectors
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from app.jobs.process import work_until_asked_to_end
from app.server import serve
from app.settings import BACKEND_DIR
from tests.chaos.strikes import Plan, arm

_START_WITHIN_S = 60
_KEPT = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH")


# --- the harness's side


class Fork:
    """A server or worker. It looks to `Program` as `subprocess.Popen` does."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, kind: int) -> None:
        if self.returncode is None:  # else the number may be somebody else's by now
            with suppress(ProcessLookupError):
                os.kill(self.pid, kind)


class Zygote:
    """The parent, as a child of the harness; with it all that it has forked ends."""

    def __init__(self) -> None:
        self._forks: dict[int, Fork] = {}
        self._born: asyncio.Queue[int] = asyncio.Queue()
        self._ended: dict[int, int] = {}
        self._forking = asyncio.Lock()
        self._process: asyncio.subprocess.Process
        self._listening: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.chaos.forks",
            cwd=BACKEND_DIR,
            env={"TRIBI_ENV_FILE": os.devnull} | {name: os.environ[name] for name in _KEPT if name in os.environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._listening = asyncio.create_task(self._listen())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._listening
        await self._process.wait()

    async def fork(self, kind: str, environment: dict[str, str], log: Path, *, port: int = 0, plan: str = "") -> Fork:
        """
        Args:
            kind: "server" or "worker".
            environment: all of it.
            plan: the folder of a `strikes.Plan`; "" for a process that nothing strikes.
        """
        order = {"kind": kind, "environment": environment, "log": str(log), "port": port, "plan": plan}
        assert self._process.stdin is not None
        async with self._forking, asyncio.timeout(_START_WITHIN_S):
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            fork = Fork(await self._born.get())
        self._forks[fork.pid] = fork
        fork.returncode = self._ended.pop(fork.pid, None)
        return fork

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            news = json.loads(line)
            if "pid" in news:
                self._born.put_nowait(news["pid"])
            elif news["ended"] in self._forks:
                self._forks.pop(news["ended"]).returncode = news["status"]
            else:
                self._ended[news["ended"]] = news["status"]


# --- the parent's side


_KINDS: dict[str, Callable[[dict[str, Any]], int]] = {
    "server": lambda order: serve("127.0.0.1", order["port"], 1),
    "worker": lambda _: work_until_asked_to_end(),
}


def _be_child(order: dict[str, Any]) -> int:
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for stream, number in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(stream, number)
    os.environ.clear()
    os.environ.update(order["environment"])
    if order["plan"]:
        arm(Plan(Path(order["plan"])))
    return _KINDS[order["kind"]](order)


def _fork(order: dict[str, Any]) -> tuple[int, int]:
    """The child's id, and a descriptor that ends when it does."""
    reading_end, writing_end = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing_end)
        return pid, reading_end
    status = 70
    try:
        status = _be_child(order)
    except BaseException:  # noqa: BLE001 - the child may not become a second parent
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _tell(news: dict[str, int]) -> None:
    os.write(1, json.dumps(news).encode() + b"\n")


def main() -> None:
    gc.freeze()  # what is imported is shared with the children, and stays so
    # A shell's background job ignores Ctrl-C, and so would the servers.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    pids: dict[int, int] = {}
    unread = b""
    while True:
        for key, _ in selector.select():
            descriptor = key.fd
            if descriptor in pids:
                _, status = os.waitpid(pids[descriptor], 0)
                selector.unregister(descriptor)
                os.close(descriptor)
                _tell({"ended": pids.pop(descriptor), "status": os.waitstatus_to_exitcode(status)})
                continue
            said = os.read(0, 65536)
            if not said:
                for pid in pids.values():
                    os.kill(pid, signal.SIGKILL)
                return
            *lines, unread = (unread + said).split(b"\n")
            for line in lines:
                pid, ends = _fork(json.loads(line))
                pids[ends] = pid
                selector.register(ends, selectors.EVENT_READ)
                _tell({"pid": pid})


if __name__ == "__main__":
    main()
