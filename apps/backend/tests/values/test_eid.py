"""EIDs, on the cases of identifiers.json."""

from typing import Any

import pytest

from app.values.eid import read_eid
from tests.values.cases import cases

CASES = cases("eids")


@pytest.mark.parametrize("case", [case for case in CASES if case["valid"]], ids=lambda case: case["eid"])
def test_a_valid_eid_is_read(case: dict[str, Any]) -> None:
    # Disputed: 356…, an EID that doesn't begin with 89, is taken as SGP.29 says; SGP.02 is about older chips.
    assert read_eid(case["eid"]) == case["eid"]


@pytest.mark.parametrize("case", [case for case in CASES if not case["valid"]], ids=lambda case: case["eid"])
def test_another_eid_is_refused(case: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="EID"):
        read_eid(case["eid"])


def test_other_scripts_digits_are_refused() -> None:
    with pytest.raises(ValueError, match="32 digits"):
        read_eid("٨" + "89049032123451234512345678901235"[1:])


def test_spaces_between_groups_are_dropped() -> None:
    assert read_eid(" 8904 9032 1234 5123 4512 3456 7890 1235\n") == "89049032123451234512345678901235"
