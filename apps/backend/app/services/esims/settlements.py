"""The file by which a person settles many unknown outcomes at once: bytes → settlements. Pure.

Header: `esim_id` or `order_reference` (the provider's own list knows only that), `outcome`, `activation_code`, `iccid`, `reason`,
in any order. No mistake repeats what stands in a cell: it may be a code or an ICCID.
"""

import re
from dataclasses import dataclass

from app.csv_table import CsvRefused, Line, read_table
from app.values.activation_code import ActivationCode
from app.values.iccid import Iccid

_COLUMNS = ("esim_id", "order_reference", "outcome", "activation_code", "iccid", "reason")
_NEEDED = ("outcome", "reason")
_OUTCOMES = {"issued": True, "not-issued": False}
_GREATEST_ID = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Settlement:
    """A person's word on one eSIM, which is named by its id or by its order's. `code`: None means that it was not issued."""

    line: int
    esim_id: int | None
    order_id: int | None
    code: ActivationCode | None
    iccid: Iccid | None
    reason: str


def read_settlements(data: bytes) -> list[Settlement]:
    """
    Args:
        data: as `read_table` takes it.

    Raises:
        CsvRefused: at least one line is wrong; each is named.
    """
    table = read_table(data)
    if not table.at.keys() & {"outcome", "esim_id", "order_reference"}:
        names = ",".join(_COLUMNS)  # what stands there instead may be the first line's code
        raise CsvRefused([f"line {table.header_line} does not name the columns; they are: {names}"])
    is_nameless = not table.at.keys() & {"esim_id", "order_reference"}
    table.require(_NEEDED, _COLUMNS, ["the column esim_id or order_reference is missing"] if is_nameless else [])

    settlements: list[Settlement] = []
    mistakes: list[str] = []
    seen: dict[tuple[str, str], int] = {}
    for line in table.lines():
        if isinstance(line, str):
            mistakes.append(line)
            continue
        settlement = _read(line, seen)
        if line.mistakes:
            mistakes.append(f"line {line.number}: {'; '.join(line.mistakes)}")
        settlements.append(settlement)
    if mistakes:
        raise CsvRefused(mistakes)
    if not settlements:
        raise CsvRefused(["the file holds a header but no line: there is nothing to settle"])
    return settlements


def is_reason(text: str) -> bool:
    """Whether it can go on the audit trail as somebody's reason: one line of text, and not nothing."""
    return bool(text.strip()) and text.isprintable()


def _read(line: Line, seen: dict[tuple[str, str], int]) -> Settlement:
    """`seen`: what stood in earlier lines, by kind and value, and where."""
    esim_id = line.take("esim_id", _read_esim_id, None)
    order_id = line.take("order_reference", _read_reference, None)
    if bool(line.text("esim_id")) == bool(line.text("order_reference")):
        line.mistakes.append("either esim_id or order_reference must be given")
    is_issued = line.take("outcome", _read_outcome, None)
    code = iccid = None
    if is_issued:
        code = line.take("activation_code", _read_code, None)
        iccid = line.take("iccid", _read_iccid, None)
    elif is_issued is False and (line.text("activation_code") or line.text("iccid")):
        line.mistakes.append("activation_code and iccid must be empty where the outcome is not-issued")
    reason = line.take("reason", _read_reason, "")

    _is_new(line, seen, "esim_id", str(esim_id or ""))
    _is_new(line, seen, "order_reference", str(order_id or ""))
    _is_new(line, seen, "activation_code", (code.identity or "") if code else "")
    _is_new(line, seen, "iccid", (iccid.digits or "") if iccid else "")
    return Settlement(line.number, esim_id, order_id, code, iccid, reason)


def _is_new(line: Line, seen: dict[tuple[str, str], int], column: str, value: str) -> None:
    if value and (earlier := seen.setdefault((column, value), line.number)) != line.number:
        line.mistakes.append(f"{column}: it stands on line {earlier} already")


def _read_esim_id(text: str) -> int | None:
    if not text:
        return None
    if not re.fullmatch("[1-9][0-9]{0,18}", text) or int(text) > _GREATEST_ID:
        raise ValueError("must be an eSIM's id, as `tribi esims list` shows it")
    return int(text)


def _read_reference(text: str) -> int | None:
    if not text:
        return None
    found = re.fullmatch("order-([1-9][0-9]{0,18})", text, re.IGNORECASE)
    if found is None or int(found[1]) > _GREATEST_ID:
        raise ValueError("must be an order reference such as order-123")
    return int(found[1])


def _read_outcome(text: str) -> bool | None:
    if text.lower() not in _OUTCOMES:
        raise ValueError(f"must be {' or '.join(_OUTCOMES)}")
    return _OUTCOMES[text.lower()]


def _read_code(text: str) -> ActivationCode | None:
    if not text:
        raise ValueError("is missing: what was issued has one")
    return ActivationCode.read(text)


def _read_iccid(text: str) -> Iccid | None:
    if not text:
        return None
    iccid = Iccid.read(text)
    if iccid.digits is None:
        raise ValueError("isn't a number in plain digits (a spreadsheet shortens long ones: format the column as text)")
    return iccid


def _read_reason(text: str) -> str:
    if not is_reason(text):
        raise ValueError("must say how you know, in one line of text")
    return text
