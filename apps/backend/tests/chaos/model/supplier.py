"""ConnectedYou as a function: what it may say to an order, and the ledger of what it has issued."""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from app.services.esim_providers import Answer, PreparedOrder, SupplierOutcomeUnknown, SupplierUnreachable
from app.services.esim_providers.statuses import Exchange
from tests.stand_in import Issued
from tests.stand_in.issuing import issue

RETRY_AFTER_S = 3_500


@dataclass(frozen=True, slots=True)
class Word:
    """
    One way to treat an order.

    Attributes:
        outcome: what the attempt comes to (design section 3), as in ATTEMPT_OUTCOMES.
        status: of the HTTP answer; None where none comes.
        issues: whether an eSIM is issued and billed.
    """

    name: str
    outcome: str
    status: int | None
    issues: bool = False
    retry_after_s: int | None = None

    def __repr__(self) -> str:
        return f"<{self.name}>"


WELL = Word("well", "delivered", 200, issues=True)
ODD = Word("odd", "delivered", 200, issues=True)
UNREACHABLE = Word("unreachable", "not_sent", None)
STOLEN_CODE = Word("stolen code", "unknown", 200, issues=True)
STOLEN_ICCID = Word("stolen ICCID", "unknown", 200, issues=True)
UNCLEAR = (
    Word("500 before issuing", "unknown", 500),
    Word("500 after issuing", "unknown", 500, issues=True),
    Word("lost before issuing", "unknown", None),
    Word("lost after issuing", "unknown", None, issues=True),
    Word("cut short", "unknown", 200, issues=True),
    Word("another order's reference", "unknown", 200, issues=True),
)
STOLEN = (STOLEN_CODE, STOLEN_ICCID)
WORDS = (
    WELL,
    ODD,
    Word("400", "refused", 400),
    Word("401", "refused", 401),
    Word("402", "refused", 402),
    Word("429", "held_off", 429),
    Word("429 with Retry-After", "held_off", 429, retry_after_s=RETRY_AFTER_S),
    *UNCLEAR,
    UNREACHABLE,
    *STOLEN,
)


@dataclass(frozen=True, slots=True)
class Heard:
    """What a process heard of its call."""

    word: Word
    code: str | None = None
    """The activation code in the answer."""
    body: bytes | None = None


@dataclass(eq=False)
class Held:
    """A call that waits for its answer."""

    reference: str
    answer: "asyncio.Future[Word]"
    issued: Issued | None
    heard: Heard | None = None

    @property
    def is_heard(self) -> bool:
        """Whether somebody waits for the answer: not so once their process has died."""
        return not self.answer.cancelled()


@dataclass
class Supplier:
    """A `Line`. It is told beforehand what to say to an order; without that all goes well."""

    is_live = True
    ledger: defaultdict[str, list[Issued]] = field(default_factory=lambda: defaultdict(list))
    received: Counter[str] = field(default_factory=Counter)
    held: list[Held] = field(default_factory=list)
    heard: dict[str, Heard] = field(default_factory=dict)
    """The last answer to each order."""
    dedupes: bool = False
    """It keeps its word: an order that comes again gets the eSIM that it got first."""
    stolen: Issued | None = None
    """Whose code, or ICCID, is given away once more by the words for that."""
    _next: dict[str, Word | None] = field(default_factory=dict)
    _issues_first: bool = False

    def will_say(self, reference: str, word: Word) -> None:
        self._next[reference] = word

    def will_hold(self, reference: str, *, issues_first: bool) -> None:
        """The answer to this order is kept back until it is released."""
        self._next[reference] = None
        self._issues_first = issues_first

    def forget(self, reference: str) -> None:
        """What was to be said to an order that wasn't sent."""
        self._next.pop(reference, None)

    def use_api_key(self, api_key: str) -> None:
        pass

    async def send(self, order: PreparedOrder, may_send: Callable[[], bool]) -> Exchange:
        word = self._next.pop(order.reference, WELL)
        if word is UNREACHABLE:
            self.heard[order.reference] = Heard(word)
            raise SupplierUnreachable("no connection")
        if not may_send():
            raise SupplierUnreachable("too much time has passed")
        self.received[order.reference] += 1
        if word is not None:
            return self._answer(order.reference, word, self._issue(order.reference, word) if word.issues else None)
        issued = self._issue(order.reference, WELL) if self._issues_first else None
        held = Held(order.reference, asyncio.get_running_loop().create_future(), issued)
        self.held.append(held)
        word = await held.answer
        return self._answer(order.reference, word, held.issued)

    def release(self, held: Held, word: Word) -> None:
        self.held.remove(held)
        if word.issues and held.issued is None:
            held.issued = self._issue(held.reference, word)
        if held.is_heard:
            held.answer.set_result(word)

    async def close(self) -> None:
        pass

    def _issue(self, reference: str, word: Word) -> Issued:
        lines = self.ledger[reference]
        if lines and self.dedupes:
            return lines[0]
        nth = len(lines) + 1
        lines.append(issue(reference, "CY-ES-5GB", nth, nth, _no_sgp22 if word is ODD else None))
        return lines[-1]

    def _answer(self, reference: str, word: Word, issued: Issued | None) -> Exchange:
        body = _body(word, issued, self.stolen)
        has_code = word.outcome == "delivered" or word in STOLEN
        code = json.loads(body)["data"]["activationCode"] if has_code else None
        self.heard[reference] = Heard(word, code, None if word.status is None else body)
        if word.status is None:
            raise SupplierOutcomeUnknown("the answer was lost")
        if word.name == "cut short":
            raise SupplierOutcomeUnknown("the answer was lost", answer=Answer(word.status, body))
        retry_after = None if word.retry_after_s is None else str(word.retry_after_s)
        return Exchange(Answer(word.status, body), retry_after)


def _no_sgp22(code: str) -> str:
    return code.replace("LPA:1$", "LPA:1$!")


def _body(word: Word, issued: Issued | None, stolen: Issued | None) -> bytes:
    if word.status != 200 or issued is None:
        return f"we say {word.status}".encode()
    answer = issued.answer()
    data = answer["data"]
    if word is ODD:  # an ICCID too short to be one, besides
        del data["orderReference"], data["qrCode"]
        data["iccid"] = issued.iccid[:-3]
    elif word is STOLEN_CODE and stolen is not None:
        data["activationCode"] = stolen.activation_code
    elif word is STOLEN_ICCID and stolen is not None:
        data["iccid"] = stolen.iccid
    elif word.name == "another order's reference":
        data["orderReference"] += "7"
    body = json.dumps(answer).encode()
    return body[: len(body) // 2] if word.name == "cut short" else body
