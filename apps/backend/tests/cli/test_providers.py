"""`tribi providers`: what is said to whoever types something else, and what stands in the table."""

import re

import psycopg

from tests.cli.commands import tribi


def test_a_provider_that_is_not_there_and_a_missing_reason_are_told_in_one_line(database_url: str) -> None:
    wrong = tribi(database_url, "providers", "pause", "airalo", "--reason", "why")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr == "tribi: there is no provider of that name; there are: local, connected_you\n"
    blank = tribi(database_url, "providers", "pause", "connected_you", "--reason", " ")
    assert (blank.returncode, blank.stderr) == (1, "tribi: --reason must say why, in one line of text\n")


def test_the_table_says_who_keeps_orders_from_whom(database_url: str) -> None:
    paused = tribi(database_url, "providers", "pause", "local", "--reason", "no made-up eSIMs")
    assert (paused.returncode, paused.stderr) == (0, "Mind that ESIM_PROVIDER is CONNECTED_YOU here.\n")
    listed = tribi(database_url, "providers", "list")
    assert (listed.returncode, listed.stderr) == (0, "")
    shown = " ".join(listed.stdout.split())
    assert re.search(
        r" LOCAL not configured paused by cli:\S+ since 2\S+Z: no made-up eSIMs CONNECTED_YOU test go out$", shown
    )
    with psycopg.connect(database_url) as connection:
        trail = "SELECT tag, actor ~ '^cli:.', details ->> 'reason' FROM audit_log WHERE tag LIKE 'providers.%'"
        assert connection.execute(trail).fetchall() == [("providers.paused", True, "no made-up eSIMs")]


def test_to_resume_what_is_not_paused_is_no_failure(database_url: str) -> None:
    done = tribi(database_url, "providers", "resume", "Connected-You")
    assert (done.returncode, done.stdout) == (0, "CONNECTED_YOU was not paused by a person.\n")
