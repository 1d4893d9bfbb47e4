"""Plan codes that make the sandbox misbehave. One table: `tribi sandbox --help`, the sandbox's page and docs/sandbox.md list it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

PREFIX: Final = "SANDBOX-"
ONCE: Final = "-ONCE"
"""Behind any of them: only the first request of an order reference meets it."""

LONGEST_SILENCE_S: Final = 3600
"""How long SILENT keeps a connection that nobody closes."""


class Repeats(StrEnum):
    """What a second order under one reference does. The draft contract leaves it open, so all three can be tried."""

    BILL = "bill"
    REPLAY = "replay"
    REFUSE = "refuse"


class Reply(StrEnum):
    """What comes back."""

    ESIM = "the eSIM"
    UNUSABLE = "an answer without a usable eSIM"
    ERROR = "an error"
    NOTHING = "nothing: the connection is closed"
    SILENCE = "nothing: the connection stays open"
    HALF = "half an answer, then the connection is closed"
    HTML = "a page instead of JSON"


@dataclass(frozen=True, slots=True)
class Argument:
    """A number that may follow the name."""

    of: str
    default: int
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Behaviour:
    """`is_issued`: an eSIM is issued and billed, whatever is heard of it."""

    name: str
    does: str
    is_issued: bool
    reply: Reply
    status: int = 200
    code: str = ""
    argument: Argument | None = None

    @property
    def usage(self) -> str:
        """As it is written: `SANDBOX-SLOW[-seconds]`."""
        return f"{PREFIX}{self.name}" + (f"[-{self.argument.of}]" if self.argument else "")


@dataclass(frozen=True, slots=True)
class Forced:
    """A behaviour as a plan code asks for it."""

    behaviour: Behaviour
    argument: int
    is_once: bool = False


def _refusal(name: str, status: int, code: str, does: str) -> Behaviour:
    return Behaviour(name, f"HTTP {status}: {does}", False, Reply.ERROR, status, code)


_ERROR_STATUS = Argument("status", 500, 500, 599)
_SECONDS = Argument("seconds", 10, 0, 24 * 3600)

WELL: Final = Behaviour("", "the eSIM", True, Reply.ESIM)
"""What every other plan code meets."""

TABLE: Final[dict[str, Behaviour]] = {
    behaviour.name: behaviour
    for behaviour in (
        _refusal("REFUSED", 422, "order_refused", "their own no"),
        _refusal("UNKNOWN-PLAN", 404, "unknown_plan", "no such planCode"),
        _refusal("OUT-OF-STOCK", 422, "out_of_stock", "the plan is sold out"),
        _refusal("CREDIT-LIMIT", 402, "credit_limit_reached", "no credit left"),
        _refusal("NO-CARD", 402, "no_card_registered", "nothing to pay with"),
        _refusal("WRONG-KEY", 401, "wrong_key", "key not known"),
        _refusal("FORBIDDEN", 403, "forbidden", "may not order"),
        Behaviour(
            "RATE-LIMITED",
            "HTTP 429 with Retry-After: 10, or as you say",
            False,
            Reply.ERROR,
            429,
            "rate_limited",
            argument=_SECONDS,
        ),
        _refusal("RATE-LIMITED-BARE", 429, "rate_limited", "without Retry-After"),
        _refusal("CONFLICT", 409, "conflict", "says nothing clear"),
        Behaviour("ERROR", "HTTP 500, or up to 599; nothing is issued", False, Reply.ERROR, argument=_ERROR_STATUS),
        Behaviour(
            "ERROR-ISSUED", "HTTP 500, or up to 599, though one is issued", True, Reply.ERROR, argument=_ERROR_STATUS
        ),
        Behaviour(
            "SLOW",
            "the eSIM, after 5 seconds, or as you say",
            True,
            Reply.ESIM,
            argument=Argument("seconds", 5, 0, LONGEST_SILENCE_S),
        ),
        Behaviour("SILENT", "issued, and no answer ever comes", True, Reply.SILENCE),
        Behaviour("LOST-ANSWER", "issued, then they hang up without a word", True, Reply.NOTHING),
        Behaviour("LOST-ORDER", "they hang up without a word; nothing is issued", False, Reply.NOTHING),
        Behaviour("HALF-ANSWER", "issued; the answer breaks off in its middle", True, Reply.HALF),
        Behaviour("GARBAGE", "issued; HTTP 200 with a page of HTML", True, Reply.HTML),
        Behaviour("NO-CODE", "billed; HTTP 200 without an activation code", True, Reply.UNUSABLE),
        Behaviour("OTHER-ORDER", "issued; the answer names another order", True, Reply.UNUSABLE),
        Behaviour("ODD", "an eSIM whose code and ICCID break the rules", True, Reply.ESIM),
        Behaviour("MINIMAL", "an eSIM without ICCID, QR code and instructions", True, Reply.ESIM),
        Behaviour("CONFIRMATION", "an eSIM whose code asks for a confirmation code", True, Reply.ESIM),
        Behaviour("CREATED", "the eSIM, by HTTP 201 instead of 200", True, Reply.ESIM, 201),
    )
}


class NoSuchBehaviour(ValueError):
    """A plan code begins with SANDBOX- and goes on with nothing that the sandbox knows."""


def forced_by(plan_code: str) -> Forced | None:
    """
    What a plan code asks for; None where it is an ordinary one. Capitals or not is all the same.

    Raises:
        NoSuchBehaviour: a misspelt one may not pass for an ordinary one.
    """
    code = plan_code.upper()
    if not code.startswith(PREFIX):
        return None
    name = code.removeprefix(PREFIX).removesuffix(ONCE)
    is_once = code.endswith(ONCE)
    if name in TABLE:
        behaviour = TABLE[name]
        return Forced(behaviour, behaviour.argument.default if behaviour.argument else 0, is_once)
    name, _, number = name.rpartition("-")
    argument = TABLE[name].argument if name in TABLE else None
    if argument is None or not (number.isascii() and number.isdigit() and len(number) <= 5):
        raise NoSuchBehaviour(f"There is no {PREFIX}… plan code like this; GET /sandbox/behaviours lists them.")
    if not argument.least <= int(number) <= argument.most:
        raise NoSuchBehaviour(f"{argument.of} must be {argument.least} to {argument.most}.")
    return Forced(TABLE[name], int(number), is_once)
