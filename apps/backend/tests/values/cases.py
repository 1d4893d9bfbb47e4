"""The cases of tests/data/identifiers.json."""

import json
from pathlib import Path
from typing import Any

_FILE = Path(__file__).parent.parent / "data" / "identifiers.json"


def cases(section: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(_FILE.read_text(encoding="utf-8"))[section]
    return found


def supplier_iccids() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(_FILE.read_text(encoding="utf-8"))["supplier_iccids_seen"]["items"]
    return found
