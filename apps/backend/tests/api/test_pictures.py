"""GET /api/esims/{id}/qr.png and qr.svg."""

import re
from io import BytesIO
from xml.etree import ElementTree as ET

import pytest
import zxingcpp
from PIL import Image

from tests.api.conftest import script
from tests.api.serving import Shop
from tests.stand_in import StandIn

KINDS = {"png": "image/png", "svg": "image/svg+xml"}


def text_in_png(data: bytes) -> str:
    return zxingcpp.read_barcodes(Image.open(BytesIO(data)).convert("L"))[0].text


def text_in_svg(data: bytes) -> str:
    """Drawn by its own rectangles: all modules are one path of `M x y h width v1 h-width z`."""
    root = ET.fromstring(data)  # noqa: S314 - our own picture
    width, height = (int(side) for side in root.attrib["viewBox"].split()[2:])
    image = Image.new("L", (width, height), 255)
    [path] = [node.attrib["d"] for node in root if node.tag.endswith("path")]
    for x, y, run in re.findall(r"M(\d+) (\d+)h(\d+)v1h-\d+z", path):
        image.paste(0, (int(x), int(y), int(x) + int(run), int(y) + 1))
    return zxingcpp.read_barcodes(image.resize((width * 8, height * 8), Image.Resampling.NEAREST))[0].text


async def test_both_pictures_are_of_the_qr_code_and_say_test(each_shop: Shop) -> None:
    shop, order = each_shop, await each_shop.ordered()
    esim = (await shop.activate(order["id"])).json()
    png = await shop.get(f"/api/esims/{esim['id']}/qr.png")
    svg = await shop.get(f"/api/esims/{esim['id']}/qr.svg")
    assert [(reply.status, reply.headers["Content-Type"]) for reply in (png, svg)] == [
        (200, kind) for kind in KINDS.values()
    ]
    assert [reply.headers["Cache-Control"] for reply in (png, svg)] == ["no-store", "no-store"]
    assert (text_in_png(png.body), text_in_svg(svg.body)) == (esim["qr_code"], esim["qr_code"])
    assert b">TEST</text>" in svg.body
    width, height = Image.open(BytesIO(png.body)).size
    assert height > width, "the label stands below"


async def test_a_live_esims_pictures_say_nothing_and_are_of_what_the_provider_wants(
    live_shop: Shop, supplier: StandIn
) -> None:
    order = await live_shop.ordered()
    script(supplier, "qr_differs", order)
    esim = (await live_shop.activate(order["id"])).json()
    assert esim["qr_code"] != esim["activation_code"]
    png = await live_shop.get(f"/api/esims/{esim['id']}/qr.png")
    svg = await live_shop.get(f"/api/esims/{esim['id']}/qr.svg")
    assert (text_in_png(png.body), text_in_svg(svg.body)) == (esim["qr_code"], esim["qr_code"])
    assert b"<text" not in svg.body
    width, height = Image.open(BytesIO(png.body)).size
    assert height == width


@pytest.mark.parametrize("kind", KINDS)
async def test_before_it_is_provisioned_there_is_no_picture(shop: Shop, kind: str) -> None:
    order = await shop.ordered()
    reply = await shop.get(f"/api/esims/{order['esim']['id']}/qr.{kind}")
    assert reply.problem == (404, "not-found")
    assert "provisioned" in reply.json()["detail"]
