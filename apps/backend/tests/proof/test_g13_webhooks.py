"""G13: a provider's webhooks can't be forged, are stored once, and lead to the same end in any order."""

from pathlib import Path

import pytest

from app.house import House
from tests.api.conftest import settings_on
from tests.api.serving import served
from tests.builders import an_order, provisioned
from tests.chaos import g13
from tests.chaos.outcome import no_tick


async def test_forgeries_are_refused_repeats_are_one_and_the_order_does_not_matter(
    house: House, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIBI_DATA_DIR", str(tmp_path))
    settings = settings_on(
        database_url, connected_you_webhook_header=g13.HEADER, connected_you_webhook_secret=g13.SECRET
    )
    some_orders = g13.ORDERS[::60]
    with served(settings) as server:
        sender = g13.Sender(server.url, house.db)
        await g13.forged(sender, flips=1_000, seed=13, tick=no_tick)
        *iccids, once = await provisioned(house.db, house.vault, [await an_order(house.db) for _ in range(13)])
        await g13.in_every_order(sender, iccids, some_orders)
        await g13.replayed(sender, once, 500)
        sender.close()
    assert sender.failures == []
    assert sender.counts["scripted forgeries"] >= 60
    assert sender.counts["no HTTP, 400"] > 10
