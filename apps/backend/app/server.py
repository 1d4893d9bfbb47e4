"""A server that ends as it should: what is in flight is finished and answered, and the exit status says whether that worked.

one worker      the process itself
more            a parent that holds the listening socket, starts workers on it, and starts those again that die
"""

import asyncio
import math
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from types import FrameType

import structlog
import uvicorn
from fastapi import FastAPI
from prometheus_client.multiprocess import mark_process_dead

from app.errors import ConfigurationError
from app.garbage import spare_the_loop
from app.house import open_house
from app.listening import BACKLOG, listen, url_of
from app.logs import configure_logging
from app.main import GAVE_UP, MISCONFIGURED, create_app
from app.services.esims.activate import DRAIN_MARGIN_S
from app.settings import Settings, load_settings

_KEEP_ALIVE_S = 75
"""Longer than the 60 s of common proxies and clients, so that it's them who close an idle connection, not us under a request."""

_RESTART_AFTER_S = 1.0
_PARENT_PIPE = "TRIBI_PARENT_PIPE"
_ENDED_AS_ASKED = {0, -signal.SIGTERM, -signal.SIGINT}
"""Statuses of workers. A signal kills only one that was still starting, and had nothing in flight."""

log = structlog.get_logger()


class _Server(uvicorn.Server):
    """
    Ends with a status instead of by the signal that asked it to end, as uvicorn's own does.

    It opens and closes the application itself: uvicorn would show a mistake in the settings as a traceback.
    """

    stop_by: float | None = None
    """On the monotonic clock: when to give up what is still in flight; None until asked to end."""

    _serve_until: float = 0
    """On the same clock, once asked to end: until then it takes requests, and is unready, so that balancers see that and leave."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, *, delay_s: float, grace_s: float) -> None:
        super().__init__(config)
        self._app = app
        self._delay_s = delay_s
        self._grace_s = grace_s
        app.state.stop_by = lambda: self.stop_by

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.stop_by is None:
            self._end_at(now + (self._delay_s if sig == signal.SIGTERM else 0))
        elif sig == signal.SIGINT and now < self._serve_until:
            self._end_at(now)
            return
        elif sig == signal.SIGINT:
            self.stop_by = now  # a second Ctrl-C: somebody is in a hurry
        super().handle_exit(sig, frame)

    def _end_at(self, moment: float) -> None:
        self._serve_until = moment
        self.stop_by = moment + self._grace_s

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) and time.monotonic() >= self._serve_until

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        with self.capture_signals():
            async with self._app.router.lifespan_context(self._app):
                await self._serve(sockets)
            if self._app.state.has_given_up:
                os._exit(GAVE_UP)  # whatever that hangs on (a database that is away) would hold up an orderly end, too
            self._captured_signals.clear()


def serve(host: str, port: int, workers: int) -> int:
    """
    Serves until SIGTERM or SIGINT.

    Args:
        port: 0 for any free one.

    Returns:
        The exit status: 0, or 1 if calls in flight had to be given up.

    Raises:
        ConfigurationError: the settings, or an address that can't be listened on.
    """
    listening = listen(host, port)
    if not os.environ.get("PUBLIC_URL"):
        # Links start with where we listen, unless a setting knows better.
        os.environ.setdefault("TRIBI_LISTENING_URL", url_of(listening, host))
    settings = load_settings()
    if workers == 1:
        return _work(listening)
    asyncio.run(_try_to_open(settings))  # mistakes are told once, before any worker starts
    return _supervise(listening, workers)


async def _try_to_open(settings: Settings) -> None:
    async with open_house(settings, wait_for_database=False):
        pass


def _work(listening: socket.socket) -> int:
    settings = load_settings()
    configure_logging(level=settings.log_level, known_secrets=settings.secrets())
    _raise_descriptor_limit()
    shell = create_app(settings)
    grace_s = settings.provider_timeout_s + DRAIN_MARGIN_S
    server = _Server(
        uvicorn.Config(
            shell,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            # Only a proxy that is named may say from where a request came.
            proxy_headers=settings.trusted_proxies is not None,
            forwarded_allow_ips=settings.trusted_proxies or "",
            backlog=BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=math.ceil(grace_s),
        ),
        shell.app,
        delay_s=settings.shutdown_delay_seconds,
        grace_s=grace_s,
    )
    _end_with_parent()
    spare_the_loop()
    server.run(sockets=[listening])
    return 0 if server.started else GAVE_UP


def _raise_descriptor_limit() -> None:
    """Each waiting client and each call to a provider is a descriptor: thousands may wait at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _supervise(listening: socket.socket, workers: int) -> int:
    configure_logging()
    asked_to_end = threading.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, lambda *_: asked_to_end.set())
    reading_end, _writing_end = os.pipe()  # closed by our death, however it comes: the workers end then
    with tempfile.TemporaryDirectory(prefix="tribi-metrics-") as numbers:
        os.environ |= {"PROMETHEUS_MULTIPROC_DIR": numbers, _PARENT_PIPE: str(reading_end)}
        children = [_start_worker(listening, reading_end) for _ in range(workers)]
        while not asked_to_end.wait(_RESTART_AFTER_S):
            for index, child in enumerate(children):
                if child.poll() is None:
                    continue
                mark_process_dead(child.pid)  # type: ignore[no-untyped-call]  # its calls are in flight no more
                if child.returncode == MISCONFIGURED:
                    asked_to_end.set()  # it has said why, and another would fare no better
                    break
                log.error("server.worker_died", pid=child.pid, status=child.returncode)
                children[index] = _start_worker(listening, reading_end)
        listening.close()
        for child in children:
            child.send_signal(signal.SIGTERM)
        statuses = {child.wait() for child in children}
    return 0 if statuses <= _ENDED_AS_ASKED else GAVE_UP


def _start_worker(listening: socket.socket, reading_end: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "app.server", str(listening.fileno())]
    return subprocess.Popen(command, pass_fds=(listening.fileno(), reading_end))  # noqa: S603 - our own module


def _end_with_parent() -> None:
    """A worker whose parent died (kill -9) ends as if it had been asked to."""
    pipe = os.environ.get(_PARENT_PIPE)
    if pipe is None:
        return

    def wait_for_parent() -> None:
        os.read(int(pipe), 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait_for_parent, daemon=True).start()


def _worker_main() -> int:
    try:
        return _work(socket.socket(fileno=int(sys.argv[1])))
    except ConfigurationError as error:
        log.critical("server.cannot_go_on", error=str(error))
        return MISCONFIGURED


if __name__ == "__main__":
    sys.exit(_worker_main())
