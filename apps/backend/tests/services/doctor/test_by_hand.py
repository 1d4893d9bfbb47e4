"""What is left to a person, the open questions among it: the page and the command know the same ones."""

import re

import pytest

from app.services.doctor.by_hand import list_matters
from app.services.esim_providers import going_live
from app.settings import BACKEND_DIR, Settings
from tests.services.doctor.conftest import Live, by_name, results

PAGE = BACKEND_DIR.parents[1] / "docs" / "providers" / "connected_you.md"
QUESTIONS = going_live("CONNECTED_YOU").open_questions


def test_the_page_and_the_command_know_the_same_open_questions() -> None:
    section = PAGE.read_text().partition("## Still unconfirmed\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `question-([a-z-]+)` \| (.*) \| (.*) \|$", section, re.MULTILINE)
    assert rows == [(asked.name, asked.question, asked.answer_goes) for asked in QUESTIONS]


async def test_each_open_question_is_a_line_that_says_where_the_answer_goes(settings: Settings) -> None:
    found = by_name(await list_matters(settings))
    for asked in QUESTIONS:
        line = found[f"question-{asked.name}"]
        assert (line.result.value, line.detail) == ("by hand", asked.question)
        assert asked.answer_goes in str(line.to_do)


async def test_local_asks_nothing() -> None:
    assert results(await list_matters(Settings())) == {"backups": "by hand"}


@pytest.mark.parametrize(("policy", "result"), [("hold", "passed"), ("replay", "by hand")])
async def test_a_replay_has_to_be_promised_in_writing(settings: Settings, policy: str, result: str) -> None:
    chosen = settings.model_copy(update={"connected_you_unknown_outcome": policy})
    line = by_name(await list_matters(chosen))["unknown-outcome"]
    assert line.result.value == result
    assert ("in writing" in str(line.to_do)) == (result == "by hand")


@pytest.mark.parametrize(
    ("start", "is_dry_run", "result"), [(1, False, "by hand"), (5_000_000, False, "passed"), (1, True, "passed")]
)
async def test_order_numbers_that_begin_at_1_may_be_another_installations_too(
    live: Live, start: int, is_dry_run: bool, result: str
) -> None:
    shop = live("https://api.example.com", order_id_start=start, connected_you_dry_run=is_dry_run)
    line = by_name(await list_matters(shop))["order-numbers"]
    assert line.result.value == result
    assert ("ORDER_ID_START" in str(line.to_do)) == (result == "by hand")
