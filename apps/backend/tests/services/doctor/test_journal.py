"""The intent journal and held mode."""

from pathlib import Path

import pytest

from app.held import hold
from app.house import House
from app.services.doctor import journal
from app.services.doctor.journal import check_held, check_journal
from tests.services.doctor.conftest import Live, a_house, the_failure


async def test_a_database_that_is_not_held_passes(house: House) -> None:
    [found] = await check_held(house)
    assert found.result.value == "passed"


async def test_a_database_that_was_set_back_fails(house: House) -> None:
    await hold(house.db, forgotten=1)
    failure = the_failure(await check_held(house))
    assert failure.detail.startswith("held since 2")
    assert str(failure.to_do).startswith("tribi recover")


async def test_no_journal_is_wanted_while_nothing_is_bought(house: House) -> None:
    [found] = await check_journal(house)
    assert (found.result.value, found.detail) == ("passed", "none is kept while nothing is bought")


async def test_a_journal_that_can_be_written_passes(live: Live, tmp_path: Path) -> None:
    house = await a_house(live("https://api.example.com", tribi_journal_dir=tmp_path / "journal"))
    [found] = await check_journal(house)
    await house.db.close()
    assert (found.result.value, found.detail) == ("passed", f"{tmp_path / 'journal'} can be written to")


async def test_a_journal_that_cannot_be_written_fails(live: Live, tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("a file where the folder should be")
    house = await a_house(live("https://api.example.com", tribi_journal_dir=tmp_path / "journal"))
    failure = the_failure(await check_journal(house))
    await house.db.close()
    assert failure.detail.startswith(f"TRIBI_JOURNAL_DIR: {tmp_path / 'journal'}")


@pytest.mark.parametrize(("is_together", "result"), [(True, "by hand"), (False, "passed")])
async def test_a_journal_beside_the_embedded_database_is_a_persons_decision(
    live: Live, monkeypatch: pytest.MonkeyPatch, is_together: bool, result: str
) -> None:
    if not is_together:
        monkeypatch.setattr(journal, "_are_together", lambda *_: False)  # there may be but one disk here
    house = await a_house(live("https://api.example.com"))
    house.settings = house.settings.model_copy(update={"database_url": None})
    [found] = await check_journal(house)
    await house.db.close()
    assert found.result.value == result
