"""POST /partners/orders keeps the draft contract: what it answers, and what it refuses."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from app.sandbox.orders import Refused, read_order
from app.values.activation_code import ActivationCode
from app.values.iccid import Iccid
from tests.sandbox.running import HEADERS, Sandbox, an_order
from tests.stand_in.contract import draft_contract


async def test_a_good_order_is_answered_by_the_contract_and_in_full(sandbox: Sandbox) -> None:
    reply = await sandbox.order("order-123")
    assert (reply.status, reply.headers["Content-Type"].partition(";")[0]) == (200, "application/json")
    assert draft_contract().answer_breaches(reply.json()) == []
    data = reply.json()["data"]
    assert set(data) == {"orderReference", "activationCode", "iccid", "qrCode", "instructions"}
    assert data["orderReference"] == "order-123"
    assert data["qrCode"] == data["activationCode"]


async def test_what_is_issued_is_well_formed_and_visibly_worthless(sandbox: Sandbox) -> None:
    data = await sandbox.bought()
    code = ActivationCode.read(data["activationCode"])
    assert code.is_strict_sgp22
    assert code.smdp_address == "SANDBOX.TRIBI.INVALID"  # resolves nowhere (RFC 2606)
    assert Iccid.read(data["iccid"]).is_strict_e118
    assert data["iccid"].startswith("89999")  # no country's
    assert data["instructions"].startswith("TEST")


async def test_the_same_order_and_plan_is_the_same_esim_after_a_restart_too(sandbox: Sandbox) -> None:
    first = await sandbox.bought("order-7", "CY-1")
    await sandbox.call("POST", "/sandbox/forget")
    assert await sandbox.bought("order-7", "CY-1") == first
    others = [await sandbox.bought("order-8", "CY-1"), await sandbox.bought("order-9", "CY-2")]
    await sandbox.call("POST", "/sandbox/forget")
    other_plan = await sandbox.bought("order-7", "CY-2")
    for name in ("activationCode", "iccid"):
        assert len({data[name] for data in (first, other_plan, *others)}) == 4


WRONG: dict[str, Any] = {
    "an array": [an_order()],
    "nothing": {},
    "no partner": an_order(partnerId=""),
    "another reference": an_order("123"),
    "a reference from nought": an_order("order-0"),
    "a reference with a line break": an_order("order-1\n"),
    "no plan": an_order(plan_code=""),
    "a plan that is a number": an_order(planCode=636),
    "a country in small letters": an_order(countryIso2="es"),
    "a country of three letters": an_order(countryIso2="ESP"),
    "two": an_order(quantity=2),
    "none": an_order(quantity=0),
    "one in words": an_order(quantity="1"),
    "true": an_order(quantity=True),
    "one and a bit": an_order(quantity=1.5),
    "no e-mail address": an_order(customer={"email": "user", "name": "Test User"}),
    "no name": an_order(customer={"email": "user@example.com"}),
    "a customer who tells more": an_order(customer={"email": "user@example.com", "name": "T", "phone": "1"}),
    "an order number in words": an_order(metadata={"order_id": "123", "plan_name": "Spain 5GB"}),
    "order number nought": an_order(metadata={"order_id": 0, "plan_name": "Spain 5GB"}),
    "no plan name": an_order(metadata={"order_id": 123, "plan_name": ""}),
    "a field that nobody knows": an_order(note="hello"),
    "our names for their fields": an_order(partner_id="partner-1"),
    **{f"without {name}": {key: value for key, value in an_order().items() if key != name} for name in an_order()},
}


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG.keys())
async def test_what_breaks_the_contract_is_refused_and_nothing_is_issued(sandbox: Sandbox, body: object) -> None:
    reply = await sandbox.post("/partners/orders", body, HEADERS)
    assert (reply.status, reply.json()["error"]["code"]) == (422, "invalid_order")
    assert (await sandbox.ledger())["esims"] == 0


def test_a_refusal_names_the_fields_and_repeats_no_value() -> None:
    order = an_order(quantity=2, customer={"email": "zoe.example.com", "name": 5}, countryIso2="zoe-land")
    with pytest.raises(Refused) as caught:
        read_order(CIMultiDict(HEADERS), json.dumps(order).encode())
    assert {mistake.partition(":")[0] for mistake in str(caught.value).split("; ")} == {
        *("quantity", "customer.email", "customer.name", "countryIso2"),
    }
    assert "zoe" not in str(caught.value)


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        pytest.param({"x-api-key": ""}, None, 401, "missing_key", id="no-key"),
        pytest.param({"x-api-key": "wrong-key"}, None, 401, "wrong_key", id="wrong-key"),
        pytest.param({"Content-Type": "text/plain"}, None, 415, "not_json", id="text"),
        pytest.param({"Content-Type": "application/x-www-form-urlencoded"}, None, 415, "not_json", id="form"),
        pytest.param({}, b"", 400, "not_json", id="empty"),
        pytest.param({}, b"{", 400, "not_json", id="half"),
        pytest.param({}, b'{"quantity": 1, "quantity": 1}', 400, "not_json", id="twice"),
        pytest.param({}, b'{"quantity": NaN}', 400, "not_json", id="nan"),
        pytest.param({}, b'{"quantity": "\xff"}', 400, "not_json", id="no-utf-8"),
        pytest.param({}, b"\xef\xbb\xbf{}", 400, "not_json", id="byte-order-mark"),
        pytest.param({}, b"[" * 50_000, 400, "not_json", id="deep"),
        pytest.param({}, b" " * 70_000, 413, "request_entity_too_large", id="large"),
    ],
)
async def test_what_is_no_order_at_all_is_refused(
    sandbox: Sandbox, headers: dict[str, str], body: bytes | None, status: int, code: str
) -> None:
    data = json.dumps(an_order()).encode() if body is None else body
    reply = await sandbox.post("/partners/orders", data, HEADERS | headers)
    assert (reply.status, reply.json()["error"]["code"]) == (status, code)
    assert (await sandbox.ledger())["esims"] == 0


async def test_the_content_type_may_name_its_charset(sandbox: Sandbox) -> None:
    headers = HEADERS | {"Content-Type": "Application/JSON; charset=utf-8"}
    assert (await sandbox.post("/partners/orders", an_order(), headers)).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/partners/orders", 405), ("PUT", "/partners/orders", 405), ("POST", "/orders", 404), ("POST", "/", 405)],
)
async def test_other_methods_and_addresses_are_refused_in_the_same_form(
    sandbox: Sandbox, method: str, path: str, status: int
) -> None:
    reply = await sandbox.call(method, path)
    assert (reply.status, set(reply.json()["error"])) == (status, {"code", "message"})
    assert ("Allow" in reply.headers) is (status == 405)


_anything: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        0,
        1,
        2,
        -1,
        10**30,
        1.5,
        "",
        " ",
        "1",
        "order-1",
        "order-00",
        "ES",
        "ÄÖ",
        "E",
        "a@b",
        "@",
        [],
        {},
        [1],
    ]
)
_fields = st.fixed_dictionaries({name: st.just(value) | _anything for name, value in an_order().items()})
_parts = st.fixed_dictionaries(
    {},
    optional={
        "customer": st.fixed_dictionaries({}, optional=dict.fromkeys(("email", "name", "age"), _anything)),
        "metadata": st.fixed_dictionaries({}, optional=dict.fromkeys(("order_id", "plan_name", "more"), _anything)),
        "more": _anything,
    },
)


@hypothesis_settings(max_examples=1000, deadline=None, derandomize=True)
@given(order=_fields, part=_parts, without=st.sets(st.sampled_from(sorted(an_order())), max_size=1))
def test_the_sandbox_and_the_contract_agree_on_every_order(
    order: dict[str, Any], part: dict[str, Any], without: set[str]
) -> None:
    sent = {name: value for name, value in (order | part).items() if name not in without}
    body = json.dumps(sent).encode()
    _, breaches = draft_contract().order({name.lower(): value for name, value in HEADERS.items()}, body)
    try:
        read_order(CIMultiDict(HEADERS), body)
        refused = ""
    except Refused as error:
        refused = str(error)
    # The contract's own check of an address is an "@" somewhere.
    assert bool(refused) == bool(breaches) or "customer.email" in refused
