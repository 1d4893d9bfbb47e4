"""Every installation's end looks for secrets in what its programs wrote; here it is shown that it would find them."""

import json
from base64 import b64encode
from urllib.parse import quote

import pytest

from tests.processes.canaries import found_in
from tests.processes.installations import (
    API_KEY,
    EMAIL,
    NAME,
    PARTNER_ID,
    WEBHOOK_SECRET,
    Installation,
    Server,
)
from tests.processes.programs import until

SECRET = "Zoë /\"o'=&+"


@pytest.mark.parametrize(
    "written",
    [
        SECRET,
        SECRET.upper(),
        quote(SECRET),
        quote(SECRET, safe=""),
        json.dumps({"line": SECRET}),
        json.dumps({"line": json.dumps({"name": SECRET})}),
        repr([SECRET]),
        repr([SECRET.encode()]),
        b64encode(SECRET.encode()).decode(),
    ],
)
def test_a_secret_is_found_however_it_is_written(written: str) -> None:
    assert found_in(f"before {written} after", [SECRET, "another"]) == [SECRET]


async def test_there_is_something_to_look_through(shared: Installation, servers: list[Server]) -> None:
    """A purchase, a refusal that repeats what it was sent, and news of both kinds, told at the most talkative level."""
    bought, refused = await shared.order(), await shared.order()
    said = {"status": 422, "body": {"message": f"{NAME} <{EMAIL}> of {PARTNER_ID}: not with {API_KEY}"}}
    await shared.supplier.post("script", {"faults": [said], "reference": f"order-{refused}"})
    assert (await servers[0].activate(bought)).status == 201
    assert (await servers[0].activate(refused)).status == 502
    assert servers[0].events("esims.activated")
    [issued] = shared.issued(bought)
    for secret, status in ((WEBHOOK_SECRET, 200), (f"{WEBHOOK_SECRET}?", 401)):
        news = {"event_type": WEBHOOK_SECRET, "iccid": issued.iccid, "event_timestamp": "now", "eid": EMAIL}
        told = await servers[0].shop.post("/api/webhooks/connected_you", news, headers={"X-Webhook-Secret": secret})
        assert told.status == status
    await until(lambda: any(server.events("news.looked_at") for server in servers))
    [failure] = [event for event in servers[0].events("esims.activation_failed") if event["order_id"] == refused]
    assert "422" in failure["error"]
    assert any('"level": "debug"' in line for line in servers[0].log.read_text().splitlines())
    assert shared.issued(bought)
    assert found_in(shared.written(), shared.canaries()) == []
