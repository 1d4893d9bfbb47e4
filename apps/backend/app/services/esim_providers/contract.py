"""What every supplier of eSIM profiles must be, what it is asked and what it may answer.

Failures are named by what they left behind, because that decides what may happen next:

    EsimProvisioningError
    ├── SupplierNotConfigured    nothing was sent; an operator must act
    ├── SupplierUnreachable      nothing was sent; may be tried again
    ├── SupplierRateLimited      sent and surely not accepted; may be tried again, later
    ├── SupplierRefused          the supplier's own no: nothing was issued
    └── SupplierOutcomeUnknown   one may have been issued and billed: never sent again by itself
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar, Protocol, runtime_checkable

from app.errors import TribiError
from app.values.activation_code import ActivationCode
from app.values.iccid import Iccid

MAX_ANSWER_BYTES = 1024 * 1024
"""How much of a supplier's (decompressed) body is read and kept."""

MAX_QUOTED_CHARS = 4000
"""How many characters of a supplier's body an error's message quotes."""


@dataclass(frozen=True, slots=True)
class ProvisionRequest:
    """One order as the core knows it."""

    order_id: int
    reference: str
    """`order-<id>`, the same on every attempt for that order."""
    plan_code: str | None
    """The supplier's code for the plan, None where the catalogue has none."""
    plan_name: str
    country_iso2: str
    customer_email: str = field(repr=False)
    customer_name: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class PreparedOrder:
    """The exact order as it goes over the wire; kept on the attempt before anything is sent."""

    reference: str
    body: bytes = field(repr=False)
    base_url: str | None = None
    partner_id: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """The supplier's words."""

    status: int | None
    """HTTP status; None where no HTTP was spoken (LOCAL, dry run, a supplier that answers in something else)."""
    body: bytes = field(repr=False)
    """
    Decompressed where that was possible, at most MAX_ANSWER_BYTES. Of an answer that breaks off before its body, or isn't HTTP, all
    that came over the wire.
    """


@dataclass(frozen=True, slots=True)
class Delivered:
    """The eSIM is here. What is odd about it is flagged in `warnings`, never dropped: money was spent."""

    activation_code: ActivationCode
    answer: Answer
    provider_reference: str | None = None
    """The supplier's echo of our reference, or its own name for the order; None where it gave none."""
    iccid: Iccid | None = None
    qr_code: str | None = field(default=None, repr=False)
    """What the QR shall encode, as received; None for the activation code."""
    instructions: str | None = field(default=None, repr=False)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Accepted:
    """The supplier took the order and will deliver by event or poll."""

    answer: Answer
    provider_reference: str | None = None


class Dedupe(Enum):
    """What a supplier does with a reference that it has seen."""

    REPLAY = "replay"
    """It returns the first order: the only kind that may be sent again blindly."""
    REJECTS = "rejects"
    UNKNOWN = "unknown"


class Lookup(Enum):
    """How an order can be found at the supplier after a lost answer."""

    BY_OUR_REFERENCE = "by_our_reference"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a supplier can do. The core asks this sheet, never the supplier's name."""

    needs_plan_code: bool
    dedupe: Dedupe
    lookup: Lookup
    delivers_later: bool = False
    """May answer `Accepted`."""
    has_events: bool = False
    """Tells by webhook what becomes of its eSIMs (`events.py`)."""
    replay_window_s: float = 0
    """With `Dedupe.REPLAY`: how long after its attempt an order of unknown outcome may be sent again without being asked."""


class EsimProvider(Protocol):
    """A supplier of eSIM profiles."""

    name: ClassVar[str]
    """Stable name stored on each profile: "LOCAL", "CONNECTED_YOU"."""

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def is_live(self) -> bool:
        """Whether `provision` spends money."""

    @property
    def base_url(self) -> str | None:
        """Where orders go, None where no HTTP is spoken. With `partner_id` it names the account that an order was sent to."""

    @property
    def partner_id(self) -> str | None: ...

    def prepare(self, request: ProvisionRequest) -> PreparedOrder:
        """
        Puts an order into the supplier's words. Pure: talks to nobody.

        Raises:
            SupplierNotConfigured: a required setting or the plan's code is missing.
        """

    async def provision(self, order: PreparedOrder, *, may_send: Callable[[], bool]) -> Delivered | Accepted:
        """
        Orders one profile. It may cost money and isn't known to be repeatable: at most one request leaves.

        Args:
            order: from `prepare`, already on file.
            may_send: asked right before the first byte; False means that too much time has passed since the order was
                put on file, and nothing may be sent any more.

        Raises:
            SupplierUnreachable: nothing was sent.
            SupplierRateLimited: nothing was accepted.
            SupplierRefused: nothing was issued.
            SupplierOutcomeUnknown: one may have been issued; don't ask again, settle.
        """

    async def close(self) -> None:
        """Gives back connections."""


@runtime_checkable
class TakesCredential(Protocol):
    """A provider whose credential may change while orders go out: another one in its file is used without a new start."""

    credential_setting: ClassVar[str]
    """The setting that holds it; a secret."""

    def use_credential(self, credential: str) -> None:
        """From the next order on. The former one stays a secret: an answer may still repeat it."""


class EsimProvisioningError(TribiError):
    """Any failure of a supplier. `str()` holds its status and words (redacted, cut) for operators; the client gets none of them."""

    code = "provider-refused"
    title = "The provider refused the order"
    meaning = "The eSIM provider refused this order. Nothing was issued. The operator of this shop has been told."
    http_status = 502

    answer: Answer | None

    def __init__(
        self,
        message: str,
        *,
        answer: Answer | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.answer = answer


class SupplierNotConfigured(EsimProvisioningError):
    code = "provider-not-configured"
    title = "The provider is not configured"
    meaning = (
        "The shop's eSIM provider is not set up to take this order: a setting or the plan's provider code is missing. "
        "Nothing was sent. The order keeps; activate it again once the operator has completed the set-up."
    )


class SupplierUnreachable(EsimProvisioningError):
    code = "provider-unreachable"
    title = "The provider cannot be reached"
    meaning = (
        "No connection to the eSIM provider could be made. Nothing was sent; activate the order again in a moment."
    )
    retryable = True


class SupplierRateLimited(EsimProvisioningError):
    code = "provider-rate-limited"
    title = "The provider asks to wait"
    meaning = "The eSIM provider takes no more orders for now and accepted nothing. Activate the order again after `Retry-After`."
    retryable = True


class SupplierRefused(EsimProvisioningError):
    """`concerns_account`: the refusal is about our account (credentials, balance), not about this order: an operator's alarm."""

    concerns_account: bool

    def __init__(self, message: str, *, answer: Answer | None = None, concerns_account: bool = False) -> None:
        super().__init__(message, answer=answer)
        self.concerns_account = concerns_account


class SupplierOutcomeUnknown(EsimProvisioningError):
    code = "activation-outcome-unknown"
    title = "It is not known whether the eSIM was issued"
    meaning = (
        "The order was sent to the eSIM provider, but no clear answer came back: an eSIM may have been issued and billed. "
        "So that nothing is bought twice the order is not sent again; the operator finds out and settles it. "
        "Look at the eSIM again later; do not place a second order for it."
    )


def operators_message(said: str, answer: Answer | None, redacted: Callable[[str], str]) -> str:
    """
    What `str()` of a failure holds: what was said of it, then the supplier's status and body, both redacted and cut.

    Args:
        redacted: takes out what is secret or personal. It is called before the cut: half an ICCID looks like any number.
    """
    told = _cut(said, redacted)
    if answer is None:
        return told
    # JSON may be UTF-16 or UTF-32, in which no pattern would find a secret.
    body = answer.body.decode(json.detect_encoding(answer.body), "replace")
    spoken = "no HTTP" if answer.status is None else f"HTTP {answer.status}"
    return f"{told}: {spoken}: {_cut(body, redacted) or '(empty body)'}"


_UNPRINTABLE = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\r\n"}
"""No log or text column takes a NUL, no terminal shall obey the supplier."""


def _cut(text: str, redacted: Callable[[str], str]) -> str:
    """At most MAX_QUOTED_CHARS. Of a long text no more is redacted than is needed, as that takes its time."""
    looked_at = text[: 4 * MAX_QUOTED_CHARS].encode("utf-8", "replace").decode().translate(_UNPRINTABLE)
    shown = redacted(looked_at)
    if len(text) > len(looked_at):
        shown = shown[:-MAX_QUOTED_CHARS]  # a secret may have been cut through just there
    elif len(shown) <= MAX_QUOTED_CHARS:
        return shown
    return f"{shown[:MAX_QUOTED_CHARS]}… [cut]"
