"""The intent journal: on disk before `write` returns, readable after any crash, one folder a database."""

import asyncio
import os
import stat
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app import journal
from app.errors import ConfigurationError
from app.journal import KEPT_DAYS, Entry, Journal, JournalUnavailable, all_of, hash_of, newest_of

ENTRY = Entry(
    reference="order-7",
    order_id=7,
    attempt_id=11,
    opened_at=datetime(2026, 11, 25, 3, 4, 5, 678901, tzinfo=UTC),
    placed_at=datetime(2026, 11, 24, tzinfo=UTC),
    provider="CONNECTED_YOU",
    order_key=hash_of("cart-4711"),
)


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl"))


def entries(number: int) -> list[Entry]:
    return [replace(ENTRY, attempt_id=attempt_id) for attempt_id in range(1, number + 1)]


async def test_what_was_written_is_read_again_to_the_microsecond(tmp_path: Path) -> None:
    ours = Journal(tmp_path / "database")
    await ours.write(ENTRY)
    assert list(all_of(tmp_path / "database")) == newest_of(tmp_path / "database") == [ENTRY]
    assert ours.last == ENTRY


async def test_each_line_is_synced_before_its_writing_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        sync(descriptor)
        synced.append(sum(path.stat().st_size for path in files(tmp_path)))

    monkeypatch.setattr(os, "fsync", fsync)
    ours = Journal(tmp_path)
    for entry in entries(3):
        await ours.write(entry)
        assert synced[-1] == sum(path.stat().st_size for path in files(tmp_path))


async def test_lines_that_wait_together_are_synced_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, synced = Journal(tmp_path), 0
    await ours.write(ENTRY)
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        nonlocal synced
        synced += 1
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    await asyncio.gather(*(ours.write(entry) for entry in entries(100)))
    assert synced <= 2
    assert len(list(all_of(tmp_path))) == 101


async def test_whoever_stops_waiting_takes_nobody_else_with_it(tmp_path: Path) -> None:
    ours = Journal(tmp_path)
    impatient, patient = asyncio.create_task(ours.write(ENTRY)), asyncio.create_task(ours.write(ENTRY))
    await asyncio.sleep(0)
    impatient.cancel()
    await patient
    assert len(list(all_of(tmp_path))) == 2


async def test_a_torn_line_is_passed_over_and_what_comes_after_it_goes_to_another_file(tmp_path: Path) -> None:
    ours = Journal(tmp_path)
    await ours.write(ENTRY)
    [path] = files(tmp_path)
    for torn in (b'{"reference": "ord', b'\n{"reference": "order-8"}\n'):
        with path.open("ab") as file:
            file.write(torn)
        assert list(all_of(tmp_path)) == [ENTRY]


async def test_a_disk_that_takes_nothing_is_told_and_the_next_line_may_succeed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Journal(tmp_path)
    await ours.write(ENTRY)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(JournalUnavailable, match="No space left on device"):
            await ours.write(replace(ENTRY, attempt_id=12))
    assert ours.last == ENTRY
    await ours.write(replace(ENTRY, attempt_id=13))
    assert len(files(tmp_path)) == 2
    assert ours.last == replace(ENTRY, attempt_id=13)


async def test_of_a_long_file_only_the_end_is_the_newest(tmp_path: Path) -> None:
    ours = Journal(tmp_path)
    await asyncio.gather(*(ours.write(entry) for entry in entries(3000)))
    newest = newest_of(tmp_path)
    assert newest == entries(3000)[-len(newest) :]
    assert 500 < len(newest) < 3000


async def test_a_file_that_has_grown_large_is_followed_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_LARGEST_BYTES", 500)
    ours = Journal(tmp_path)
    for entry in entries(6):
        await ours.write(entry)
    assert len(files(tmp_path)) > 1
    assert sorted(entry.attempt_id for entry in all_of(tmp_path)) == [1, 2, 3, 4, 5, 6]


async def test_files_older_than_any_backup_go(tmp_path: Path) -> None:
    for name, days in (("old.jsonl", KEPT_DAYS + 1), ("young.jsonl", KEPT_DAYS - 1)):
        path = tmp_path / name
        path.touch()
        os.utime(path, (time.time() - days * 24 * 3600,) * 2)
    await Journal(tmp_path).write(ENTRY)
    assert not (tmp_path / "old.jsonl").exists()
    assert (tmp_path / "young.jsonl").exists()


async def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    await Journal(tmp_path / "database").write(ENTRY)
    [path] = files(tmp_path / "database")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_it_holds_nothing_of_the_storefronts_own(tmp_path: Path) -> None:
    await Journal(tmp_path).write(ENTRY)
    [path] = files(tmp_path)
    assert b"cart-4711" not in path.read_bytes()


def test_a_folder_that_cannot_be_is_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"TRIBI_JOURNAL_DIR: .* name a folder that this user may write to"):
        Journal(tmp_path / "file" / "database").prepare()


def test_without_a_folder_there_is_nothing(tmp_path: Path) -> None:
    assert newest_of(tmp_path / "none") == list(all_of(tmp_path / "none")) == []
