"""docs/catalogue.md names what there is, and nothing else."""

import re
from pathlib import Path

from app.main import create_app
from app.services.catalogue import checking
from app.services.catalogue.rows import PLAN_COLUMNS, code_column, cost_column
from app.services.esim_providers import providers_with_plan_codes
from app.settings import BACKEND_DIR, Settings

PAGE = (BACKEND_DIR.parents[1] / "docs" / "catalogue.md").read_text(encoding="utf-8")


def named_in(heading: str) -> set[str]:
    """What the first cells of the table under a heading name."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)
    return {name for row in rows for name in re.findall("`([^`]+)`", row)}


def test_the_page_has_every_column_of_the_file() -> None:
    of_providers = {column(p) for p in providers_with_plan_codes() for column in (code_column, cost_column)}
    assert named_in("The file") == {*PLAN_COLUMNS, *of_providers}


def test_the_page_has_every_finding_of_the_check() -> None:
    source = Path(checking.__file__).read_text(encoding="utf-8")
    assert named_in("Checking") == set(re.findall(r'Finding\(\s*"([a-z-]+)"', source))


def test_the_page_has_every_parameter_of_the_list() -> None:
    operation = create_app(Settings()).app.openapi()["paths"]["/api/plans"]["get"]
    described = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "query"}
    assert named_in("What storefronts see") == described
