"""What the umpire of the fault matrix does, and where its servers stand."""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import LiteralString

import psycopg

from tests.chaos.db_proxy import DatabaseProxy
from tests.chaos.matrix import Do, Side
from tests.chaos.stage import ForkedServer, Stage
from tests.chaos.umpire import Act
from tests.postgres.clients import postmasters
from tests.processes.programs import until

_FOR_A_MOMENT_S = 0.3
_LONG_S = 3.5
"""Longer than an order may wait to be sent (2 s)."""

_RELOAD = "SELECT pg_reload_conf()"
_TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s"


@dataclass
class Slot:
    """A place for a server, behind a proxy of its own. Who is killed or asked to end is replaced by the next who wants it."""

    stage: Stage
    name: str
    proxy: DatabaseProxy
    servers: list[ForkedServer] = field(default_factory=list)
    """The last one is the present one."""
    is_leaving: bool = False
    _next: asyncio.Task[ForkedServer] | None = None
    _replacing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def current(self) -> ForkedServer:
        """One that listens, or did a moment ago. Its successor is kept ready."""
        async with self._replacing:
            if self.is_leaving or not self.servers or not self.servers[-1].is_running:
                self.servers.append(await (self._next or self._one_more()))
                self.is_leaving = False
                self._next = asyncio.create_task(self._one_more())
            return self.servers[-1]

    async def _one_more(self) -> ForkedServer:
        url = f"{self.proxy.url}&application_name={self.name}"
        started = await self.stage.start_server(armed=True, DATABASE_URL=url)
        await until(lambda: started.answers("/healthz"))
        return started

    async def close(self) -> None:
        if self._next is not None:
            await self._next


@dataclass
class Acts:
    """
    Attributes:
        name_of: the cell's name by an order's reference.
        lines: connections of clients that are to hang up, by the same.
    """

    stage: Stage
    slots: Mapping[Side, Slot]
    name_of: dict[str, str]
    lines: dict[str, asyncio.Future[asyncio.StreamWriter]] = field(default_factory=dict)
    asked_to_end: list[ForkedServer] = field(default_factory=list)
    _later: list[asyncio.Task[None]] = field(default_factory=list)

    async def are_over(self) -> None:
        """Waits until what passes has passed."""
        await asyncio.gather(*self._later)
        for slot in self.slots.values():
            await slot.close()

    def table(self) -> dict[str, Act]:
        return {
            Do.STOP: lambda _, pid: self._stop(pid, _FOR_A_MOMENT_S),
            Do.STOP_LONG: lambda _, pid: self._stop(pid, _LONG_S),
            Do.TERM: self._term,
            Do.HANG_UP: self._reset,
            Do.TERMINATE: self._terminate,
            Do.CUT: self._cut,
            Do.STALL: self._stall,
            Do.REFUSE: self._refuse,
            Do.LOSE_COMMIT: self._lose_commit,
            Do.KILL_POSTGRES: self._kill_postgres,
            Do.READ_ONLY: self._make_read_only,
            Do.SUPPLIER_REFUSES: self._let_supplier_refuse,
        }

    def _slot_of(self, pid: int) -> Slot:
        return next(slot for slot in self.slots.values() if any(server.pid == pid for server in slot.servers))

    async def _stop(self, pid: int, for_s: float) -> bool:
        server = next(server for server in self._slot_of(pid).servers if server.pid == pid)
        server.send(signal.SIGSTOP)
        asyncio.get_running_loop().call_later(for_s, server.send, signal.SIGCONT)
        return True

    async def _term(self, _: str, pid: int) -> bool:
        slot = self._slot_of(pid)
        server = next(server for server in slot.servers if server.pid == pid)
        server.send(signal.SIGTERM)
        slot.is_leaving |= server is slot.servers[-1]
        self.asked_to_end.append(server)
        return True

    async def _reset(self, reference: str, _: int) -> bool:
        if (line := self.lines.pop(reference, None)) is None:
            return False
        (await line).transport.abort()
        return True

    async def _terminate(self, _: str, pid: int) -> bool:
        return await self._in_postgres(_TERMINATE, values=[self._slot_of(pid).name]) > 0

    async def _in_postgres(self, *statements: LiteralString, values: Sequence[object] = ()) -> int:
        """Returns how many rows the last one has found; 0 where the database is away."""
        try:
            options = "-c default_transaction_read_only=off"
            connecting = psycopg.AsyncConnection.connect(self.stage.site.db.url, autocommit=True, options=options)
            async with await connecting as connection:
                found = 0
                for statement in statements:
                    found = (await connection.execute(statement, values)).rowcount
                return found
        except psycopg.OperationalError:
            return 0

    async def _cut(self, _: str, pid: int) -> bool:
        return self._slot_of(pid).proxy.ask("cut")["cut"] > 0

    async def _stall(self, _: str, pid: int) -> bool:
        self._slot_of(pid).proxy.ask("stall", for_s=_FOR_A_MOMENT_S)
        return True

    async def _refuse(self, _: str, pid: int) -> bool:
        proxy = self._slot_of(pid).proxy
        proxy.ask("refuse", for_s=_FOR_A_MOMENT_S)
        return proxy.ask("cut")["cut"] > 0

    async def _lose_commit(self, reference: str, pid: int) -> bool:
        self._slot_of(pid).proxy.ask("lose_commit", pid=pid, count_as=self.name_of[reference])
        return True

    async def _kill_postgres(self, *_: object) -> bool:
        assert self.stage.data_dir is not None
        found = postmasters(self.stage.data_dir / "postgres")
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        return bool(found)

    async def _make_read_only(self, *_: object) -> bool:
        is_so = await self._in_postgres("ALTER SYSTEM SET default_transaction_read_only = on", _RELOAD)
        self._later.append(asyncio.create_task(self._make_writable()))
        return bool(is_so)

    async def _make_writable(self) -> None:
        is_writable = 0
        while not is_writable:  # again where the server has been killed meanwhile
            await asyncio.sleep(_FOR_A_MOMENT_S)
            is_writable = await self._in_postgres("ALTER SYSTEM RESET default_transaction_read_only", _RELOAD)

    async def _let_supplier_refuse(self, *_: object) -> bool:
        try:
            await self.stage.site.supplier.post("refuse", {"for_s": _FOR_A_MOMENT_S})
        except ConnectionError:
            return False  # it refuses already, us too
        self._later.append(asyncio.create_task(self._until_supplier_listens()))
        return True

    async def _until_supplier_listens(self) -> None:
        listens = False
        while not listens:
            await asyncio.sleep(_FOR_A_MOMENT_S)
            with suppress(ConnectionError):
                listens = bool(await self.stage.site.supplier.get("state"))
