"""An answer against the draft contract, field by field."""

import json
from typing import Any

import pytest
import yaml

from app.services.doctor.answer import SeenField, compare
from app.services.esim_providers import going_live
from tests.stand_in.contract import CONTRACT_FILE

SHEET = going_live("CONNECTED_YOU")
CODE = "LPA:1$RSP.EXAMPLE.COM$A1B2C3"
GOOD = {
    "orderReference": "order-7",
    "activationCode": CODE,
    "iccid": "8999900000000000003",
    "qrCode": CODE,
    "instructions": "Scan it.",
}


def seen(status: int | None = 200, body: Any = None, **changes: Any) -> dict[str, SeenField]:
    """By path. `changes`: of the good answer's data; None takes a field away."""
    data = {name: value for name, value in (GOOD | changes).items() if value is not None}
    fields = compare(SHEET, status, {"data": data} if body is None else body, "order-7")
    return {field.path: field for field in fields}


def result(field: SeenField) -> str:
    return field.finding("CONNECTED_YOU").result.value


def test_the_sheet_has_the_contracts_fields() -> None:
    data = yaml.safe_load(CONTRACT_FILE.read_text())["components"]["schemas"]["Provisioned"]["properties"]["data"]
    assert [field.path for field in SHEET.answer] == [f"data.{name}" for name in data["properties"]]
    assert {field.path for field in SHEET.answer if field.is_required} == {f"data.{name}" for name in data["required"]}


def test_a_good_answer_passes_in_every_field() -> None:
    found = seen()
    assert list(found) == ["status", *(f"data.{name}" for name in GOOD)]
    assert {field.verdict for field in found.values()} == {"as expected"}
    assert {result(field) for field in found.values()} == {"passed"}


@pytest.mark.parametrize("status", [202, 299, None])
def test_another_status_is_not_as_expected(status: int | None) -> None:
    field = seen(status)["status"]
    assert (field.expected, field.got, result(field)) == ("HTTP 200 or 201", str(status), "by hand")


def test_a_required_field_that_is_missing_fails() -> None:
    field = seen(orderReference=None)["data.orderReference"]
    assert (field.verdict, field.got, result(field)) == ("missing", "nothing", "failed")


@pytest.mark.parametrize("name", ["iccid", "qrCode", "instructions"])
def test_another_may_be_left_out(name: str) -> None:
    field = seen(**{name: None})[f"data.{name}"]
    assert (field.verdict, result(field)) == ("left out, which the contract allows", "passed")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("orderReference", "ORDER-7"),
        ("activationCode", "LPA:1$XYZ"),
        ("activationCode", 7),
        ("iccid", "89-999"),
        ("iccid", 8999900000000000003),
        ("qrCode", ""),
        ("instructions", ["Scan it."]),
    ],
)
def test_what_is_not_as_expected_is_for_a_person_to_ask_about(name: str, value: Any) -> None:
    field = seen(**{name: value})[f"data.{name}"]
    assert (field.verdict, field.got, result(field)) == ("not as expected", json.dumps(value), "by hand")


def test_what_is_not_in_the_contract_is_named() -> None:
    body = {"data": GOOD | {"puk": "12345678", "plan": {"gb": 5}}, "meta": {"id": 1}}
    extra = [field for field in seen(body=body).values() if field.verdict == "not in the contract"]
    assert [(field.path, field.got) for field in extra] == [
        ("data.puk", '"12345678"'),
        ("data.plan", '{"gb": 5}'),
        ("meta", '{"id": 1}'),
    ]
    assert {result(field) for field in extra} == {"by hand"}


@pytest.mark.parametrize("body", ["no JSON at all", [], {}, {"data": None}, {"data": []}])
def test_an_answer_of_another_form_fails_in_what_is_required(body: Any) -> None:
    found = seen(body=body)
    assert result(found["data.activationCode"]) == result(found["data.orderReference"]) == "failed"


def test_no_finding_holds_what_came_but_for_the_reference() -> None:
    found = seen(puk="12345678", activationCode="LPA:1$XYZ")
    told = repr([field.finding("CONNECTED_YOU") for field in found.values()])
    assert "order-7" in told
    for secret in ("LPA:1$XYZ", GOOD["iccid"], CODE, "Scan it.", "12345678"):
        assert secret not in told
