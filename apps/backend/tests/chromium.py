"""The system's Chromium, one for all tests, and what they look at with it. Pictures are kept in `artefacts/`."""

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import zxingcpp
from PIL import Image
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from app.settings import BACKEND_DIR
from tests.system_packages import the_command

ARTEFACTS = BACKEND_DIR.parents[1] / "artefacts"

PHONE = {"width": 390, "height": 844}
SMALL_PHONE = {"width": 320, "height": 640}
DESKTOP = {"width": 1280, "height": 800}

IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148"
ANDROID = (
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Mobile Safari/537.36"
)

_AXE = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")  # the one thing that it is here for
# Off unless asked for: the size of what is tapped (WCAG 2.2, 2.5.8).
_OPTIONS = {"resultTypes": ["violations", "incomplete"], "rules": {"target-size": {"enabled": True}}}


@asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        # No sandbox: CI runs as root, and the pages are our own.
        arguments = ["--no-sandbox", "--disable-gpu"]
        browser = await playwright.chromium.launch(executable_path=the_command("chromium"), args=arguments)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def a_page(browser: Browser, viewport: Any = PHONE, **options: Any) -> AsyncIterator[Page]:
    """
    A page in a context of its own, which fails the test at its end if anything went wrong in it: an error of a script, something
    that its policy forbids.
    """
    context: BrowserContext = await browser.new_context(viewport=viewport, **options)
    try:
        page = await context.new_page()
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text))
        yield page
        assert wrong == []
    finally:
        await context.close()


async def accessible(page: Page) -> None:
    """axe-core finds nothing, and nothing that it isn't sure of."""
    await page.evaluate(_AXE)
    found = await page.evaluate("options => axe.run(options)", _OPTIONS)
    assert [_told(one) for one in found["violations"] + found["incomplete"]] == []


def _told(finding: dict[str, Any]) -> str:
    nodes = "; ".join(f"{node['html'][:120]}: {node.get('failureSummary', '')}" for node in finding["nodes"][:3])
    return f"{finding['id']}: {nodes}"


async def photographed(page: Page, name: str) -> Image.Image:
    """The whole page, kept as `artefacts/<name>.png`."""
    path = ARTEFACTS / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture := await page.screenshot(full_page=True))
    with Image.open(io.BytesIO(picture)) as image:
        return image.convert("RGB")


def qr_codes_in(image: Image.Image) -> list[str]:
    """The texts of the QR codes in a picture."""
    return [found.text for found in zxingcpp.read_barcodes(image.convert("L"))]


async def fits(page: Page) -> bool:
    """Whether nothing has to be scrolled sideways."""
    return bool(await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))


def artefact(name: str) -> Path:
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    return ARTEFACTS / name
