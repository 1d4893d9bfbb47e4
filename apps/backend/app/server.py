"""A server that ends as it should: what is in flight is finished and answered, and the exit status says whether that worked.

one worker      the process itself
more            a parent that holds the listening socket, starts workers on it, and starts those again that die
"""

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

from app.errors import ConfigurationError
from app.logs import configure_logging
from app.main import GAVE_UP, create_app
from app.services.esims.activate import DRAIN_MARGIN_S
from app.settings import load_settings

_BACKLOG = 4096
_RESTART_AFTER_S = 1.0
_PARENT_PIPE = "TRIBI_PARENT_PIPE"

log = structlog.get_logger()


class _Server(uvicorn.Server):
    """Ends with a status instead of by the signal that asked it to end, as uvicorn's own does."""

    stop_by: float | None = None
    """On the monotonic clock: when to give up what is still in flight; None until asked to end."""

    grace_s = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.stop_by is None:
            self.stop_by = time.monotonic() + self.grace_s
        super().handle_exit(sig, frame)

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        with self.capture_signals():
            await self._serve(sockets)
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
    listening = _listen(host, port)
    shown_host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104 - compared only
    if not os.environ.get("PUBLIC_URL"):
        # Links start with where we listen, unless a setting knows better.
        os.environ.setdefault("TRIBI_LISTENING_URL", f"http://{shown_host}:{listening.getsockname()[1]}")
    load_settings()  # mistakes are told once, before any worker starts
    return _work(listening) if workers == 1 else _supervise(listening, workers)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.socket(family)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error}; choose another with --host and --port"
        ) from error
    return listening


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
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_graceful_shutdown=math.ceil(grace_s),
        )
    )
    server.grace_s = grace_s
    shell.app.state.stop_by = lambda: server.stop_by
    _end_with_parent()
    server.run(sockets=[listening])
    return GAVE_UP if getattr(shell.app.state, "has_given_up", False) or not server.started else 0


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
                if child.poll() is not None:
                    log.error("server.worker_died", pid=child.pid, status=child.returncode)
                    children[index] = _start_worker(listening, reading_end)
        listening.close()
        for child in children:
            child.send_signal(signal.SIGTERM)
        return max(abs(child.wait()) for child in children)


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


if __name__ == "__main__":
    sys.exit(_work(socket.socket(fileno=int(sys.argv[1]))))
