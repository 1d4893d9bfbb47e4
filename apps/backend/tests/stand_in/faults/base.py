"""What a fault is: one row of the table, with what it does, what the client sees, and whether an eSIM was issued."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from tests.stand_in.wire import Body, Headers, encode_body, frame, header_pairs

if TYPE_CHECKING:
    from tests.stand_in.exchange import Exchange

Act = Callable[["Exchange"], Awaitable[None]]


class Seen(StrEnum):
    """What reaches the client, told apart by bytes alone."""

    ANSWER = "a complete, well-framed answer"
    BROKEN = "bytes that are no well-framed answer, or one with bytes behind it; then the connection ends"
    CLOSED = "a FIN without a byte"
    RESET = "a RST without a byte"
    SILENCE = "nothing, and the connection stays open"
    STALLED = "some bytes, then nothing, and the connection stays open"
    ENDLESS = "bytes without end"


class Moment(StrEnum):
    """
    When a fault strikes. Only a scripted one can strike before the body is read: plan code and schedule are known
    by the body. Chosen by those, an early fault strikes right after the body; the client can't tell.
    """

    ACCEPT = "as the connection is accepted"
    HEAD = "when the request's head has been read"
    BODY = "when the request's body has been read"


@dataclass(frozen=True)
class Fault:
    """
    One way to misbehave.

    Attributes:
        issues: an eSIM exists, and is on the ledger, by the time the client sees anything.
        issues_itself: `act` decides when to issue; else the server issues before it calls `act`.
        status: of the answer where `seen` is ANSWER.
        code_of: what the issued code becomes. It is the changed one that is on the ledger, because that is the
            code the supplier sold.
        arg: what stood behind the name ("slow_after-2.5"); its meaning is the row's.
    """

    name: str
    says: str
    act: Act
    issues: bool
    seen: Seen
    status: int | None = None
    moment: Moment = Moment.BODY
    code_of: Callable[[str], str] | None = None
    issues_itself: bool = False
    arg: str = ""

    def with_arg(self, arg: str) -> Fault:
        return dataclasses.replace(self, arg=arg) if arg else self


def both(name: str, says: str, act: Act, seen: Seen, status: int | None = None) -> tuple[Fault, Fault]:
    """The same misbehaviour before and after an eSIM was issued: `<name>_before` and `<name>_after`."""
    return (
        Fault(f"{name}_before", f"{says}; nothing was issued", act, issues=False, seen=seen, status=status),
        Fault(f"{name}_after", f"{says}; an eSIM was issued", act, issues=True, seen=seen, status=status),
    )


def respond(
    status: int = 200,
    body: Body | Callable[[dict[str, Any]], Body] = None,
    headers: Headers = (),
    *,
    issue: bool = False,
    raw: bytes | None = None,
) -> Fault:
    """
    Any answer, for one test: `stand_in.script(respond(418, "short and stout"))`.

    Args:
        body: bytes, text, something to encode as JSON, or a function that makes it from the order received.
        issue: an eSIM is issued first.
        raw: these bytes instead of a framed answer; the connection then ends.
    """
    pairs = header_pairs(headers)

    async def act(exchange: Exchange) -> None:
        if raw is not None:
            exchange.connection.write(raw)
            await exchange.connection.finish()
        else:
            made = body(exchange.order) if callable(body) else body
            await exchange.connection.send(frame(status, encode_body(made), pairs))

    seen = Seen.BROKEN if raw is not None else Seen.ANSWER
    return Fault("respond", f"answers {status} as the test says", act, issues=issue, seen=seen, status=status)


def sending(make: Callable[[Exchange], bytes]) -> Act:
    """An act that sends a framed answer and keeps the connection."""

    async def act(exchange: Exchange) -> None:
        await exchange.connection.send(make(exchange))

    return act


def breaking(make: Callable[[Exchange], bytes]) -> Act:
    """An act that sends bytes and then ends the connection with a FIN."""

    async def act(exchange: Exchange) -> None:
        exchange.connection.write(make(exchange))
        await exchange.connection.finish()

    return act
