"""`tribi webhooks`, each command a process of its own."""

import json
from collections.abc import AsyncIterator

import pytest
from jsonschema import Draft202012Validator

from app.house import House
from app.main import create_app
from app.services.webhooks.events import OrderPaid
from app.settings import Settings
from tests.cli.commands import tribi
from tests.services.webhooks.conftest import (
    Receiver,
    a_receiver,
    an_endpoint,
    deliveries_on_file,
    telling,
    told,
    worked_off,
)
from tests.services.webhooks.network import served_in_a_thread

PRIVATE = {"WEBHOOKS_ALLOW_PRIVATE": "true"}
URL = "https://seller.invalid/hooks"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async for one in a_receiver():
        yield one


async def test_a_secret_is_printed_once_alone_on_standard_output_and_an_endpoint_is_looked_after(
    database_url: str, house: House
) -> None:
    added = tribi(database_url, "webhooks", "add", URL, "--event", "order.paid", "--event", "esim.provisioned")
    assert added.returncode == 0
    [secret] = added.stdout.splitlines()
    assert secret.startswith("whsec_")
    assert added.stderr == (
        "Webhook endpoint 1: order.paid esim.provisioned. Keep the secret: it can't be shown again.\n"
    )
    rotated = tribi(database_url, "webhooks", "rotate-secret", "1")
    [newer] = rotated.stdout.splitlines()
    assert newer.startswith("whsec_")
    assert newer != secret
    assert tribi(database_url, "webhooks", "disable", "1").stdout == "Webhook endpoint 1 is disabled.\n"
    listed = tribi(database_url, "webhooks", "list", "--json")
    [endpoint] = json.loads(listed.stdout)
    document = create_app(Settings()).app.openapi()
    schema = {"$ref": "#/components/schemas/EndpointShape", "components": document["components"]}
    Draft202012Validator(schema).validate(endpoint)
    assert (endpoint["url"], endpoint["is_enabled"], endpoint["disabled_because"]) == (URL, False, "asked")
    assert secret not in listed.stdout
    assert "disabled (asked)" in tribi(database_url, "webhooks", "list").stdout
    assert tribi(database_url, "webhooks", "remove", "1").stdout == "Webhook endpoint 1 is removed.\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("add", "https://10.0.0.1/"), "the URL must not lead to a private or reserved address"),
        (("redeliver", "7"), "there is no webhook delivery 7"),
        (("test",), "there is no enabled webhook endpoint"),
    ],
)
def test_a_mistake_is_told_in_one_line(database_url: str, arguments: tuple[str, ...], said: str) -> None:
    done = tribi(database_url, "webhooks", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"tribi: {said}")


def test_a_rehearsal_shows_the_receivers_answer(database_url: str) -> None:
    with served_in_a_thread() as receiver:
        secret = tribi(database_url, "webhooks", "add", receiver.url, settings=PRIVATE).stdout.strip()
        done = tribi(database_url, "webhooks", "test", settings=PRIVATE)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("endpoint 1: delivered, HTTP status 204, ")
        assert receiver.heard[0].verified(secret)["data"]["test"] is True
        receiver.always(500, "no\x1b[31m")
        done = tribi(database_url, "webhooks", "test", "1", "--event", "order.paid", "--json", settings=PRIVATE)
        assert done.returncode == 1
        [shown] = json.loads(done.stdout)
        assert (shown["outcome"], shown["status"], shown["payload"]["type"]) == ("refused", 500, "order.paid")
        assert "\x1b" not in done.stdout


async def test_deliveries_are_listed_and_sent_again(database_url: str, house: House, receiver: Receiver) -> None:
    local = telling(house)
    await an_endpoint(local, receiver.url)
    receiver.always(500, "no")
    await told(local, OrderPaid(order_id=7, esim_id=8, is_live=False))
    await worked_off(local)
    [delivery] = json.loads(tribi(database_url, "webhooks", "deliveries", "--json").stdout)
    assert delivery["payload"]["data"]["order_id"] == 7
    assert [(one["status"], one["said"]) for one in delivery["history"]] == [(500, "no")]
    listed = tribi(database_url, "webhooks", "deliveries", "--endpoint", "1", "--status", "pending", "--limit", "1")
    assert "refused 500" in listed.stdout
    again = tribi(database_url, "webhooks", "redeliver", str(delivery["id"]))
    assert again.stdout == f"Webhook delivery 1 ({delivery['message_id']}) goes out again to endpoint 1.\n"
    receiver.answer = None
    await worked_off(local)
    assert [one.status for one in await deliveries_on_file(house.db)] == ["delivered"]
