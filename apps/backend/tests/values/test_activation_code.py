"""Activation codes, on the cases of identifiers.json. "valid" there is: read without a warning."""

import string
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.values import activation_code
from app.values.activation_code import ActivationCode, UnusableActivationCode
from tests.values.cases import cases

CASES = cases("activation_codes")
ID = "04386-AGYFT-A74Y8-3F815"

# What can't be installed by any reading: the provider's answer counts as an unknown outcome (design, section 3).
UNUSABLE = {
    "LPA:",
    "1$",
    "1$$",
    f"0$SMDP.GSMA.COM${ID}",
    f"LPA:2$SMDP.GSMA.COM${ID}",
    f"SMDP.GSMA.COM${ID}",
    f"LPA1$SMDP.GSMA.COM${ID}",
    f"1%24SMDP.GSMA.COM%24{ID}",
    "LPA:1$$$$$$$$$$$$$$$$$$$",  # disputed: delimiters alone are nothing after "1$"
    f"11$SMDP.GSMA.COM${ID}",  # disputed: the design's "begins with 1$", and pySim's leniency is a bug
    f"LPA: 1$SMDP.GSMA.COM${ID}",  # disputed: the design's "begins with LPA:1$" to the letter
}

# Where the letter and the practice differ, Tribi keeps the verdicts of the file, for these reasons.
DISPUTED = {
    "LPA:1$rsp.truphone.com$QR-G-5C-21K-1CHHCG1": "lower-case hosts are universal: no warning",
    "LPA:1$Smdp.Gsma.Com$AB12": "hosts are compared without regard to case: no warning",
    "1$SMDP.GSMA.COM$ab12-cd34": "handsets take it and its case matters: no warning, nothing changed",
    f"Lpa:1$SMDP.GSMA.COM${ID}": "the prefix is recognised in any case and shown as LPA:",
    f"1$SMDP.GSMA.COM${ID}$$": "blank OID and flag mean what absent ones mean; Tribi never makes it",
    f"1$SMDP.GSMA.COM${ID}$$1$0123456789ABCDEF": "fields after the flag are ignored",
    f"1$SMDP.GSMA.COM${ID}$1.3.6.1.4.1.31746$1$X$Y$FUTURE": "fields after the flag are ignored",
    "LPA:1$$$$$$$$$$$$$$$$$$$": "unusable",
    "LPA:1$SMDP.EXAMPLE.COM": "kept and flagged, as the blueprint's LPA:1$XYZ",
    f"11$SMDP.GSMA.COM${ID}": "unusable",
    f"LPA: 1$SMDP.GSMA.COM${ID}": "unusable",
    f"1$SMDP.GSMA.COM${ID} ": "flagged, and read without the space: the fields are beyond doubt",
    f"1$ SMDP.GSMA.COM${ID}": "kept and flagged",
    "1$localhost$C": "kept and flagged",
    "1$SMDP.GSMA.COM.$C": "kept and flagged",
    "1$testsmdpplus1.example.com$TS48v5_SAIP2.3_NoBERTLV": "kept and flagged",
    f"1$SMDP.GSMA.COM${ID}$1": "kept and flagged: who pays for a guess about the flag is the traveller",
    f"1$SMDP.GSMA.COM${ID}$$0": "kept and flagged: some readers take 0 for no, others for yes",
    f"1$SMDP.GSMA.COM${ID}$$TRUE": "kept and flagged",
    f"1$SMDP.GSMA.COM${ID}$$11": "kept and flagged",
}


def by_input(case: dict[str, Any]) -> str:
    return ascii(case["input"])[1:60]


def test_every_disputed_case_is_decided_here() -> None:
    assert {case["input"] for case in CASES if case["disputed"]} == set(DISPUTED)


@pytest.mark.parametrize("case", CASES, ids=by_input)
def test_a_code_is_read_without_warning_if_and_only_if_it_is_valid(case: dict[str, Any]) -> None:
    if case["input"] in UNUSABLE:
        assert not case["valid"]
        with pytest.raises(UnusableActivationCode):
            ActivationCode.read(case["input"])
    else:
        code = ActivationCode.read(case["input"])
        assert code.is_valid is case["valid"]
        assert code.is_valid is not bool(code.warnings)


@pytest.mark.parametrize("case", [case for case in CASES if case["input"] not in UNUSABLE], ids=by_input)
def test_a_code_is_strict_by_the_letter_of_the_standard_only(case: dict[str, Any]) -> None:
    assert ActivationCode.read(case["input"]).is_strict_sgp22 is case["strict_valid"]


@pytest.mark.parametrize("case", [case for case in CASES if case["input"] not in UNUSABLE], ids=by_input)
def test_the_fields_are_those_of_a_valid_code_and_none_of_a_doubtful_one(case: dict[str, Any]) -> None:
    code = ActivationCode.read(case["input"])
    expected = (case["smdp"], case["matching_id"], case["oid"], case["confirmation_code_required"])
    if case["input"].endswith(" "):
        expected = ("SMDP.GSMA.COM", ID, None, False)
    assert (code.smdp_address, code.matching_id, code.oid, code.confirmation_code_required) == expected


@pytest.mark.parametrize("case", [case for case in CASES if case["input"] not in UNUSABLE], ids=by_input)
def test_the_text_is_kept_as_it_was_received(case: dict[str, Any]) -> None:
    assert ActivationCode.read(case["input"]).text == case["input"]


def test_the_blueprints_own_sample_is_kept_and_flagged() -> None:
    code = ActivationCode.read("LPA:1$XYZ")
    assert code == ActivationCode("LPA:1$XYZ", warnings=(activation_code.NOT_SGP22,))
    assert (code.lpa, code.manual) == ("LPA:1$XYZ", "1$XYZ")


def test_an_address_left_out_is_kept_and_flagged_as_a_handset_may_know_a_default() -> None:
    assert ActivationCode.read("LPA:1$$ABC").warnings == (activation_code.NOT_SGP22,)


@pytest.mark.parametrize("field", ["$1", "$$0", "$$TRUE", "$$11"])
def test_a_doubtful_confirmation_flag_is_a_warning_of_its_own(field: str) -> None:
    assert activation_code.CONFIRMATION_UNCLEAR in ActivationCode.read(f"1$A.B$C{field}").warnings


@pytest.mark.parametrize("address", ["127.0.0.1", "A.1", "A_B.COM", "A..B", f"{'A' * 64}.COM"])
def test_an_address_that_is_no_host_name_is_flagged(address: str) -> None:
    assert ActivationCode.read(f"1${address}$C").warnings == (activation_code.NOT_SGP22,)


def test_white_space_around_is_kept_in_the_text_and_left_out_of_what_is_shown() -> None:
    code = ActivationCode.read("\tlpa:1$A.B$c\n")
    assert code.text == "\tlpa:1$A.B$c\n"
    assert code.lpa == "LPA:1$A.B$c"
    assert code.manual == "1$A.B$c"
    assert code.warnings == (activation_code.WHITE_SPACE,)


@pytest.mark.parametrize("value", [None, 1, 1.5, True, b"1$A.B$C", ["1$A.B$C"], {}, "", " ", "1$A.B$\ud800"])
def test_what_is_not_text_is_unusable(value: object) -> None:
    with pytest.raises(UnusableActivationCode):
        ActivationCode.read(value)


def test_an_error_does_not_repeat_the_code() -> None:
    with pytest.raises(UnusableActivationCode) as caught:
        ActivationCode.read("2$SMDP.GSMA.COM$SECRET")
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{0!r}".format])
def test_a_code_does_not_show_itself(show: Callable[[object], str]) -> None:
    assert show(ActivationCode.read("1$SMDP.GSMA.COM$SECRET")) == "ActivationCode([code])"


def test_every_warning_is_explained() -> None:
    given_codes = {warning for case in CASES if case["input"] not in UNUSABLE for warning in _warnings(case["input"])}
    assert given_codes == set(activation_code.WARNINGS)


def _warnings(text: str) -> tuple[str, ...]:
    return ActivationCode.read(text).warnings


@pytest.mark.parametrize("spelling", ["LPA:1$smdp.gsma.com$AB", "1$SMDP.GSMA.COM$AB$$", " lpa:1$Smdp.Gsma.Com$AB"])
def test_spellings_of_one_code_share_their_identity(spelling: str) -> None:
    assert ActivationCode.read(spelling).identity == ActivationCode.read("1$SMDP.GSMA.COM$AB").identity


def test_another_case_of_the_matching_id_is_another_code() -> None:
    assert ActivationCode.read("1$A.B$c").identity != ActivationCode.read("1$A.B$C").identity


def test_a_code_without_matching_id_names_no_single_profile() -> None:
    assert ActivationCode.read("1$A.B$").identity is None


labels = st.from_regex(r"(?!-)[A-Z0-9-]{1,20}(?<!-)", fullmatch=True)
hosts = st.builds(
    lambda first, rest, last: ".".join([first, *rest, last]),
    labels,
    st.lists(labels, max_size=3),
    labels.filter(lambda label: any(letter in string.ascii_uppercase for letter in label)),
)


@given(hosts, st.text("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-", max_size=100))
def test_what_tribi_makes_reads_back_and_is_strict(host: str, matching_id: str) -> None:
    code = ActivationCode.make(host.lower(), matching_id)
    assert code == ActivationCode.read(f"LPA:1${host}${matching_id}")
    assert code.is_strict_sgp22
    assert code.lpa == code.text


@pytest.mark.parametrize(
    ("address", "matching_id"),
    [
        ("localhost", "A"),
        ("", "A"),
        ("A.B", "a"),
        ("A.B", "A$1.2"),
        ("A.B", "A B"),
        ("A.B$C", ""),
        ("STRAßE.DE", "A"),
        ("A.B", "A" * 252),
        (" A.B", "A"),
        ("A.B", "A\n"),
    ],
)
def test_tribi_makes_no_code_that_is_not_strict(address: str, matching_id: str) -> None:
    with pytest.raises(ValueError, match=r"SGP\.22"):
        ActivationCode.make(address, matching_id)


@given(st.text())
def test_reading_either_keeps_the_text_or_says_unusable(text: str) -> None:
    try:
        code = ActivationCode.read(text)
    except UnusableActivationCode:
        assert not text.strip().startswith("1$") or not text.strip()[2:].strip("$ \t\n\r\f\v").strip("$").strip()
    else:
        assert code.text == text


@given(st.text("$1LPA: .-aZ9", max_size=30).map("1$x".__add__))
def test_whatever_begins_rightly_is_kept(text: str) -> None:
    assert ActivationCode.read(text).text == text
