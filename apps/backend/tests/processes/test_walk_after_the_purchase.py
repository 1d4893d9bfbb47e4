"""
From the paid order to a traveller who is online and a seller who knows, on real parts: `tribi serve`, `tribi sandbox`, a mail
server, a seller's server, Chromium.
"""

import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from io import BytesIO
from typing import Any

import pytest
from aiohttp import web
from PIL import Image
from playwright.async_api import Browser, expect
from sqlalchemy import text

from tests.api.serving import a_wish
from tests.chromium import IPHONE, PHONE, a_page, accessible, fits, photographed, qr_codes_in
from tests.mailbox import Mailbox, a_mail_server, text_of
from tests.processes.canaries import found_in
from tests.processes.installations import EMAIL, NAME, WEBHOOK_SECRET, Installation, Server
from tests.processes.programs import Program, a_free_port, until
from tests.services.webhooks.conftest import Heard, Receiver, a_receiver
from tests.walks import url_of_sandbox

# What is asked of the database, others ask through PgBouncer.
pytestmark = pytest.mark.without_pgbouncer

_UNDER_WAY = text("SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')")


@dataclass
class Sandbox:
    """`tribi sandbox`, and whom it tells."""

    url: str
    program: Program
    server: Server

    def listens(self) -> bool:
        said = self.program.log.read_text()
        assert self.program.is_running, said
        return url_of_sandbox(said) == self.url

    async def tells(self, event: dict[str, Any]) -> None:
        wish = event | {"url": f"{self.server.shop.url}/api/webhooks/connected_you"}
        headers = {"Content-Type": "application/json"}
        async with self.server.shop.http.post(f"{self.url}/sandbox/webhooks", json=wish, headers=headers) as reply:
            assert reply.status == 200, await reply.text()

    async def ledger(self) -> Any:
        async with self.server.shop.http.get(f"{self.url}/sandbox/ledger") as reply:
            return await reply.json()


@dataclass
class Town:
    """Everybody who has to do with an eSIM."""

    installation: Installation
    server: Server
    sandbox: Sandbox
    mailbox: Mailbox
    seller: Receiver
    endpoint_secret: str

    def mails(self, subject: str) -> list[EmailMessage]:
        return [message for message in self.mailbox.messages if message["Subject"].startswith(subject)]

    async def mail(self, subject: str) -> EmailMessage:
        await until(lambda: self.mails(subject))
        [message] = self.mails(subject)
        return message

    def told(self, kind: str) -> list[dict[str, Any]]:
        """What the seller was told of this kind: the data of each message."""
        events = [heard.json() for heard in self.seller.heard]
        return [event["data"] for event in events if event["type"] == kind]

    async def pending(self) -> list[Any]:
        """What the seller has still to be told. None of it was refused."""
        reply = await self.server.get("/api/webhook-endpoints/1/deliveries?status=pending")
        pending = reply.json()["items"]
        assert [one["history"] for one in pending if one["history"]] == []
        return list(pending)

    async def settled(self) -> None:
        """Waits until nothing is left to be done, so that what was told and mailed by then is all there will be."""

        async def no_job() -> bool:
            async with self.installation.db.read() as connection:
                return not await connection.scalar(_UNDER_WAY)

        async def none_pending() -> bool:
            return not await self.pending()

        await until(no_job)
        await until(none_pending)


@pytest.fixture
async def town(installation: Installation) -> AsyncIterator[Town]:
    mailbox, port, sandbox_port = Mailbox(), a_free_port(), a_free_port()
    public_url, sandbox_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{sandbox_port}"
    with a_mail_server(mailbox) as mail_server:
        async with asynccontextmanager(a_receiver)() as seller:
            installation.settings |= {
                "CONNECTED_YOU_BASE_URL": sandbox_url,
                "PUBLIC_URL": public_url,
                "SMTP_URL": f"smtp://127.0.0.1:{mail_server.port}",
                "MAIL_FROM": "esims@example.com",
                "WEBHOOKS_ALLOW_PRIVATE": "true",
            }
            program = installation.start("sandbox", "--port", str(sandbox_port), "--webhook-secret", WEBHOOK_SECRET)
            server = installation.start_server(port=str(port))
            added = await installation.run("webhooks", "add", seller.url)
            assert added.status == 0, added.stderr
            secret = added.stdout.strip()

            async def verify(heard: Heard) -> web.StreamResponse:
                heard.verified(secret)  # otherwise it raises: 500, and the message comes again
                return web.Response(status=204)

            seller.answer = verify
            sandbox = Sandbox(sandbox_url, program, server)
            await until(server.is_ready)
            await until(sandbox.listens)
            yield Town(installation, server, sandbox, mailbox, seller, secret)


async def test_from_the_order_to_a_traveller_online_and_a_seller_who_knows(town: Town, chromium: Browser) -> None:
    server = town.server
    order, esim = await bought(town)
    instructions = await town.mail("Your eSIM is ready")
    assert qr_codes_in(picture_in(instructions)) == [esim["activation_code"]]
    link = link_in(instructions)
    assert link == esim["install"]["page_url"]

    async with a_page(chromium, PHONE, user_agent=IPHONE) as page:
        await page.goto(link)
        assert page.url == link
        await expect(page.get_by_role("heading", name="Ready to install")).to_be_visible()
        assert qr_codes_in(await photographed(page, "walk-1-ready")) == [esim["activation_code"]]
        tap = page.get_by_role("link", name="Install on iPhone")
        await expect(tap).to_have_attribute("href", esim["install"]["ios_url"])

        begun = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=10)
        await hears_of_the_provider(town, order["id"], begun)
        low = await town.mail("Your data is running low")
        signed_in = await own_esims(town)
        await town.settled()

        await page.goto(link_in(low))
        assert page.url == link
        await expect(page.get_by_role("heading", name="Your eSIM is in use")).to_be_visible()
        usage = page.locator(".usage")
        await expect(usage).to_contain_text("1 GB of 5 GB left")
        await expect(usage).to_contain_text("30 days left")
        await photographed(page, "walk-2-in-use")
        assert await fits(page)
        await accessible(page)

    assert "1 GB of 5 GB left" in text_of(low, "plain").replace("\u00a0", " ")
    shown = (await server.get(f"/api/esims/{esim['id']}")).json()
    assert signed_in == [shown]
    assert shown == esim | {
        "profile_state": "enabled",
        "plan_state": "active",
        "data_used_mb": 4096,
        "data_total_mb": 5120,
        "usage_at": at(begun, 5).replace("Z", ".000Z"),
    }
    the_seller_knows_it_once(town, order["id"], esim["id"], begun)
    assert sorted(message["Subject"] for message in town.mailbox.messages) == [
        "Your data is running low: Spain 5GB",
        "Your eSIM is ready: Spain 5GB",
        "Your sign-in code",
    ]
    assert town.mailbox.recipients == [EMAIL] * 3
    assert (await town.sandbox.ledger())["requests"] == 1
    secrets = [esim["activation_code"], esim["matching_id"], esim["iccid"], link, town.endpoint_secret]
    assert found_in(town.installation.written(), [*secrets, link.rpartition("/")[2]]) == []
    assert server.errors() == []


async def bought(town: Town) -> tuple[dict[str, Any], dict[str, Any]]:
    """An order by key, and its eSIM."""
    shop = town.server.shop
    placed = await shop.place(a_wish(town.installation.sku, customer={"email": EMAIL, "name": NAME}))
    assert placed.status == 201, placed
    activated = await shop.activate(placed.json()["id"])
    assert activated.status == 201, activated
    return placed.json(), activated.json()


def at(begun: datetime, minutes: int) -> str:
    return (begun + timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z")


async def hears_of_the_provider(town: Town, order_id: int, begun: datetime) -> None:
    """Each event twice and shuffled: first some from the middle, then what follows them, then what was before them."""
    low = {"event_type": "USAGE_ALERT", "percentage_consumed": 80}  # told three times, a minute after another
    happened: dict[int, dict[str, Any]] = {
        0: {"event_type": "PROFILE_LIFECYCLE", "status": "DOWNLOADED"},
        1: {"event_type": "PROFILE_LIFECYCLE", "status": "ENABLED"},
        2: {"event_type": "PRODUCT_STATUS_CHANGE", "product_status": "ACTIVATED"},
        **dict.fromkeys((3, 4, 5), low),
    }
    chance = random.Random(6)  # noqa: S311 - no secret
    for part in ((1, 4), (2, 5), (0, 3)):
        for minutes in chance.sample(part * 2, 4):
            of = {"order_reference": f"order-{order_id}", "event_timestamp": at(begun, minutes)}
            await town.sandbox.tells(happened[minutes] | of)
        await town.settled()


async def own_esims(town: Town) -> list[Any]:
    """What the traveller sees who signs in with the code from the mail."""
    shop = town.server.shop
    asked = await shop.post("/api/auth/code", {"email": EMAIL}, anonymous=True)
    assert asked.status == 202, asked
    [code] = re.findall(r"\b\d{6}\b", text_of(await town.mail("Your sign-in code"), "plain"))
    wish = {"request": asked.json()["request"], "code": code}
    session = await shop.post("/api/auth/session", wish, anonymous=True)
    assert session.status == 201, session
    found = await shop.get("/api/esims", headers={"Authorization": f"Bearer {session.json()['token']}"})
    return list(found.json()["items"])


def link_in(message: EmailMessage) -> str:
    """That to the install page, which both parts of the message have."""
    [link] = re.findall(r"http://\S+/i/\S+", text_of(message, "plain"))
    assert f'href="{link}"' in text_of(message, "html")
    return str(link)


def picture_in(message: EmailMessage) -> Image.Image:
    [picture] = [part for part in message.walk() if part.get_content_type() == "image/png"]
    with Image.open(BytesIO(picture.get_content())) as image:
        return image.convert("RGB")


def the_seller_knows_it_once(town: Town, order_id: int, esim_id: int, begun: datetime) -> None:
    whose = {"order_id": order_id, "esim_id": esim_id, "is_live": True}
    heard = town.seller.heard
    assert town.seller.duplicates == 0
    assert len({message.body for message in heard}) == len(heard) == 6
    assert town.told("order.paid") == [whose | {"status": "paid"}]
    assert town.told("esim.provisioned") == [whose | {"status": "provisioned"}]
    # DOWNLOADED came when more was known already: a step backwards is not told.
    enabled = {"profile_state": "enabled", "changed_at": at(begun, 1)}
    assert town.told("esim.profile_state_changed") == [whose | enabled]
    assert town.told("esim.plan_state_changed") == [whose | {"plan_state": "active", "changed_at": at(begun, 2)}]
    usage = {"data_used_mb": 4096, "data_total_mb": 5120, "usage_at": at(begun, 4)}
    alerts = sorted(town.told("esim.usage_alert"), key=lambda alert: alert["threshold"])
    assert alerts == [whose | usage | {"threshold": threshold} for threshold in ("data_50", "data_80")]
