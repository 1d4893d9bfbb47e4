"""Where a server of ours listens: one socket, made before anything else, so that a port that is taken is told at once."""

import socket

from app.errors import ConfigurationError

BACKLOG = 4096


def listen(host: str, port: int) -> socket.socket:
    """
    Args:
        port: 0 for any free one.

    Raises:
        ConfigurationError: the address can't be listened on.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.socket(family)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error}; choose another with --host and --port"
        ) from error
    return listening


def url_of(listening: socket.socket, host: str) -> str:
    """How programs on this machine reach it; all addresses are reached by the loopback one."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104 - compared only
    return f"http://{shown}:{listening.getsockname()[1]}"
