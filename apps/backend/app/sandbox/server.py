"""Runs the sandbox until it is asked to end, and tells at the start what to put into `.env`."""

import asyncio
import contextlib
import logging
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from app.errors import ConfigurationError
from app.listening import listen, url_of
from app.logs import configure_logging
from app.sandbox.admin import Admin, errors_as_json
from app.sandbox.answering import Counter
from app.sandbox.behaviours import Repeats
from app.sandbox.ledger import Ledger
from app.sandbox.webhooks import Target, Webhooks, is_web_address

_MAX_BODY_BYTES = 64 * 1024
_END_WITHIN_S = 0.5
"""Slow and silent answers aren't waited for."""


@dataclass(frozen=True, slots=True)
class Options:
    """As the command line gives them. `port`: 0 for any free one."""

    host: str
    port: int
    repeats: Repeats
    ledger: Path | None
    webhook_url: str | None
    webhook_header: str
    webhook_secret: str


def run(options: Options) -> None:
    """
    Serves until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: an option that can't be, or an address that can't be listened on.
    """
    target = _target(options)
    configure_logging()
    listening = listen(options.host, options.port)
    with contextlib.closing(Ledger(options.ledger)) as ledger:
        asyncio.run(_serve(listening, options, ledger, target))


@contextlib.asynccontextmanager
async def serving(listening: socket.socket, options: Options, ledger: Ledger, target: Target) -> AsyncIterator[None]:
    """On a socket that listens already."""
    app = web.Application(client_max_size=_MAX_BODY_BYTES, middlewares=[errors_as_json])
    webhooks = Webhooks(ledger, target)
    app.router.add_post("/partners/orders", Counter(ledger, options.repeats).take)
    Admin(ledger, webhooks, ledger_is_kept(options.ledger)).add_to(app)
    # aiohttp's own log quotes requests that it can't read: a key may stand in them.
    quiet = logging.getLogger("sandbox.http")
    quiet.disabled = True
    runner = web.AppRunner(app, access_log=None, logger=quiet, shutdown_timeout=_END_WITHIN_S)
    await runner.setup()
    try:
        await web.SockSite(runner, listening).start()
        yield
    finally:
        await runner.cleanup()
        await webhooks.close()


async def _serve(listening: socket.socket, options: Options, ledger: Ledger, target: Target) -> None:
    asked_to_end = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, asked_to_end.set)
    async with serving(listening, options, ledger, target):
        sys.stdout.write(greeting(url_of(listening, options.host), options))
        sys.stdout.flush()
        await asked_to_end.wait()


def greeting(url: str, options: Options) -> str:
    everywhere = (
        "\nReached from another machine or container: its name in place of the address, and CONNECTED_YOU_ALLOW_HTTP=true.\n"
        "Whoever reaches it can use it.\n"
    )
    return f"""ConnectedYou sandbox on {url}: nothing here costs money, and no eSIM of it can be installed.

For apps/backend/.env:

ESIM_PROVIDER=CONNECTED_YOU
CONNECTED_YOU_BASE_URL={url}
CONNECTED_YOU_API_KEY=sandbox-key
CONNECTED_YOU_PARTNER_ID=sandbox-partner
CONNECTED_YOU_DRY_RUN=false
CONNECTED_YOU_WEBHOOK_HEADER={options.webhook_header}
{_secret_line(options.webhook_secret)}
{everywhere if url_of_all(options.host) else ""}
What was ordered:     {url}/ (as JSON: {url}/sandbox/ledger)
                      {ledger_is_kept(options.ledger)}
A repeated reference: {_REPEATS[options.repeats]}
Webhooks:             {options.webhook_url or "to any address, from that page (--webhook-url)"}
Plan codes that misbehave: tribi sandbox --help
"""


_MADE_UP_SECRET = "sandbox-secret"  # noqa: S105 - the option's default
_REPEATS = {
    Repeats.BILL: "buys a second eSIM, marked in the ledger (--repeats)",
    Repeats.REPLAY: "gets the first eSIM once more, nothing is billed",
    Repeats.REFUSE: "is refused with HTTP 409",
}


def _secret_line(secret: str) -> str:
    """One of somebody's own, which may be in use elsewhere, stands in no terminal's history and no log."""
    name = "CONNECTED_YOU_WEBHOOK_SECRET"
    return f"{name}={secret}" if secret == _MADE_UP_SECRET else f"# {name}: what --webhook-secret says"


def url_of_all(host: str) -> bool:
    return host in ("0.0.0.0", "::")  # noqa: S104 - compared only


def ledger_is_kept(file: Path | None) -> str:
    if file is None:
        return "The ledger is in memory, and gone when the sandbox ends (--ledger FILE keeps it)."
    return f"The ledger is kept in {file}."


def _target(options: Options) -> Target:
    mistakes = []
    if options.webhook_url is not None and not is_web_address(options.webhook_url):
        mistakes.append("--webhook-url must begin with http:// or https:// and name a host")
    if re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", options.webhook_header) is None:
        mistakes.append("--webhook-header must be the name of an HTTP header")
    if not (options.webhook_secret.isascii() and options.webhook_secret.isprintable()):
        mistakes.append("--webhook-secret must be printable ASCII: it travels in an HTTP header")
    if mistakes:
        raise ConfigurationError("\n".join(mistakes))
    return Target(options.webhook_url, options.webhook_header, options.webhook_secret)
