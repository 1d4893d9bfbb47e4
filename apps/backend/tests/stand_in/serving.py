"""One connection from its first byte to its last: requests are read, checked against the contract, and meet a fault."""

from __future__ import annotations

import asyncio
import contextlib
import time
from email.utils import formatdate
from typing import TYPE_CHECKING

from tests.stand_in import admin
from tests.stand_in.exchange import Exchange
from tests.stand_in.faults import Moment, UnknownFaultError
from tests.stand_in.wire import BadRequestError, Connection, Received, frame

if TYPE_CHECKING:
    from tests.stand_in.server import StandIn


async def serve(stand_in: StandIn, connection: Connection) -> None:
    """Raises ConnectionError or IncompleteReadError when the client leaves in the middle of something."""
    try:
        if early := stand_in.choice.early(Moment.ACCEPT):
            await _meet(Exchange(stand_in, connection, early))
        while connection.is_open:
            await _next_request(stand_in, connection)
    except BadRequestError as error:
        stand_in.violations.append(str(error))
        with contextlib.suppress(ConnectionError):
            await connection.send(frame(400, {"error": str(error)}, {"Connection": "close"}))
            await connection.finish()


async def _next_request(stand_in: StandIn, connection: Connection) -> None:
    try:
        async with asyncio.timeout(stand_in.close_idle_after_s):
            head = await connection.read_head()
    except TimeoutError:
        connection.close()
        return
    if head is None:
        connection.close()
        return
    method, path, version, headers = head
    connection.requests += 1
    if path.startswith(admin.PREFIX):
        if connection.requests == 1:  # a connection that controls the stand-in isn't one that the test counts
            stand_in.connections -= 1
        await admin.answer(stand_in, connection, method, path, await connection.read_body(headers))
    else:
        request = Received(0, connection.number, time.time(), method, path, version, headers)
        stand_in.remember(request)
        await _receive(stand_in, connection, request)
    if connection.is_open and _is_last(stand_in, version, headers.get("connection", "").lower()):
        await connection.finish()


def _is_last(stand_in: StandIn, version: str, said: str) -> bool:
    return bool(stand_in.close_after_answer) or said == "close" or (version == "HTTP/1.0" and said != "keep-alive")


async def _receive(stand_in: StandIn, connection: Connection, request: Received) -> None:
    try:
        if early := stand_in.choice.early(Moment.ACCEPT, Moment.HEAD):
            await _meet(Exchange(stand_in, connection, early, request))
            return
        request.body = await connection.read_body(request.headers)
        await _order(stand_in, connection, request)
        request.ended = connection.ending or "answered"
    except (ConnectionError, asyncio.IncompleteReadError):
        request.ended = "client left"
        raise
    finally:
        if request.ended == "open":
            request.ended = connection.ending or "cut short"
        stand_in.watch.changed()


async def _order(stand_in: StandIn, connection: Connection, request: Received) -> None:
    if request.method == "HEAD":  # no order, and no mistake: who wants to know the time
        dated = {"Date": formatdate(stand_in.now(), usegmt=True), **stand_in.closing_headers}
        await connection.send(frame(404, None, dated))
        return
    dialect = stand_in.dialect
    if (request.method, request.path) != ("POST", dialect.path):
        status = 405 if request.path == dialect.path else 404
        await _refuse(stand_in, connection, status, f"no such operation: {request.method} {request.path}")
        return
    order, breaches = dialect.order(request.headers, request.body)
    if order is not None:
        request.reference = order["orderReference"]
    stand_in.watch.changed()
    key = dialect.key(request.headers)
    if not key or (stand_in.api_key is not None and key != stand_in.api_key):
        await _refuse(stand_in, connection, 401, *breaches)
        return
    if order is None or breaches:
        await _refuse(stand_in, connection, 400, *breaches)
        return
    if stand_in.latency_s:
        await asyncio.sleep(stand_in.latency_s)
    try:
        fault = stand_in.choice.of_order(order["orderReference"], order["planCode"])
    except UnknownFaultError as error:
        await _refuse(stand_in, connection, 400, str(error))
        return
    await _meet(Exchange(stand_in, connection, fault, request, order))


async def _refuse(stand_in: StandIn, connection: Connection, status: int, *breaches: str) -> None:
    """No fault strikes a request that breaks the contract, and nothing scripted is used up by it."""
    stand_in.violations.extend(breaches)
    await connection.send(frame(status, {"error": "refused", "breaches": list(breaches)}, stand_in.closing_headers))


async def _meet(exchange: Exchange) -> None:
    exchange.stand_in.choice.counts[exchange.fault.name] += 1
    if exchange.request is not None:
        exchange.request.fault = exchange.fault.name
    await exchange.run()
