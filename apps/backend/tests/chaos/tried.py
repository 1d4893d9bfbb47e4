"""
What has been tried, on whatever machine: on the record, so that the next one goes on from there. Of modules whose mutants have all
been tried, how these ended; of others, which were killed.

A module's entry holds as long as its source is the same. (Tests may have changed since; they only ever get more. Delete the file to
begin anew.) One that has survivors without a row in docs/mutants.md isn't done: they are tried again.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from app.settings import BACKEND_DIR
from tests.chaos.mutants import Mutant

FILE = BACKEND_DIR.parents[1] / "docs" / "mutants_tried.json"


def known() -> dict[str, dict[str, int]]:
    """The modules that needn't be tried: how many of their mutants ended how."""
    return {module: entry["endings"] for module, entry in _entries().items() if "endings" in entry}


def killed() -> set[str]:
    """Of the other modules, the mutants that needn't be tried: their names."""
    return {name for entry in _entries().values() for name in entry.get("killed", ())}


def note(found: Sequence[Mutant], page: str) -> None:
    """
    Args:
        found: all mutants of some modules.
        page: docs/mutants.md.
    """
    entries = _entries()  # what has changed since is forgotten
    for module, group in groupby(sorted(found, key=lambda mutant: mutant.module), lambda mutant: mutant.module):
        mutants = list(group)
        told: dict[str, Any]
        if all(mutant.ending and not mutant.wants_reason(page) for mutant in mutants):
            told = {"endings": dict(Counter(str(mutant.ending) for mutant in mutants))}
        else:
            told = {"killed": sorted(mutant.name for mutant in mutants if mutant.ending == "killed")}
        if any(told.values()):
            entries[module] = {"source": _hash(module)} | told
    FILE.write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n", "utf-8")


def _entries() -> dict[str, dict[str, Any]]:
    """Of modules that are as they were."""
    entries: dict[str, dict[str, Any]] = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
    return {module: entry for module, entry in entries.items() if entry["source"] == _hash(module)}


def _hash(module: str) -> str:
    path = BACKEND_DIR / module
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""
