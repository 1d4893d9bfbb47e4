"""The install page in a real browser: on phones and desktops, in the dark, without script, without network, on paper."""

import re
from itertools import cycle
from typing import Literal

import pytest
from playwright.async_api import Browser, Page, Request, expect

from app.api.install_page import contents, no_page
from app.services.esims.installing import Stage
from app.traveller import LANGUAGES, texts_in
from tests.api.serving import Shop
from tests.api.test_install_page import bought, change, path_of
from tests.api.test_install_page_contents import OF_STAGE
from tests.chromium import (
    ANDROID,
    DESKTOP,
    IPHONE,
    PHONE,
    SMALL_PHONE,
    a_page,
    accessible,
    artefact,
    fits,
    photographed,
    qr_codes_in,
)
from tests.travellers import CODE, an_installing

# What is asked of the database is what test_install_page.py asks.
pytestmark = pytest.mark.without_pgbouncer

# Each stage once, in one of the languages, on one of the phones, by day or by night.
_VARIETY = cycle((language, scheme) for scheme in ("light", "dark") for language in LANGUAGES)
STAGES = [
    (stage, *next(_VARIETY), device, viewport)
    for stage, (device, viewport) in zip(Stage, cycle([("iphone", PHONE), ("android", SMALL_PHONE)]), strict=False)
]


@pytest.mark.parametrize(
    ("stage", "language", "scheme", "device", "viewport"), STAGES, ids=[f"{one[0]}-{one[1]}-{one[2]}" for one in STAGES]
)
async def test_every_stage_is_accessible_and_fits_a_phone(
    chromium: Browser, stage: Stage, language: str, scheme: str, device: str, viewport: dict[str, int]
) -> None:
    found = OF_STAGE[stage]
    t = texts_in(next(one for one in LANGUAGES if one == language))
    async with a_page(chromium, viewport, color_scheme=scheme, locale=language) as page:
        await page.set_content(contents(found, t, device))
        await photographed(page, f"stages/{stage}-{language}-{scheme}-{viewport['width']}")
        assert await fits(page)
        if stage in {Stage.CHECKING, Stage.OFF, Stage.IN_USE, Stage.USED_UP}:  # what the others are made of, too
            await accessible(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("name", "viewport", "device"),
    [("iphone", PHONE, "iphone"), ("android-320", SMALL_PHONE, "android"), ("desktop", DESKTOP, None)],
)
async def test_ready_to_install_it_is_accessible_everywhere_and_its_qr_is_read(
    chromium: Browser, name: str, viewport: dict[str, int], device: str | None, scheme: str
) -> None:
    async with a_page(chromium, viewport, color_scheme=scheme) as page:
        await page.set_content(contents(an_installing(is_live=scheme == "light"), texts_in("en"), device))
        assert qr_codes_in(await photographed(page, f"ready-{name}-{scheme}")) == [CODE]
        assert await fits(page)
        await accessible(page)


async def test_twice_the_size_of_text_loses_nothing(chromium: Browser) -> None:
    async with a_page(chromium, PHONE) as page:
        for language in LANGUAGES:
            await page.set_content(contents(OF_STAGE[Stage.READY], texts_in(language), "android"))
            await page.evaluate("document.documentElement.style.fontSize = '200%'")
            assert await fits(page), language
        await photographed(page, "ready-android-twice-the-size")


@pytest.mark.parametrize("kind", ["gone", "away"])
async def test_a_page_that_is_not_there_is_accessible(chromium: Browser, kind: Literal["gone", "away"]) -> None:
    async with a_page(chromium, SMALL_PHONE, color_scheme="dark") as page:
        await page.set_content(no_page(kind, texts_in("de"), "help@example.com"))
        await photographed(page, kind)
        assert await fits(page)
        await accessible(page)


async def test_what_is_tapped_is_large_enough_for_a_thumb(chromium: Browser) -> None:
    async with a_page(chromium, SMALL_PHONE) as page:
        await page.set_content(contents(OF_STAGE[Stage.READY], texts_in("fr"), "iphone", "https://example.com/help"))
        heights = await page.locator("a:visible, button:visible").evaluate_all(
            "found => found.map(one => one.getBoundingClientRect().height)"
        )
        assert len(heights) > 8
        assert min(heights) >= 44
        tap = await page.locator(".tap").first.bounding_box()
        assert tap is not None
        assert tap["y"] + tap["height"] < SMALL_PHONE["height"], "the button is seen without scrolling"


# As it is served


async def visited(page: Page, shop: Shop, path: str) -> list[str]:
    """Opens it; the addresses of all requests that the page makes, then and later."""
    requested: list[str] = []

    def note(request: Request) -> None:
        requested.append(request.url)

    page.on("request", note)
    reply = await page.goto(shop.url + path)
    assert reply is not None
    assert reply.ok
    return requested


async def test_the_open_page_needs_no_network_and_its_buttons_copy(chromium: Browser, shop: Shop) -> None:
    esim = await bought(shop)
    path = path_of(esim)
    async with a_page(chromium, user_agent=IPHONE, permissions=["clipboard-read", "clipboard-write"]) as page:
        requested = await visited(page, shop, path)
        online = await photographed(page, "served-iphone")
        await page.context.set_offline(offline=True)
        for id_, text in (
            ("whole", esim["activation_code"]),
            ("smdp", esim["smdp_address"]),
            ("matching", esim["matching_id"]),
        ):
            button = page.locator(f"button[data-copy={id_}]")
            await button.click()
            await expect(button).to_have_text("Copied")
            await expect(page.get_by_role("status")).to_have_text("Copied")
            assert await page.evaluate("navigator.clipboard.readText()") == text
        await page.locator("details summary").click()
        await expect(page.get_by_role("link", name="Install on Android")).to_be_visible()
        await accessible(page)
        assert qr_codes_in(online) == [esim["qr_code"]]
        assert requested == [shop.url + path]


async def test_where_the_clipboard_is_closed_the_text_is_copied_the_old_way(chromium: Browser, shop: Shop) -> None:
    esim = await bought(shop)
    async with a_page(chromium, user_agent=ANDROID) as page:
        await page.add_init_script("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
        await visited(page, shop, path_of(esim))
        button = page.locator("button[data-copy=whole]")
        await button.click()
        await expect(button).to_have_text("Copied")
        assert await page.evaluate("getSelection().toString()") == esim["activation_code"]


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
async def test_without_script_all_of_it_is_there_but_the_copy_buttons(
    chromium: Browser, shop: Shop, viewport: dict[str, int]
) -> None:
    esim = await bought(shop)
    device = IPHONE if viewport is PHONE else None
    async with a_page(chromium, viewport, java_script_enabled=False, user_agent=device) as page:
        requested = await visited(page, shop, path_of(esim))
        picture = await photographed(page, f"served-without-script-{viewport['width']}")
        assert qr_codes_in(picture) == [esim["qr_code"]]
        assert await page.locator("button:visible").count() == 0
        for text in ("TEST: this eSIM", esim["smdp_address"], esim["activation_code"], "Wi-Fi"):
            await expect(page.get_by_text(text).first).to_be_visible()
        await page.get_by_role("link", name="Deutsch").click()
        await expect(page.get_by_role("heading", name=texts_in("de")("stage.ready.title"))).to_be_visible()
        assert page.url == f"{shop.url}{path_of(esim)}?lang=de"
        assert len(requested) == 2


async def test_one_tap_goes_where_the_phone_listens_and_says_nothing_of_where_it_comes_from(
    chromium: Browser, shop: Shop
) -> None:
    esim = await bought(shop)
    async with a_page(chromium, user_agent=ANDROID) as page:
        await page.route(re.compile("^https://esimsetup"), lambda route: route.fulfill(body="the phone's own"))
        await visited(page, shop, path_of(esim))
        async with page.expect_request(re.compile("^https://esimsetup")) as tapped:
            await page.get_by_role("link", name="Install on Android").click()
        request = await tapped.value
        assert request.url == esim["install"]["android_url"]
        assert "referer" not in await request.all_headers()


async def test_who_comes_back_sees_how_it_is_now(chromium: Browser, shop: Shop) -> None:
    order = await shop.ordered()
    path = path_of(order["esim"])
    async with a_page(chromium) as page:
        requested = await visited(page, shop, path)
        await shop.activate(order["id"])
        # Chromium has no way to hide a tab from outside: the page is told what it would be told.
        for hidden in ("true", "false"):
            await page.evaluate(
                f"Object.defineProperty(document, 'hidden', {{value: {hidden}, configurable: true}});"
                "document.dispatchEvent(new Event('visibilitychange'))"
            )
        await expect(page.get_by_role("heading", name=texts_in("en")("stage.ready.title"))).to_be_visible()
        assert len(requested) == 2
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        assert len(requested) == 2, "what installs stays as it is: the network may be gone"


async def test_it_looks_again_when_it_is_told_to(chromium: Browser, shop: Shop) -> None:
    esim = await bought(shop)
    await change(shop, esim["id"], profile_state="enabled")
    async with a_page(chromium) as page:
        await visited(page, shop, f"{path_of(esim)}?lang=es")
        await change(shop, esim["id"], plan_state="active")
        await page.get_by_role("link", name=texts_in("es")("page.refresh")).click()
        await expect(page.get_by_role("heading", name=texts_in("es")("stage.in_use.title"))).to_be_visible()


@pytest.mark.parametrize("device", ["iphone", None], ids=["phone", "desktop"])
async def test_on_paper_it_is_one_page_black_on_white_with_the_qr(chromium: Browser, device: str | None) -> None:
    a4 = {"width": 703, "height": 1032}  # within margins of 12 mm
    async with a_page(chromium, a4, color_scheme="dark") as page:
        for language in LANGUAGES:
            await page.set_content(
                contents(an_installing(code=f"{CODE}$$1", is_live=False), texts_in(language), device)
            )
            pdf = await page.pdf(
                path=artefact(f"printed-{device or 'desktop'}-{language}.pdf"),
                format="A4",
                margin={"top": "12mm", "bottom": "12mm", "left": "12mm", "right": "12mm"},
            )
            assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == 1, language
        await page.emulate_media(media="print")
        picture = await photographed(page, f"printed-{device or 'desktop'}")
        assert qr_codes_in(picture) == [f"{CODE}$$1"]
        assert picture.getpixel((1, picture.height - 1)) == (255, 255, 255)
        colours = picture.getcolors(1 << 24) or []
        assert all(max(colour) - min(colour) < 8 for _, colour in colours if isinstance(colour, tuple))
