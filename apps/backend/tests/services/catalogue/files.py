"""Catalogue files made with one call; a test names only the cell that it is about."""

from app.db import Database
from app.services.catalogue.csv_file import read_catalogue
from app.services.catalogue.diff import Diff
from app.services.catalogue.importing import apply_import
from app.services.catalogue.rows import CatalogueFile

PROVIDERS = ("CONNECTED_YOU", "OTHER")
HEADER = (
    "sku,name,country_iso2,data_mb,validity_days,price_minor,currency,connected_you_plan_code,connected_you_cost_minor"
)
_CELLS = {
    "sku": "es-5gb",
    "name": "Spain 5 GB",
    "country_iso2": "ES",
    "data_mb": "5120",
    "validity_days": "30",
    "price_minor": "1290",
    "currency": "EUR",
    "connected_you_plan_code": "CY-ES-5GB",
    "connected_you_cost_minor": "640",
}


def a_line(**cells: str) -> str:
    """A valid line under HEADER but for the cells named."""
    return ",".join((_CELLS | cells).values())


def a_file(*lines: str, header: str = HEADER) -> bytes:
    return "\n".join([header, *lines, ""]).encode()


def many_lines(count: int) -> list[str]:
    return [a_line(sku=f"es-{number}", connected_you_plan_code=f"CY-{number}") for number in range(count)]


def reading(data: bytes) -> CatalogueFile:
    return read_catalogue(data, PROVIDERS)


async def importing(db: Database, data: bytes, *, replacing: bool = False, expected: Diff | None = None) -> Diff:
    return await applying(db, reading(data), replacing=replacing, expected=expected)


async def applying(db: Database, file: CatalogueFile, *, replacing: bool = False, expected: Diff | None = None) -> Diff:
    async with db.begin() as connection:
        return await apply_import(
            connection, file, replacing=replacing, actor="test", file_name="test.csv", expected=expected
        )
