"""How a supplier's orders and answers are spelled. All else about a stand-in, ledger and faults, is the same for every supplier."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.stand_in.contract import ORDER_PATH, draft_contract
from tests.stand_in.issuing import Issued


@dataclass(frozen=True)
class Dialect:
    """
    Attributes:
        path: orders are posted there.
        key: out of a request's headers (names in lower case), what the caller says to be who he is; "" for nobody.
        order: out of headers and body, the order as `orderReference`, `planCode` and `customer` (None unless it keeps the
            contract), and a sentence for each breach.
        answer: the body of a good answer.
    """

    path: str
    key: Callable[[Mapping[str, str]], str]
    order: Callable[[Mapping[str, str], bytes], tuple[dict[str, Any] | None, list[str]]]
    answer: Callable[[Issued], dict[str, Any]]


CONNECTED_YOU = Dialect(
    path=ORDER_PATH,
    key=lambda headers: headers.get("x-api-key", ""),
    order=lambda headers, body: draft_contract().order(headers, body),
    answer=Issued.answer,
)
