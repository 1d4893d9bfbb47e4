"""Each act that enqueues a job does so in its own transaction: rolled back, it leaves none."""

import ast
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

import app
from app.house import House
from app.services.esim_providers import event_source
from app.services.esim_providers.connected_you.client import ConnectedYou
from app.services.esims import answer, resend, resolve, thresholds
from app.services.esims.answer import record_answer
from app.services.esims.recover import sweep
from app.services.esims.resend import resend_instructions
from app.services.esims.resolve import resolve_issued
from app.services.esims.thresholds import note_thresholds
from app.services.news import receive
from app.services.news.receive import receive_event
from app.values.activation_code import ActivationCode
from tests.builders import an_order, provisioned
from tests.services.esims.conftest import on_file
from tests.services.esims.test_settling import an_intent, an_unknown, deadline_passes, the_answer

Act = Callable[[House, ConnectedYou], Awaitable[tuple[int, Callable[[], Awaitable[object]]]]]
"""Prepares an act, and returns the order's id and the act."""


async def an_answer(house: House, provider: ConnectedYou) -> tuple[int, Callable[[], Awaitable[object]]]:
    intent = await an_intent(house, provider, await an_order(house.db))
    delivered = await the_answer(provider, intent)
    return intent.order_id, lambda: record_answer(house.db, house.vault, intent, provider.name, delivered)


async def a_late_answer(house: House, provider: ConnectedYou) -> tuple[int, Callable[[], Awaitable[object]]]:
    intent = await an_intent(house, provider, await an_order(house.db))
    await deadline_passes(house)
    await sweep(house.db)
    delivered = await the_answer(provider, intent)
    return intent.order_id, lambda: record_answer(house.db, house.vault, intent, provider.name, delivered)


async def a_persons_word(house: House, provider: ConnectedYou) -> tuple[int, Callable[[], Awaitable[object]]]:
    intent, esim_id = await an_unknown(house, provider)
    code = ActivationCode.read("LPA:1$smdp.example.com$TYPED-IN")
    return intent.order_id, lambda: resolve_issued(
        house.db, house.vault, esim_id, code=code, iccid=None, reason="their ticket", actor="cli:test"
    )


async def an_event(house: House, provider: ConnectedYou) -> tuple[int, Callable[[], Awaitable[object]]]:
    """About an eSIM that is there: so its order is looked at as after the others."""
    order_id = await an_order(house.db)
    [iccid] = await provisioned(house.db, house.vault, [order_id])
    source = event_source(house.settings, provider.name)
    assert source is not None
    return order_id, lambda: receive_event(house.db, house.vault, source, f'{{"iccid": "{iccid}"}}'.encode())


async def a_message_again(house: House, provider: ConnectedYou) -> tuple[int, Callable[[], Awaitable[object]]]:
    order_id, deliver = await a_persons_word(house, provider)
    await deliver()
    esim_id = (await on_file(house, order_id)).profile.id
    return order_id, lambda: resend_instructions(house, esim_id, actor="cli:test")


async def a_notice(house: House, provider: ConnectedYou) -> tuple[int, Callable[[], Awaitable[object]]]:
    order_id, deliver = await a_persons_word(house, provider)
    await deliver()
    esim_id = (await on_file(house, order_id)).profile.id

    async def note() -> None:
        async with house.db.begin() as connection:
            await note_thresholds(connection, esim_id, ("data_50", "data_80"))

    return order_id, note


ACTS: dict[str, tuple[Act, Any]] = {
    "services/esims/answer.py:_record": (an_answer, answer),
    "services/esims/answer.py:_record_late": (a_late_answer, answer),
    "services/esims/resend.py:resend_instructions": (a_message_again, resend),
    "services/esims/resolve.py:resolve_issued": (a_persons_word, resolve),
    "services/news/receive.py:_store": (an_event, receive),
    "services/esims/thresholds.py:note_thresholds": (a_notice, thresholds),
}
"""Who enqueues: how it is brought about, and the module in which it does so."""


def who_enqueues() -> set[str]:
    """Every function of the product that calls `enqueue`."""
    root = Path(app.__file__).parent
    return {
        f"{file.relative_to(root).as_posix()}:{function.name}"
        for file in root.rglob("*.py")
        for function in ast.walk(ast.parse(file.read_text()))
        if isinstance(function, ast.AsyncFunctionDef)
        and any(
            isinstance(node, ast.Call) and ast.unparse(node.func).endswith("enqueue") for node in ast.walk(function)
        )
    }


OF_NO_ORDER = {"services/accounts/codes.py:request_code"}
"""Its own test holds the same of it: `tests/services/accounts/test_codes.py`."""


def test_every_act_that_enqueues_is_in_the_table() -> None:
    assert who_enqueues() == set(ACTS) | OF_NO_ORDER


def test_there_is_no_other_way_to_enqueue() -> None:
    root = Path(app.__file__).parent
    others = [file for file in root.rglob("*.py") if file != root / "queue.py"]
    assert [
        file.name for file in others if re.search(r"\.defer|procrastinate_defer|INTO procrastinate", file.read_text())
    ] == []


async def jobs(house: House) -> int:
    async with house.db.read() as connection:
        return int(await connection.scalar(text("SELECT count(*) FROM procrastinate_jobs")) or 0)


@pytest.mark.parametrize("name", ACTS)
async def test_an_act_that_is_rolled_back_leaves_no_job_and_one_that_is_not_leaves_one(
    house: House, provider: ConnectedYou, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    prepare, module = ACTS[name]
    order_id, act = await prepare(house, provider)
    before, queued = (await on_file(house, order_id)).profile.status, await jobs(house)
    enqueue = module.enqueue

    async def enqueue_and_fail(connection: AsyncConnection, *job: Any, **args: Any) -> None:
        await enqueue(connection, *job, **args)
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(module, "enqueue", enqueue_and_fail)
        with pytest.raises(ZeroDivisionError):
            await act()
    assert ((await on_file(house, order_id)).profile.status, await jobs(house)) == (before, queued)
    await act()
    assert ((await on_file(house, order_id)).profile.status, await jobs(house)) == ("provisioned", queued + 1)
