"""What the sandbox was asked and what it issued: in memory, and in a file where one is named.

It holds nothing of the customer, no key and no partner id. An entry is written before its answer leaves.
"""

import fcntl
import json
import os
from collections import defaultdict
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.errors import ConfigurationError
from app.sandbox.issuing import Esim

_LINE_BEGINS = b'{"number": '


@dataclass(frozen=True, slots=True)
class Entry:
    """One request to POST /partners/orders."""

    number: int
    at: str
    """RFC 3339, UTC."""
    order_reference: str | None
    """None where the request was no order; so are the next three."""
    plan_code: str | None
    plan_name: str | None
    country_iso2: str | None
    behaviour: str | None
    """The plan code that forced it, None where nothing was forced."""
    answer: str
    """What went back, in words."""
    is_billed: bool
    """This request bought `esim`. Where it is false and there is one, the eSIM was bought before."""
    is_repeat: bool
    """An eSIM had been issued for this order reference before."""
    esim: Esim | None


class Ledger:
    def __init__(self, file: Path | None = None) -> None:
        """
        Raises:
            ConfigurationError: the file can't be used, holds something else, or another sandbox has it.
        """
        self._file: int | None = None
        self._empty()
        if file is not None:
            self._open(file)

    def enter(self, **columns: Any) -> Entry:  # noqa: ANN401 - Entry's own types
        """Returns once it is with the operating system, if there is a file."""
        number = self.entries[-1].number + 1 if self.entries else 1
        entry = Entry(number=number, at=datetime.now(UTC).isoformat(timespec="milliseconds"), **columns)
        if self._file is not None:
            os.write(self._file, json.dumps(asdict(entry)).encode() + b"\n")
        self._add(entry)
        return entry

    def of(self, order_reference: str) -> list[Entry]:
        """What was asked under one reference, oldest first."""
        return self._of_reference[order_reference]

    def holder_of(self, iccid: str) -> Entry | None:
        """The purchase that an ICCID comes from."""
        return self._of_iccid.get(iccid)

    def forget(self) -> None:
        """As if the sandbox had just been made."""
        self._empty()
        if self._file is not None:
            os.ftruncate(self._file, 0)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def shape(self, order_reference: str | None = None) -> dict[str, Any]:
        """For programs, oldest entry first."""
        shown = self.entries if order_reference is None else self.of(order_reference)
        bought = [entry for entry in shown if entry.is_billed]
        return {
            "requests": len(shown),
            "esims": len(bought),
            "repeated_purchases": sum(entry.is_repeat for entry in bought),
            "entries": [asdict(entry) for entry in shown],
        }

    def _empty(self) -> None:
        self.entries: list[Entry] = []
        self._of_reference: defaultdict[str, list[Entry]] = defaultdict(list)
        self._of_iccid: dict[str, Entry] = {}

    def _add(self, entry: Entry) -> None:
        self.entries.append(entry)
        if entry.order_reference is not None:
            self._of_reference[entry.order_reference].append(entry)
        if entry.is_billed and entry.esim is not None:
            self._of_iccid[entry.esim.iccid] = entry

    def _open(self, file: Path) -> None:
        try:
            self._file = os.open(file, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            data = file.read_bytes()
        except BlockingIOError:
            self.close()
            raise ConfigurationError(f"the ledger {file} is in use by another sandbox") from None
        except OSError as error:
            self.close()
            raise ConfigurationError(f"cannot use {file} as ledger: {error.strerror}") from error
        whole = data[: data.rfind(b"\n") + 1]
        cut_short = data[len(whole) :]  # by a kill: such a line was never answered
        is_ours = cut_short[: len(_LINE_BEGINS)] == _LINE_BEGINS[: len(cut_short)]
        try:
            for line in whole.splitlines():
                self._add(_read_entry(line))
        except (ValueError, TypeError, KeyError):
            is_ours = False
        if not is_ours:
            self.close()
            raise ConfigurationError(f"{file} is not a sandbox's ledger; name another file")
        os.ftruncate(self._file, len(whole))


def _read_entry(line: bytes) -> Entry:
    columns = json.loads(line)
    esim = columns.pop("esim")
    return Entry(**columns, esim=Esim(**esim) if esim is not None else None)
