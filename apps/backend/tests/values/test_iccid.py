"""ICCIDs, on the cases of identifiers.json. "valid" there is: read without a warning; nothing is ever refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.values import iccid
from app.values.iccid import Iccid, luhn_digit
from tests.values.cases import cases, supplier_iccids

CASES = cases("iccids")

DISPUTED = {
    "8949449999999990130f": "the pad digit is taken in both cases, as pySim does",
    "89000123456789012341": "20 digits occur in the wild: no warning, yet not by the letter of E.118",
    "8949 4499 9999 9990 130": "read as its digits, and flagged",
    "8949449999999990130\n": "read as its digits, and flagged",
}


def test_every_disputed_case_is_decided_here() -> None:
    assert {case["iccid"] for case in CASES if case["disputed"]} == set(DISPUTED)


@pytest.mark.parametrize("case", CASES, ids=lambda case: ascii(case["iccid"]))
def test_an_iccid_is_read_without_warning_if_and_only_if_it_is_valid(case: dict[str, Any]) -> None:
    assert Iccid.read(case["iccid"]).is_valid is case["valid"]


@pytest.mark.parametrize("case", [case for case in CASES if case["valid"]], ids=lambda case: ascii(case["iccid"]))
def test_a_valid_iccid_is_kept_as_its_digits(case: dict[str, Any]) -> None:
    assert Iccid.read(case["iccid"]) == Iccid(case["normalised"], case["normalised"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: ascii(case["iccid"]))
def test_by_the_letter_of_e118_an_iccid_has_at_most_19_digits(case: dict[str, Any]) -> None:
    strict = case["valid"] and len(case["normalised"]) <= 19
    assert Iccid.read(case["iccid"]).is_strict_e118 is strict


@pytest.mark.parametrize("item", supplier_iccids(), ids=lambda item: item["iccid"])
def test_the_digits_that_suppliers_send_are_kept_whatever_is_odd(item: dict[str, Any]) -> None:
    read = Iccid.read(item["iccid"])
    assert (read.text, read.digits) == (item["iccid"], item["iccid"])
    assert (iccid.WRONG_CHECK_DIGIT in read.warnings) is not item["luhn_ok"]
    assert (iccid.WRONG_LENGTH in read.warnings) is not (18 <= item["length"] <= 20)


@pytest.mark.parametrize("text", ["8949 4499 9999 9990 130", "8949449999999990130\n", " 8949-4499-9999-9990-130F"])
def test_a_grouped_iccid_is_kept_as_its_digits_and_flagged(text: str) -> None:
    assert Iccid.read(text) == Iccid("8949449999999990130", "8949449999999990130", (iccid.REFORMATTED,))


def test_a_json_number_is_taken_and_flagged() -> None:
    read = Iccid.read(8949449999999990130)
    assert read == Iccid("8949449999999990130", "8949449999999990130", (iccid.REFORMATTED,))


@pytest.mark.parametrize("text", ["893000000002391231F", "89000123456789012341F"])
def test_a_pad_digit_after_other_than_19_digits_is_flagged(text: str) -> None:
    assert iccid.REFORMATTED in Iccid.read(text).warnings


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        8.9e18,
        -8949449999999990130,
        ["8949449999999990130"],
        {},
        "",
        "n/a",
        "\u0668\u0669",
        b"89",
        "89\ud800",
    ],
    ids=ascii,
)
def test_what_is_no_number_is_kept_as_text_and_flagged(value: object) -> None:
    read = Iccid.read(value)
    assert (read.digits, read.warnings) == (None, (iccid.NOT_DIGITS,))


@given(st.one_of(st.text(), st.integers(min_value=0), st.text("0123456789", max_size=5000), st.binary()))
def test_what_is_kept_can_always_be_stored(value: object) -> None:
    text = Iccid.read(value).text
    assert "\0" not in text
    assert len(text.encode()) <= 600


def test_every_warning_is_explained() -> None:
    given_codes = {warning for case in CASES for warning in Iccid.read(case["iccid"]).warnings}
    assert given_codes == set(iccid.WARNINGS)


@given(st.text("0123456789", min_size=15, max_size=16).map("89".__add__))
def test_what_tribi_makes_is_strictly_valid(body: str) -> None:
    made = Iccid.make(body)
    assert made.is_strict_e118
    assert made.text[:-1] == body


@pytest.mark.parametrize(
    "body", ["", "89" + "0" * 14, "89" + "0" * 17, "98" + "0" * 16, "89" + "0" * 15 + "\n", "٨٩" * 9]
)
def test_tribi_makes_no_other_iccid(body: str) -> None:
    with pytest.raises(ValueError, match="body of an ICCID"):
        Iccid.make(body)


@pytest.mark.parametrize(("body", "digit"), [("7992739871", "3"), ("0", "0"), ("5", "9"), ("", "0")])
def test_the_check_digit_is_luhns(body: str, digit: str) -> None:
    assert luhn_digit(body) == digit  # 7992739871: 7 9 9 4 7 6 9 7 7 2 = 67, and 3 more make 70


def test_an_iccid_does_not_show_itself() -> None:
    assert f"{Iccid.read('8949449999999990130')!r} {Iccid.read('x')}" == "Iccid([iccid]) Iccid([iccid])"
