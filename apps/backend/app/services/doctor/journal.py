"""What protects against a database that was set back: the intent journal, and held mode."""

import asyncio
from pathlib import Path

from app.errors import ConfigurationError
from app.held import HELD
from app.house import House
from app.services.doctor.findings import Finding, by_hand, failed, passed


async def check_held(house: House) -> list[Finding]:
    async with house.db.read() as connection:
        held_since = await connection.scalar(HELD)
    if held_since is None:
        return [passed("held-mode", "not held: the database knows all that this machine's journal knows")]
    detail = f"held since {held_since:%Y-%m-%d %H:%M} UTC: the database is older than the journal, and nothing is sent"
    return [failed("held-mode", detail, "tribi recover (docs/operations/held.md)")]


async def check_journal(house: House) -> list[Finding]:
    if house.journal is None:
        return [passed("intent-journal", "none is kept while nothing is bought")]
    try:
        await asyncio.to_thread(house.journal.prepare)
    except ConfigurationError as error:
        return [failed("intent-journal", str(error), "make the folder writable, or set TRIBI_JOURNAL_DIR to another")]
    folder = house.settings.journal_dir
    if house.settings.is_embedded and await asyncio.to_thread(_are_together, folder, house.settings.tribi_data_dir):
        detail = f"{folder} can be written to, but lies on the same disk as the database"
        to_do = "set TRIBI_JOURNAL_DIR to a folder on another disk: whoever sets this one back sets both back"
        return [by_hand("intent-journal", detail, to_do)]
    return [passed("intent-journal", f"{folder} can be written to")]


def _are_together(one: Path, other: Path) -> bool:
    return one.stat().st_dev == other.stat().st_dev
