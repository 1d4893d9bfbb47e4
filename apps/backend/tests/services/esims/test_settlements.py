"""The file that settles many unknown outcomes: what is read of it, and which mistakes are told."""

import pytest

from app.csv_table import CsvRefused
from app.services.esims.settlements import Settlement, read_settlements
from app.values.activation_code import ActivationCode
from app.values.iccid import Iccid

CODE = "LPA:1$smdp.example.com$K2-CANARY"
ICCID = "8944500102198304826"
HEADER = "esim_id,outcome,activation_code,iccid,reason"


def mistakes_of(*lines: str, header: str = HEADER) -> list[str]:
    with pytest.raises(CsvRefused) as refused:
        read_settlements("\n".join([header, *lines]).encode())
    return list(refused.value.mistakes)


def test_a_line_says_of_one_esim_that_it_was_issued_or_not() -> None:
    data = f"{HEADER}\n17,issued,{CODE},{ICCID},portal shows it\n18,not-issued,,,ticket 42\n"
    assert read_settlements(data.encode()) == [
        Settlement(2, 17, None, ActivationCode.read(CODE), Iccid.read(ICCID), "portal shows it"),
        Settlement(3, 18, None, None, None, "ticket 42"),
    ]


def test_an_order_reference_stands_for_its_esim() -> None:
    [settlement] = read_settlements(b"order_reference,outcome,reason\nOrder-123,not-issued,ticket 42\n")
    assert (settlement.esim_id, settlement.order_id) == (None, 123)


def test_it_may_come_from_a_spreadsheet() -> None:
    data = "\ufeffReason;ICCID;Activation_Code;Outcome;Esim_ID\r\n'ok';;1$a.example$B ; Issued ; 5\r\n\r\n"
    [settlement] = read_settlements(data.encode())
    assert (settlement.line, settlement.esim_id, settlement.iccid) == (2, 5, None)
    assert settlement.code == ActivationCode.read("1$a.example$B")


@pytest.mark.parametrize(
    ("line", "mistake"),
    [
        ("0,not-issued,,,x", "esim_id: must be an eSIM's id, as `tribi esims list` shows it"),
        (f"{2**63},not-issued,,,x", "esim_id: must be an eSIM's id, as `tribi esims list` shows it"),
        ("eSIM 5,not-issued,,,x", "esim_id: must be an eSIM's id, as `tribi esims list` shows it"),
        (",not-issued,,,x", "either esim_id or order_reference must be given"),
        ("5,,,,x", "outcome: must be issued or not-issued"),
        ("5,maybe,,,x", "outcome: must be issued or not-issued"),
        ("5,issued,,,x", "activation_code: is missing: what was issued has one"),
        (
            "5,issued,K2-CANARY,,x",
            "activation_code: The activation code doesn't begin with LPA:1$ or 1$, or nothing comes after.",
        ),
        (
            f"5,issued,{CODE},8.9445E+18,x",
            "iccid: isn't a number in plain digits (a spreadsheet shortens long ones: format the column as text)",
        ),
        (
            f"5,not-issued,{CODE},,x",
            "activation_code and iccid must be empty where the outcome is not-issued",
        ),
        (
            f"5,not-issued,,{ICCID},x",
            "activation_code and iccid must be empty where the outcome is not-issued",
        ),
        ("5,not-issued,,,", "reason: must say how you know, in one line of text"),
        ('5,not-issued,,,"a\nb"', "reason: must say how you know, in one line of text"),
        ("5,not-issued,x", "3 fields where the header has 5 (a field that holds a separator needs quotes)"),
    ],
)
def test_a_bad_line_is_named_with_its_number(line: str, mistake: str) -> None:
    assert mistakes_of("4,not-issued,,,x", line) == [f"line 3: {mistake}"]


def test_all_bad_lines_are_told_at_once() -> None:
    told = mistakes_of("x,not-issued,,,", "5,not-issued,,,x", "6,perhaps,,,x")
    assert [line.partition(":")[0] for line in told] == ["line 2", "line 4"]
    assert "; " in told[0]


@pytest.mark.parametrize(
    ("first", "second", "column"),
    [
        ("5,not-issued,,,x", "5,not-issued,,,x", "esim_id"),
        (f"5,issued,{CODE},,x", f"6,issued,{CODE.replace('smdp', 'SMDP')},,x", "activation_code"),
        (f"5,issued,{CODE},{ICCID},x", f"6,issued,{CODE}2,{ICCID},x", "iccid"),
    ],
)
def test_what_can_be_settled_once_may_not_stand_there_twice(first: str, second: str, column: str) -> None:
    assert mistakes_of(first, second) == [f"line 3: {column}: it stands on line 2 already"]


def test_an_esim_is_named_one_way() -> None:
    header = "esim_id,order_reference,outcome,reason"
    told = mistakes_of("5,order-5,not-issued,x", "6,,not-issued,x", ",order-0,not-issued,x", header=header)
    assert told == [
        "line 2: either esim_id or order_reference must be given",
        "line 4: order_reference: must be an order reference such as order-123",
    ]


@pytest.mark.parametrize(
    ("header", "mistake"),
    [
        ("outcome,reason", "line 1: the column esim_id or order_reference is missing"),
        ("esim_id,reason", "line 1: the column outcome is missing"),
        ("esim_id,outcome,reason,because", "line 1: because is not a column"),
    ],
)
def test_the_header_is_checked(header: str, mistake: str) -> None:
    told = mistakes_of("x", header=header)
    assert told == [mistake, "the columns are: esim_id,order_reference,outcome,activation_code,iccid,reason"]


def test_a_file_without_a_header_shows_nothing_of_its_first_line() -> None:
    [mistake] = mistakes_of(header=f"5,issued,{CODE},{ICCID},x")
    assert mistake.startswith("line 1 does not name the columns")


def test_no_mistake_repeats_a_cell() -> None:
    cells = [CODE, ICCID, "K2-CANARY"]
    lines = [",".join([cell] * 5) for cell in cells]
    told = " ".join(
        [*mistakes_of(*lines), *mistakes_of(*lines, header="order_reference,outcome,activation_code,iccid,reason")]
    )
    assert not any(cell in told for cell in cells)


def test_a_file_without_lines_settles_nothing() -> None:
    assert mistakes_of() == ["the file holds a header but no line: there is nothing to settle"]
