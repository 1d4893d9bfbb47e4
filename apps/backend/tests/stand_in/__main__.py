"""
The stand-in as a program of its own: `python apps/backend/tests/stand_in/__main__.py --port 0 --ledger FILE`.

Prints one JSON line `{"url": …}` when it listens. Ends with status 0 on SIGTERM or SIGINT, and, with
--exit-with-stdin, when its parent is gone: a killed test leaves no process behind.
"""

import argparse
import asyncio
import json
import os
import signal
import ssl
import sys
from pathlib import Path

if __package__ in (None, ""):  # started as a file: make `tests` importable, and our own folder not
    sys.path[0] = str(Path(__file__).resolve().parents[2])

# jsonschema imports this where it is installed and builds a grammar for a second; our schema has no such format.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]

from tests.stand_in import StandIn  # noqa: E402
from tests.stand_in.faults import TABLE  # noqa: E402


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="stand_in", description="A supplier of eSIMs for tests.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ledger", type=Path)
    parser.add_argument("--no-fsync", action="store_true")
    parser.add_argument("--tls", nargs=2, metavar=("CERT", "KEY"))
    parser.add_argument("--api-key")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--weights", type=json.loads, default={}, help='JSON: {"none": 9, "close_after": 1}')
    parser.add_argument("--latency-s", type=float, default=0.0)
    parser.add_argument("--dedupe", action="store_true")
    parser.add_argument("--close-idle-after-s", type=float)
    parser.add_argument("--close-after-answer", choices=("announced", "silent"))
    parser.add_argument("--redirect-to", default="http://127.0.0.1:9")
    parser.add_argument("--exit-with-stdin", action="store_true")
    parser.add_argument("--list-faults", action="store_true", help="print the table of faults, and end")
    return parser.parse_args()


def _list_faults() -> None:
    for fault in TABLE.values():
        issued = "issued" if fault.issues else "-"
        sys.stdout.write(f"{fault.name:28} {issued:7} {fault.seen.name:8} {fault.status or '-':>4}  {fault.says}\n")


def _until_stdin_ends(enough: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        enough.set()


async def _main(said: argparse.Namespace) -> None:
    tls = None
    if said.tls:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*said.tls)
    enough = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, enough.set)
    if said.exit_with_stdin:
        loop.add_reader(sys.stdin.fileno(), _until_stdin_ends, enough)
    async with StandIn(
        ledger=said.ledger,
        fsync=not said.no_fsync,
        host=said.host,
        port=said.port,
        api_key=said.api_key,
        seed=said.seed,
        weights=said.weights,
        latency_s=said.latency_s,
        dedupe=said.dedupe,
        close_idle_after_s=said.close_idle_after_s,
        close_after_answer=said.close_after_answer,
        redirect_to=said.redirect_to,
        tls=tls,
    ) as stand_in:
        sys.stdout.write(json.dumps({"url": stand_in.url}) + "\n")
        sys.stdout.flush()
        await enough.wait()


if __name__ == "__main__":
    said = _arguments()
    if said.list_faults:
        _list_faults()
    else:
        asyncio.run(_main(said))
