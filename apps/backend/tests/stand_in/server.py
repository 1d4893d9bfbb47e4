"""The stand-in: ConnectedYou over a real socket, with a ledger, misbehaving on demand."""

import asyncio
import ssl
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.stand_in.choice import Choice
from tests.stand_in.dialect import CONNECTED_YOU, Dialect
from tests.stand_in.faults import Fault
from tests.stand_in.issuing import Issued, issue
from tests.stand_in.ledger import Ledger
from tests.stand_in.serving import serve
from tests.stand_in.watching import Holds, Watch
from tests.stand_in.wire import MAX_HEAD, Connection, Received

BACKLOG = 8192
WAIT_S = 10.0


class StandIn:
    """
    A supplier of eSIMs that never lies on its ledger.

    Args:
        ledger: file of what was issued; None keeps it in memory only.
        fsync: each line on disk before its answer leaves. Turn off only where a test measures something else.
        host, port: where to listen; port 0 picks one, and keeps it over `refuse` and `listen`.
        api_key: the one key accepted; None accepts any that isn't empty.
        seed, weights: the schedule of faults, see `Choice`.
        latency_s: how long each order takes before anything is issued.
        dedupe: a repeated reference gets its first eSIM again. ConnectedYou promises no such thing.
        close_idle_after_s: an idle connection is closed after exactly that long.
        close_after_answer: "announced" (with `Connection: close`), "silent" (without), or None to keep alive.
        redirect_to: where the 3xx faults point; see `faults/statuses.py`.
        tls: a server context, then the URL is https.
        keep_requests: how many requests are remembered; `request_count` goes on counting.
        dialect: whose orders and answers it speaks.
        now: its clock, seconds since 1970: what a HEAD is told.
    """

    def __init__(
        self,
        *,
        ledger: Path | str | None = None,
        fsync: bool = True,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str | None = None,
        seed: int | str = 0,
        weights: Mapping[str, float] | None = None,
        latency_s: float = 0.0,
        dedupe: bool = False,
        close_idle_after_s: float | None = None,
        close_after_answer: str | None = None,
        redirect_to: str = "http://127.0.0.1:9",
        tls: ssl.SSLContext | None = None,
        keep_requests: int = 100_000,
        dialect: Dialect = CONNECTED_YOU,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.dialect = dialect
        self.host = host
        self.port = port
        self.api_key = api_key
        self.latency_s = latency_s
        self.dedupe = dedupe
        self.close_idle_after_s = close_idle_after_s
        self.close_after_answer = close_after_answer
        self.redirect_to = redirect_to
        self.keep_requests = keep_requests
        self.now = now
        self.watch = Watch()
        self.holds = Holds(self.watch)
        self.hanging = 0
        self.requests: list[Received] = []
        self.request_count = 0
        self.issued: list[Issued] = []
        self.violations: list[str] = []
        self.connections = 0
        self.open_connections = 0
        self.choice = Choice(seed=seed, weights=weights or {})
        self._tls = tls
        self._ledger = Ledger(Path(ledger) if ledger is not None else None, fsync=fsync)
        self._issued_for: defaultdict[str, list[Issued]] = defaultdict(list)
        self._sold: Counter[str] = Counter()
        self._is_closing = False
        self._server: asyncio.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handlers: set[asyncio.Task[None]] = set()

    # --- starting and stopping

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        for earlier in self._ledger.open():
            self._book(earlier)
        await self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_closing = True
        self.refuse()
        handlers = tuple(self._handlers)
        for handler in handlers:
            handler.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)
        await self._ledger.close()
        await asyncio.sleep(0)  # aborted sockets are closed in the loop's next round

    async def listen(self) -> None:
        """Accept connections (again), on the same port as before."""
        if self._server is None:
            self._server = await asyncio.start_server(
                self._accepted, self.host, self.port, limit=MAX_HEAD, backlog=BACKLOG, ssl=self._tls
            )
            self.port = self._server.sockets[0].getsockname()[1]
            self.watch.changed()

    @property
    def is_listening(self) -> bool:
        return self._server is not None

    def refuse(self) -> None:
        """Refuse new connections (the kernel answers RST to each SYN); those that are open go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def refuse_for(self, seconds: float) -> None:
        """Refuse, and listen again by itself; only in the stand-in's own loop."""
        self.refuse()

        async def later() -> None:
            await asyncio.sleep(seconds)
            await self.listen()

        listening = asyncio.create_task(later())
        self._handlers.add(listening)
        listening.add_done_callback(self._handlers.discard)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The task is ours, so that closing knows of it from the first moment on."""
        if self._is_closing:
            writer.transport.abort()
            return
        self.connections += 1
        self.open_connections += 1
        handler = asyncio.create_task(self._handle(Connection(self.connections, reader, writer)))
        self._handlers.add(handler)
        handler.add_done_callback(self._handled)
        self.watch.changed()

    def _handled(self, handler: asyncio.Task[None]) -> None:
        self._handlers.discard(handler)
        self.open_connections -= 1
        self.watch.changed()

    async def _handle(self, connection: Connection) -> None:
        try:
            await serve(self, connection)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass  # the client left; what it bought is on the ledger
        except Exception as error:  # noqa: BLE001 - a broken stand-in must fail the test, not look like a fault
            self.violations.append(f"the stand-in broke: {error!r}")
        finally:
            await connection.end()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self.host}:{self.port}"

    @property
    def closing_headers(self) -> dict[str, str]:
        return {"Connection": "close"} if self.close_after_answer == "announced" else {}

    # --- what tests ask and say

    def script(self, *faults: str | Fault, reference: str | None = None) -> None:
        """The next order requests (of `reference`) meet these faults, one each. Raises UnknownFaultError."""
        self.choice.script(*faults, reference=reference)

    def issued_for(self, reference: str) -> list[Issued]:
        return list(self._issued_for.get(reference, ()))

    def requests_for(self, reference: str) -> list[Received]:
        return [request for request in self.requests if request.reference == reference]

    @property
    def fault_counts(self) -> dict[str, int]:
        return dict(self.choice.counts)

    @property
    def held(self) -> int:
        return len(self.holds)

    def release(self, count: int | None = None, then: str | None = None) -> None:
        """Let held requests go on, as the fault `then` where given. May be called from another thread."""
        assert self._loop is not None, "not started"
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            self.holds.release(count, then)
        else:
            self._loop.call_soon_threadsafe(self.holds.release, count, then)

    def remember(self, request: Received) -> None:
        """Number and keep one request."""
        self.request_count += 1
        request.seq = self.request_count
        if len(self.requests) < self.keep_requests:
            self.requests.append(request)

    async def wait_until(self, is_true: Callable[[], bool], timeout_s: float = WAIT_S) -> None:
        """Looks again at each connection, request, end of a request, hold and hang. Raises TimeoutError."""
        await self.watch.until(is_true, timeout_s)

    async def wait_for_requests(self, count: int, timeout_s: float = WAIT_S) -> None:
        await self.wait_until(lambda: self.request_count >= count, timeout_s)

    async def wait_until_held(self, count: int, timeout_s: float = WAIT_S) -> None:
        await self.wait_until(lambda: self.held >= count, timeout_s)

    async def wait_until_hanging(self, count: int, timeout_s: float = WAIT_S) -> None:
        await self.wait_until(lambda: self.hanging >= count, timeout_s)

    # --- selling

    async def issue(self, order: Mapping[str, Any], code_of: Callable[[str], str] | None = None) -> Issued:
        """Sell one eSIM; it is on disk when this returns."""
        reference = order["orderReference"]
        if self.dedupe and self._issued_for.get(reference):
            await self._ledger.settled()
            return self._issued_for[reference][0]
        sold = issue(reference, order["planCode"], self._sold[reference] + 1, len(self.issued) + 1, code_of)
        self._book(sold)
        await self._ledger.append(sold.line())
        return sold

    def _book(self, sold: Issued) -> None:
        self._sold[sold.reference] += 1
        self.issued.append(sold)
        self._issued_for[sold.reference].append(sold)
