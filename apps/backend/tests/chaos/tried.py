"""
Modules whose mutants have all been tried, on whatever machine: on the record, so that the next one goes on from there.

A module's entry holds as long as its source is the same. (Tests may have changed since; they only ever get more. Delete the file to
begin anew.) One that has survivors without a row in docs/mutants.md has no entry, so that it is tried again.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from app.settings import BACKEND_DIR
from tests.chaos.mutants import Mutant

FILE = BACKEND_DIR.parents[1] / "docs" / "mutants_tried.json"


def known() -> dict[str, dict[str, int]]:
    """The modules that needn't be tried: how many of their mutants ended how."""
    entries = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
    return {module: entry["endings"] for module, entry in entries.items() if entry["source"] == _hash(module)}


def note(found: Sequence[Mutant], page: str) -> None:
    """
    Args:
        found: all mutants of some modules; those of which one hasn't been tried are passed over.
        page: docs/mutants.md.
    """
    entries = {
        module: {"source": _hash(module), "endings": endings} for module, endings in known().items()
    }  # what has changed since is forgotten
    for module, group in groupby(sorted(found, key=lambda mutant: mutant.module), lambda mutant: mutant.module):
        mutants = list(group)
        if all(mutant.ending and not mutant.wants_reason(page) for mutant in mutants):
            endings = Counter(str(mutant.ending) for mutant in mutants)
            entries[module] = {"source": _hash(module), "endings": dict(endings)}
    FILE.write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n", "utf-8")


def _hash(module: str) -> str:
    path = BACKEND_DIR / module
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""
