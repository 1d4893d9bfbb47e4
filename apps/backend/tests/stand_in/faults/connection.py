"""Faults of the connection and of time: closed, reset, silent, slow, held."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.stand_in.faults.base import Act, Fault, Moment, Seen, both
from tests.stand_in.wire import frame

if TYPE_CHECKING:
    from tests.stand_in.exchange import Exchange

DEFAULT_WAIT_S = 5.0
DEFAULT_DRIP_S = 1.0


async def _none(exchange: Exchange) -> None:
    await exchange.answer_well()


async def _close(exchange: Exchange) -> None:
    await exchange.connection.finish()


async def _reset(exchange: Exchange) -> None:
    exchange.connection.reset()


async def _hang(exchange: Exchange) -> None:
    await exchange.hang()


async def _reset_mid_body(exchange: Exchange) -> None:
    data = exchange.good_frame()
    await exchange.connection.send(data[: len(data) - 40])
    # A RST overtakes bytes that the client hasn't read yet; it may see either.
    exchange.connection.reset()


async def _hold(exchange: Exchange) -> None:
    await exchange.perform(await exchange.held() or exchange.fault.arg or "none")


async def _slow(exchange: Exchange) -> None:
    await asyncio.sleep(exchange.number_arg(DEFAULT_WAIT_S))
    await exchange.answer_well()


async def _stall(exchange: Exchange) -> None:
    data = exchange.good_frame()
    await exchange.connection.send(data[: len(data) - 40])
    await exchange.hang()


async def _stall_head(exchange: Exchange) -> None:
    await exchange.connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: applic")
    await exchange.hang()


async def _drip(exchange: Exchange, data: bytes) -> None:
    pause_s = exchange.number_arg(DEFAULT_DRIP_S)
    for place in range(len(data)):
        await exchange.connection.send(data[place : place + 1])
        await asyncio.sleep(pause_s)


async def _drip_good(exchange: Exchange) -> None:
    await _drip(exchange, exchange.good_frame())


def _drip_for_ever(head: bytes, unit: bytes) -> Act:
    async def act(exchange: Exchange) -> None:
        await exchange.connection.send(head)
        while exchange.connection.is_open:
            await _drip(exchange, unit)

    return act


_ENDLESS_BODY = frame(200, None, {"Content-Length": "1000000", "Content-Type": "application/json"})

FAULTS = (
    Fault("none", "behaves", _none, issues=True, seen=Seen.ANSWER, status=200),
    Fault("close_on_accept", "closes as it accepts", _close, issues=False, seen=Seen.CLOSED, moment=Moment.ACCEPT),
    Fault("reset_on_accept", "resets as it accepts", _reset, issues=False, seen=Seen.RESET, moment=Moment.ACCEPT),
    Fault("hang_on_accept", "accepts, reads nothing", _hang, issues=False, seen=Seen.SILENCE, moment=Moment.ACCEPT),
    Fault("close_on_head", "closes after the head", _close, issues=False, seen=Seen.CLOSED, moment=Moment.HEAD),
    Fault("reset_on_head", "resets after the head", _reset, issues=False, seen=Seen.RESET, moment=Moment.HEAD),
    Fault("hang_on_head", "hangs after the head", _hang, issues=False, seen=Seen.SILENCE, moment=Moment.HEAD),
    *both("close", "closes without an answer", _close, Seen.CLOSED),
    *both("reset", "resets without an answer", _reset, Seen.RESET),
    *both("hang", "never answers", _hang, Seen.SILENCE),
    Fault("reset_mid_body", "resets in the middle of a good answer", _reset_mid_body, issues=True, seen=Seen.BROKEN),
    Fault(
        "hold_before",
        "waits until the test releases it, then does `arg` (default: issues and answers)",
        _hold,
        issues=False,
        seen=Seen.SILENCE,
        issues_itself=True,
    ),
    Fault(
        "hold_after",
        "issues, waits until the test releases it, then does `arg` (default: answers)",
        _hold,
        issues=True,
        seen=Seen.SILENCE,
    ),
    Fault(
        "slow_before",
        f"waits `arg` seconds ({DEFAULT_WAIT_S}), then issues and answers well",
        _slow,
        issues=True,
        seen=Seen.ANSWER,
        status=200,
        issues_itself=True,
    ),
    Fault(
        "slow_after",
        f"issues, waits `arg` seconds ({DEFAULT_WAIT_S}), then answers well",
        _slow,
        issues=True,
        seen=Seen.ANSWER,
        status=200,
    ),
    Fault("stall_head", "sends half a head, then hangs", _stall_head, issues=True, seen=Seen.STALLED),
    Fault("stall_body", "sends a good answer but its end, then hangs", _stall, issues=True, seen=Seen.STALLED),
    Fault(
        "drip_good",
        f"a good answer, one byte per `arg` seconds ({DEFAULT_DRIP_S})",
        _drip_good,
        issues=True,
        seen=Seen.ANSWER,
        status=200,
    ),
    *both(
        "drip_head",
        f"one byte of header per `arg` seconds ({DEFAULT_DRIP_S}) for ever",
        _drip_for_ever(b"HTTP/1.1 200 OK\r\n", b"X-Wait: 1\r\n"),
        Seen.ENDLESS,
    ),
    *both(
        "drip_body",
        f"one byte of body per `arg` seconds ({DEFAULT_DRIP_S}) for ever",
        _drip_for_ever(_ENDLESS_BODY, b" "),
        Seen.ENDLESS,
    ),
)
