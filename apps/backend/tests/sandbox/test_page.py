"""The sandbox's page."""

import re

from tests.sandbox.running import HEADERS as ORDER_HEADERS
from tests.sandbox.running import Sandbox, an_order


async def test_the_page_is_shown_before_anything_was_ordered(sandbox: Sandbox) -> None:
    page = await sandbox.page()
    assert "Nothing was ordered yet." in page
    assert "nothing here costs money" in page
    assert "in memory, and gone when the sandbox ends" in page


async def test_the_page_shows_the_ledger_newest_first(sandbox: Sandbox) -> None:
    first, second = await sandbox.bought("order-1"), await sandbox.bought("order-2")
    page = await sandbox.page()
    assert page.index(second["activationCode"]) < page.index(first["activationCode"])
    assert first["iccid"] in page


async def test_the_page_fetches_nothing_and_runs_no_script(sandbox: Sandbox) -> None:
    reply = await sandbox.call("GET", "/")
    policy = reply.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script" not in policy
    assert not re.search(r"<script|<img|<link|src=|\bon[a-z]+=", reply.body.decode())


async def test_what_an_order_says_cannot_break_out_of_the_page(sandbox: Sandbox) -> None:
    code = '"><script>alert(1)</script>'
    order = an_order(plan_code=code, metadata={"order_id": 1, "plan_name": code})
    assert (await sandbox.post("/partners/orders", order, ORDER_HEADERS)).status == 200
    wish = {"event_type": "PRODUCT_STATUS_CHANGE", "order_reference": "order-1", "url": f"http://127.0.0.1:1/{code}"}
    await sandbox.post("/sandbox/webhooks", wish)
    page = await sandbox.page()
    assert "<script" not in page
    assert "&lt;script" in page


async def test_the_page_stays_small_however_much_was_ordered(sandbox: Sandbox) -> None:
    for number in range(1, 131):
        await sandbox.order(f"order-{number}")
    page = await sandbox.page()
    assert page.count("89999") == 300  # 100 rows, and 100 eSIMs to choose from, each as value and as text
    assert "And 30 older ones." in page


async def test_whether_it_runs_can_be_asked(sandbox: Sandbox) -> None:
    reply = await sandbox.call("GET", "/healthz")
    assert (reply.status, reply.json()) == (200, {"status": "ok"})
