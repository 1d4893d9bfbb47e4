"""The ledger: what was bought, what was bought twice, and what of it outlives the sandbox."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.errors import ConfigurationError
from app.sandbox.behaviours import Repeats
from app.sandbox.ledger import Ledger
from tests.sandbox.running import HEADERS, Sandbox, a_sandbox, an_order


async def test_a_repeated_reference_buys_another_esim_and_is_marked(sandbox: Sandbox) -> None:
    """The draft promises no dedupe."""
    first, second = await sandbox.bought(), await sandbox.bought()
    assert first["orderReference"] == second["orderReference"]
    for name in ("activationCode", "iccid"):
        assert first[name] != second[name]
    ledger = await sandbox.ledger()
    assert (ledger["requests"], ledger["esims"], ledger["repeated_purchases"]) == (2, 2, 1)
    assert [(entry["is_billed"], entry["is_repeat"]) for entry in ledger["entries"]] == [(True, False), (True, True)]
    assert (await sandbox.page()).count("bought again") == 1


async def test_a_repeat_after_a_refusal_is_no_second_purchase(sandbox: Sandbox) -> None:
    await sandbox.order(plan_code="SANDBOX-OUT-OF-STOCK")
    await sandbox.bought()
    ledger = await sandbox.ledger()
    assert (ledger["esims"], ledger["repeated_purchases"]) == (1, 0)


async def test_with_replay_a_repeat_gets_the_first_esim_and_is_not_billed() -> None:
    async with a_sandbox(repeats=Repeats.REPLAY) as sandbox:
        first, second = await sandbox.bought(), await sandbox.bought(plan_code="CY-FR-1GB")
        ledger = await sandbox.ledger()
        page = await sandbox.page()
    assert first == second
    assert (ledger["requests"], ledger["esims"], ledger["repeated_purchases"]) == (2, 1, 0)
    assert ledger["entries"][1]["esim"] == ledger["entries"][0]["esim"]
    assert "the one bought before" in page


async def test_with_replay_a_lost_answer_can_be_had_again() -> None:
    async with a_sandbox(repeats=Repeats.REPLAY) as sandbox:
        await sandbox.order(plan_code="SANDBOX-ERROR-ISSUED-ONCE")
        data = await sandbox.bought(plan_code="SANDBOX-ERROR-ISSUED-ONCE")
        [lost, _] = (await sandbox.ledger())["entries"]
    assert lost["esim"]["activation_code"] == data["activationCode"]


async def test_with_refuse_a_repeat_is_a_409_unless_nothing_was_issued() -> None:
    async with a_sandbox(repeats=Repeats.REFUSE) as sandbox:
        await sandbox.order(plan_code="SANDBOX-REFUSED")
        await sandbox.bought()
        reply = await sandbox.order()
        ledger = await sandbox.ledger()
    assert (reply.status, reply.json()["error"]["code"]) == (409, "repeated_reference")
    assert (ledger["requests"], ledger["esims"]) == (3, 1)


async def test_one_order_can_be_looked_up(sandbox: Sandbox) -> None:
    for reference in ("order-1", "order-2", "order-1"):
        await sandbox.bought(reference)
    found = await sandbox.ledger("?order_reference=order-1")
    assert (found["requests"], found["esims"], found["repeated_purchases"]) == (2, 2, 1)
    assert {entry["order_reference"] for entry in found["entries"]} == {"order-1"}
    assert (await sandbox.ledger("?order_reference=order-3"))["entries"] == []


async def test_an_entry_tells_what_was_asked_and_answered(sandbox: Sandbox) -> None:
    await sandbox.order("order-5", "SANDBOX-GARBAGE-ONCE")
    [entry] = (await sandbox.ledger())["entries"]
    assert entry["at"].endswith("+00:00")
    assert entry["esim"]["iccid"].startswith("89999")
    assert {name: entry[name] for name in ("number", "order_reference", "plan_code", "plan_name", "country_iso2")} == {
        "number": 1,
        "order_reference": "order-5",
        "plan_code": "SANDBOX-GARBAGE-ONCE",
        "plan_name": "Spain 5GB",
        "country_iso2": "ES",
    }
    assert (entry["behaviour"], entry["answer"]) == ("SANDBOX-GARBAGE-ONCE", "200 a page instead of JSON")


async def test_a_request_that_breaks_the_contract_stands_there_with_what_is_wrong(sandbox: Sandbox) -> None:
    await sandbox.post("/partners/orders", an_order(quantity=2), HEADERS)
    [entry] = (await sandbox.ledger())["entries"]
    assert entry["answer"].startswith("422 invalid_order: quantity: ")
    assert (entry["order_reference"], entry["is_billed"], entry["esim"]) == (None, False, None)


async def test_nothing_of_the_customer_the_key_or_the_partner_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"
    customer = {"email": "zoe@canary.example", "name": "Zoe Canary"}
    async with a_sandbox(ledger=file) as sandbox:
        order = an_order(partnerId="canary-partner", customer=customer)
        await sandbox.post("/partners/orders", order, HEADERS | {"x-api-key": "canary-key"})
        await sandbox.post("/partners/orders", order | {"quantity": 2}, HEADERS | {"x-api-key": "canary-key"})
        shown = json.dumps(await sandbox.ledger()) + await sandbox.page() + file.read_text()
    assert "order-1" in shown
    assert "canary" not in shown.lower()


async def test_without_a_file_a_restart_forgets() -> None:
    async with a_sandbox() as sandbox:
        await sandbox.bought()
    async with a_sandbox() as sandbox:
        assert (await sandbox.ledger())["entries"] == []


async def test_a_file_outlives_the_sandbox_and_so_does_what_is_a_repeat(tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"
    async with a_sandbox(ledger=file) as sandbox:
        await sandbox.bought()
        await sandbox.order("order-2", "SANDBOX-REFUSED")
        before = await sandbox.ledger()
    async with a_sandbox(ledger=file) as sandbox:
        assert await sandbox.ledger() == before
        await sandbox.bought()
        after = await sandbox.ledger()
    assert after["repeated_purchases"] == 1
    assert [entry["number"] for entry in after["entries"]] == [1, 2, 3]
    assert file.stat().st_mode & 0o077 == 0


async def test_a_line_that_a_kill_cut_short_is_dropped(tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"
    async with a_sandbox(ledger=file) as sandbox:
        await sandbox.bought()
        await sandbox.bought("order-2")
    file.write_bytes(file.read_bytes()[:-20])
    async with a_sandbox(ledger=file) as sandbox:
        assert [entry["order_reference"] for entry in (await sandbox.ledger())["entries"]] == ["order-1"]
        await sandbox.bought("order-2")
        kept = await sandbox.ledger()
    assert [json.loads(line) for line in file.read_text().splitlines()] == kept["entries"]


@pytest.mark.parametrize("text", ["precious", "precious\n", "[]\n", '{"number": 1}\n', "\n", '{"name": "x"}'])
def test_a_file_that_is_no_ledger_is_left_alone(tmp_path: Path, text: str) -> None:
    file = tmp_path / "precious.txt"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match="is not a sandbox's ledger"):
        Ledger(file)
    assert file.read_text() == text


def test_two_sandboxes_cannot_have_one_ledger(tmp_path: Path) -> None:
    first = Ledger(tmp_path / "ledger.jsonl")
    with pytest.raises(ConfigurationError, match="in use by another sandbox"):
        Ledger(tmp_path / "ledger.jsonl")
    first.close()
    Ledger(tmp_path / "ledger.jsonl").close()


def test_a_ledger_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot use .* as ledger: No such file or directory"):
        Ledger(tmp_path / "missing" / "ledger.jsonl")


async def test_to_forget_empties_the_file_too(tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"
    async with a_sandbox(ledger=file) as sandbox:
        first = await sandbox.bought()
        reply = await sandbox.call("POST", "/sandbox/forget")
        assert (reply.status, reply.json()) == (200, {"status": "forgotten"})
        assert (file.read_text(), (await sandbox.ledger())["entries"]) == ("", [])
        assert await sandbox.bought() == first
        entries: list[dict[str, Any]] = (await sandbox.ledger())["entries"]
    assert [entry["number"] for entry in entries] == [1]
