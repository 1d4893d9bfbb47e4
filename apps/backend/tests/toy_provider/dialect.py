"""The toy supplier's side of the wire, for the stand-in."""

from collections.abc import Mapping
from typing import Any

from tests.stand_in.contract import strict_json
from tests.stand_in.dialect import Dialect
from tests.stand_in.issuing import Issued

_MEMBERS = {"external_id", "product", "country", "traveller"}


def _order(headers: Mapping[str, str], body: bytes) -> tuple[dict[str, Any] | None, list[str]]:
    breaches = [] if headers.get("content-type") == "application/json" else ["content-type is not application/json"]
    try:
        order = strict_json(body)
    except ValueError as error:
        return None, [*breaches, f"the body is not JSON: {error}"]
    if not isinstance(order, dict) or set(order) != _MEMBERS:
        return None, [*breaches, f"an order has the members {sorted(_MEMBERS)}"]
    customer = {"email": order["traveller"]["mail"], "name": order["traveller"]["full_name"]}
    return {"orderReference": order["external_id"], "planCode": order["product"], "customer": customer}, breaches


def _answer(issued: Issued) -> dict[str, Any]:
    _, smdp, matching_id = issued.activation_code.split("$")
    return {"esim": {"external_id": issued.reference, "smdp": smdp, "matching_id": matching_id, "iccid": issued.iccid}}


TOY = Dialect(
    path="/v2/purchases",
    key=lambda headers: headers.get("authorization", "").removeprefix("Bearer "),
    order=_order,
    answer=_answer,
)
