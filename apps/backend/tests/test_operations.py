"""`docs/operations/`: no alarm without a page, no page that says what isn't so."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from app.settings import BACKEND_DIR
from tests.cli.commands import is_understood

FOLDER = BACKEND_DIR.parents[1] / "docs" / "operations"
INDEX = FOLDER / "README.md"
PAGES = sorted(path for path in FOLDER.glob("*.md") if path != INDEX)
SECRETS = FOLDER.parent / "secrets.md"
SMOKE_TESTS = FOLDER.parent / "manual_smoke_tests.md"
PARTS = ("**The traveller**", "**It means", "**Look", "**Type")

_EVENT = re.compile(r"[a-z_]+\.[a-z_]+")
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def calls() -> Iterator[tuple[Path, ast.Call]]:
    for path in sorted((BACKEND_DIR / "app").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield path, node


def text_of(node: ast.expr | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def events(*levels: str) -> set[str]:
    """The names of all log events of these levels: the first argument of each call that logs."""
    found = set()
    for path, call in calls():
        if not isinstance(call.func, ast.Attribute) or call.func.attr not in levels:
            continue
        name = text_of(call.args[0]) if call.args else None
        if isinstance(call.func.value, ast.Name) and call.func.value.id == "log":
            assert name, f"{path}:{call.lineno}: an event's name must be a plain string, or nobody can look for it"
        if name and _EVENT.fullmatch(name):
            found.add(name)
    return found


def metrics() -> dict[str, str]:
    """Every metric's help by the name under which Prometheus has it."""
    found = {}
    for path, call in calls():
        if path.name == "metrics.py" and isinstance(call.func, ast.Name) and call.func.id in {"Counter", "Gauge"}:
            name, documentation = (text_of(argument) for argument in call.args[:2])
            assert name
            assert documentation
            found[f"{name}_total" if call.func.id == "Counter" else name] = documentation
    return found


def named_in_the_index() -> set[str]:
    rows = [line for line in INDEX.read_text().splitlines() if line.startswith("| ")]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def blocks(language: str) -> list[tuple[str, str]]:
    """The blocks of code in all pages: name of the page, text."""
    return [
        (path.name, text)
        for path in [INDEX, *PAGES, SECRETS]
        for kind, text in _BLOCK.findall(path.read_text())
        if kind == language
    ]


def test_the_sources_are_read_as_meant() -> None:
    assert {"esims.surplus", "esims.attempt_forgotten", "sweep.failed"} <= events("error", "critical", "exception")
    assert {"tribi_esims_unknown", "tribi_esims_surplus_total"} <= set(metrics())


def test_every_event_that_is_an_error_is_in_the_index() -> None:
    assert events("error", "critical", "exception") - named_in_the_index() == set()


def test_every_metric_that_is_an_alarm_is_in_the_index() -> None:
    alarms = {name for name, documentation in metrics().items() if "an alarm" in documentation}
    assert alarms
    assert alarms - named_in_the_index() == set()


def test_the_index_names_no_event_and_no_metric_that_is_not_there() -> None:
    names = {name for name in named_in_the_index() if _EVENT.fullmatch(name) or name.startswith("tribi_")}
    assert names - events("error", "critical", "exception", "warning") - set(metrics()) == set()


def test_the_index_leads_to_every_page_and_to_no_other() -> None:
    linked = re.findall(r"\]\(([a-z-]+\.md)\) \|$", INDEX.read_text(), re.MULTILINE)
    assert sorted(linked) == [page.name for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_a_page_says_what_is_seen_what_it_means_where_to_look_and_what_to_type(page: Path) -> None:
    text = page.read_text()
    places = [text.find(f"\n{part}") for part in PARTS]
    assert -1 not in places, dict(zip(PARTS, places, strict=True))
    assert places == sorted(places)


@pytest.mark.parametrize("page", [INDEX, *PAGES, SECRETS], ids=lambda page: page.name)
def test_its_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_what_is_to_be_asked_of_the_database_can_be_asked(database_url: str) -> None:
    statements = [(page, one) for page, text in blocks("sql") for one in text.split(";") if one.strip()]
    assert statements
    with psycopg.connect(database_url) as connection:
        for _, statement in statements:
            connection.execute(statement.encode())


def test_every_command_to_be_typed_is_one() -> None:
    commands = [
        shlex.split(line) for _, text in blocks("sh") for line in text.splitlines() if line.startswith("tribi ")
    ]
    assert commands
    for words in commands:
        assert is_understood(words), words


def test_the_smoke_tests_type_what_there_is_and_try_what_holds_orders_back() -> None:
    typed = re.findall(r"`(?:\.venv/bin/)?(tribi [^`]+)`", SMOKE_TESTS.read_text())
    commands = [shlex.split(re.sub(r"<[^>]+>", "1", command)) for command in typed]
    assert {("doctor",), ("providers", "pause"), ("backup",), ("restore",), ("recover",)} <= {
        tuple(words[1 : 1 + length]) for words in commands for length in (1, 2)
    }
    for words in commands:
        assert is_understood(words), words
