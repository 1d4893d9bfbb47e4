"""ConnectedYou's three published webhook events, as their public pages describe them (docs/providers/connected_you.md)."""

import hashlib
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.sandbox.ledger import Entry, Ledger
from app.sandbox.orders import Refused

EVENT_TYPES = ("USAGE_ALERT", "PROFILE_LIFECYCLE", "PRODUCT_STATUS_CHANGE")
PROFILE_STATES = ("DOWNLOADED", "INSTALLED", "ENABLED", "DISABLED", "DELETED")
PRODUCT_STATES = ("ACTIVATED", "TERMINATED")

_MB_IN_A_GB = 1024
_DEFAULT_MB = 1024.0
_GIGABYTES = re.compile(r"([0-9]{1,4})\s?GB", re.IGNORECASE)


class Wish(BaseModel):
    """An event that somebody wants sent. What is left out is filled in."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    event_type: Literal["USAGE_ALERT", "PROFILE_LIFECYCLE", "PRODUCT_STATUS_CHANGE"]
    iccid: Annotated[str, Field(pattern="^[0-9]{18,20}$")] | None = None
    """May be one that the sandbox never issued: an event may name an eSIM that isn't known."""
    order_reference: str | None = None
    """In place of the ICCID: the newest eSIM of this order."""
    status: Literal["DOWNLOADED", "INSTALLED", "ENABLED", "DISABLED", "DELETED"] = "INSTALLED"
    product_status: Literal["ACTIVATED", "TERMINATED"] = "ACTIVATED"
    percentage_consumed: Annotated[float, Field(ge=0, le=100)] = 51.27
    data_total: Annotated[float, Field(gt=0)] | None = None
    """MB; without it, what the plan's code or name says."""
    event_timestamp: str | None = None
    """Sent as it is, so that events can come late, or in the wrong order."""
    times: Annotated[int, Field(ge=1, le=10)] = 1
    """Their webhooks may come twice."""
    url: str | None = None
    secret: str | None = None
    """In place of the sandbox's own; empty: the header is left out."""


def read_wish(value: object) -> Wish:
    """
    Raises:
        Refused: with what is wrong about each field.
    """
    try:
        return Wish.model_validate(value)
    except ValidationError as error:
        mistakes = error.errors(include_url=False, include_input=False, include_context=False)
        told = "; ".join(
            f"{'.'.join(map(str, mistake['loc'])) or 'the body'}: {mistake['msg']}" for mistake in mistakes
        )
        raise Refused(422, "invalid_event", told) from None


def event_of(wish: Wish, ledger: Ledger) -> dict[str, Any]:
    """
    The body of the webhook.

    Raises:
        Refused: neither ICCID nor order reference is given, or the order has no eSIM.
    """
    iccid, bought = _subject(wish, ledger)
    event: dict[str, Any] = {
        "event_type": wish.event_type,
        "iccid": iccid,
        "event_timestamp": wish.event_timestamp
        or datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    }
    if wish.event_type == "USAGE_ALERT":
        total = wish.data_total or _megabytes(bought)
        used = round(total * wish.percentage_consumed / 100, 2)
        event |= {"data_consumed": used, "data_total": total, "percentage_consumed": wish.percentage_consumed}
    elif wish.event_type == "PROFILE_LIFECYCLE":
        event |= {"eid": eid_of(iccid), "status": wish.status}
    else:
        name, code = (bought.plan_name, bought.plan_code) if bought else (None, None)
        event |= {
            "product_status": wish.product_status,
            "product_name": name or "A product of the sandbox",
            "product_id": code or "636",
        }
    return event


def eid_of(iccid: str) -> str:
    """The made-up handset of an eSIM: 32 digits, the last two of them check digits (GSMA SGP.29)."""
    head = f"89999{int.from_bytes(hashlib.sha256(iccid.encode()).digest()[:12], 'big') % 10**25:025d}"
    return f"{head}{98 - int(head) * 100 % 97:02d}"


def _subject(wish: Wish, ledger: Ledger) -> tuple[str, Entry | None]:
    if wish.iccid is not None:
        return wish.iccid, ledger.holder_of(wish.iccid)
    if wish.order_reference is None:
        raise Refused(422, "invalid_event", "Name an iccid or an order_reference.")
    for entry in reversed(ledger.of(wish.order_reference)):
        if entry.is_billed and entry.esim is not None:
            return entry.esim.iccid, entry
    raise Refused(404, "no_esim", "No eSIM was issued for this order reference.")


def _megabytes(bought: Entry | None) -> float:
    for text in (bought.plan_code, bought.plan_name) if bought else ():
        if found := _GIGABYTES.search(text or ""):
            return float(int(found[1]) * _MB_IN_A_GB) or _DEFAULT_MB
    return _DEFAULT_MB
