"""What ConnectedYou's draft contract expects, and what has to be asked at onboarding (docs/providers/connected_you.md)."""

import json
from importlib.metadata import version

from app.services.esim_providers.contract import PreparedOrder
from app.services.esim_providers.going_live import AnswerField, GoingLive, OpenQuestion, ShownRequest
from app.values.activation_code import ActivationCode, UnusableActivationCode

_MASKED = "********"


def shown(order: PreparedOrder) -> ShownRequest:
    """As `wire.py` sends it; a test compares the two."""
    return ShownRequest(
        "POST",
        f"{order.base_url}/partners/orders",
        {
            "x-api-key": _MASKED,
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Connection": "close",
            "User-Agent": f"Tribi/{version('tribi')}",
        },
        json.dumps(json.loads(order.body), ensure_ascii=False, indent=2),
    )


def _is_reference(value: object, reference: str) -> bool:
    return value == reference


def _is_activation_code(value: object, _: str) -> bool:
    try:
        return isinstance(value, str) and not ActivationCode.read(value).warnings
    except UnusableActivationCode:
        return False


def _is_iccid(value: object, _: str) -> bool:
    return isinstance(value, str) and value.isascii() and value.isdigit() and 18 <= len(value) <= 20


def _is_text(value: object, _: str) -> bool:
    return isinstance(value, str) and bool(value.strip())


SHEET = GoingLive(
    needs=("connected_you_partner_id",),
    needs_when_live=("connected_you_api_key",),
    base_url_setting="CONNECTED_YOU_BASE_URL",
    live_switch="CONNECTED_YOU_DRY_RUN=false",
    replay_switch="CONNECTED_YOU_UNKNOWN_OUTCOME=replay",
    answer_statuses=frozenset({200, 201}),
    answer=(
        AnswerField("data.orderReference", "{reference}", _is_reference, is_required=True),
        AnswerField(
            "data.activationCode",
            "LPA:1$, SM-DP+ address, $, matching ID (SGP.22 section 4.1)",
            _is_activation_code,
            is_required=True,
            is_secret=True,
        ),
        AnswerField("data.iccid", "18 to 20 digits", _is_iccid, is_secret=True),
        AnswerField("data.qrCode", "the text that the QR shall encode", _is_text, is_secret=True),
        AnswerField("data.instructions", "a text", _is_text, is_secret=True),
    ),
    shown=shown,
    open_questions=(
        OpenQuestion(
            "credentials",
            "Is it one API key, or a client id and secret with a token endpoint, and how long does a token live?",
            "the headers in connected_you/wire.py",
        ),
        OpenQuestion(
            "sandbox",
            "Is there a sandbox or a test product, and at which address?",
            "CONNECTED_YOU_BASE_URL",
        ),
        OpenQuestion(
            "reference",
            "Is our orderReference unique with them and can an order be looked up by it; what does a repeated one do?",
            "CONNECTED_YOU_UNKNOWN_OUTCOME (replay only if a repeat is not billed); the capabilities in connected_you/client.py",
        ),
        OpenQuestion(
            "partial-fulfilment",
            "How does an order look of which nothing was fulfilled, or not all?",
            "read_delivered in connected_you/payloads.py",
        ),
        OpenQuestion(
            "lpa-string",
            "In which field does the whole LPA string stand?",
            "read_delivered in connected_you/payloads.py",
        ),
        OpenQuestion(
            "error-codes",
            "Which statuses and codes stand for credit limit, unknown product, out of stock?",
            "the table of answers in docs/providers/connected_you.md, and the code that it describes",
        ),
        OpenQuestion(
            "rate-limits",
            "How many orders a second and at once do they take; does 429 come with Retry-After?",
            "PROVIDER_MAX_CONCURRENCY",
        ),
        OpenQuestion(
            "after-sales",
            "Are there calls for a top-up, for the data used, for the refund of an unused eSIM?",
            "docs/providers/connected_you.md; nothing of it is built",
        ),
        OpenQuestion(
            "webhooks",
            "Are webhooks sent again when we were away, and from which addresses?",
            "your reverse proxy's list of senders; docs/providers/connected_you.md (what to do after an outage)",
        ),
        OpenQuestion(
            "their-mails",
            "Do they e-mail the traveller themselves?",
            "the customer's address in connected_you/payloads.py: if they do, the traveller gets two",
        ),
        OpenQuestion(
            "catalogue",
            "In which currency are their prices, and how are changes of price and plan announced?",
            "connected_you_plan_code and connected_you_cost_minor of the catalogue's file",
        ),
    ),
)
