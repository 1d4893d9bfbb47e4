"""The install page over HTTP: who gets it, what it is allowed to do, and that nothing secret is left anywhere."""

import re
from typing import Any

from sqlalchemy import update

from app.models import EsimProfile
from app.traveller import texts_in
from tests.api.serving import Shop

IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148"


def path_of(esim: dict[str, Any]) -> str:
    found = re.fullmatch(r"https?://[^/]+(/i/[a-z2-7]{32})", esim["install"]["page_url"])
    assert found
    return found[1]


async def changed(shop: Shop, esim_id: int, **columns: Any) -> None:
    async with shop.db.begin() as connection:
        await connection.execute(update(EsimProfile).where(EsimProfile.id == esim_id).values(**columns))


async def test_the_link_is_there_from_the_order_on_and_stays_the_same(each_shop: Shop) -> None:
    order = await each_shop.ordered()
    path = path_of(order["esim"])
    page = await each_shop.get(path, anonymous=True)
    assert page.status == 200
    assert texts_in("en")("stage.preparing.title") in page.body.decode()
    esim = (await each_shop.activate(order["id"])).json()
    assert path_of(esim) == path
    assert path_of((await each_shop.get(f"/api/esims/{esim['id']}")).json()) == path
    page = await each_shop.get(path, anonymous=True)
    assert esim["activation_code"] in page.body.decode()
