"""`GET /i/{token}`: the page with which a traveller installs an eSIM and sees how it is with it. One document, and nothing else."""

import hashlib
import re
from base64 import b64encode
from http import HTTPStatus
from importlib.resources import files
from typing import Annotated, Any, Final, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse, Response

from app.api.access import UnsettledOffice
from app.api.browsers import client_of
from app.errors import DatabaseUnavailable, RateLimited
from app.install_links import install_links
from app.qr import MIN_SCALE, QrImpossible, qr_png
from app.rate_limits import Limit, take
from app.services.esims.installing import Installing, Stage, installing_by_token
from app.traveller import LANGUAGES, Language, Texts, choose_language, render, texts_in
from app.values.activation_code import ActivationCode

router = APIRouter(include_in_schema=False)

_STYLE: Final = (files("app.traveller") / "templates" / "page.css").read_text(encoding="utf-8")
_SCRIPT: Final = (files("app.traveller") / "templates" / "page.js").read_text(encoding="utf-8")


def _source(inline: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(inline.encode()).digest()).decode()}'"


_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src {_source(_STYLE)}; script-src {_source(_SCRIPT)}; img-src data:; "
        "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Robots-Tag": "noindex, nofollow",
    "Vary": "Accept-Language, User-Agent",
}
_RETRY_AFTER_S: Final = 60

MISSES: Final = Limit("install pages: misses of a client", 100, 3600)
"""Links that find nothing: cut off, withdrawn or guessed. Who holds one that works isn't counted (ASVS 2.4.1)."""

# The page is to stay below 60 kB, whatever a provider has sent.
_LONGEST_CODE: Final = 2500
_LONGEST_LINK: Final = 400
_LONGEST_INSTRUCTIONS: Final = 2000

_IPHONE: Final = re.compile(r"\b(?:iPhone|iPad|iPod)\b")
_ANDROID: Final = re.compile(r"\bAndroid\b")

_WAIT: Final = frozenset({Stage.PREPARING, Stage.LATE, Stage.CHECKING, Stage.NOT_SUPPLIED})
_OVER: Final = frozenset({Stage.CANCELLED, Stage.REFUNDED, Stage.DELETED, Stage.USED_UP, Stage.EXPIRED, Stage.ENDED})
_FOLDED: Final = frozenset({Stage.DOWNLOADED, Stage.INSTALLED, Stage.ON, Stage.OFF, Stage.IN_USE})
_GOOD: Final = frozenset({Stage.ON, Stage.IN_USE})
_STEPS_DONE: Final = {
    Stage.READY: 0,
    Stage.DOWNLOADED: 0,
    Stage.INSTALLED: 1,
    Stage.OFF: 1,
    Stage.ON: 2,
    Stage.IN_USE: 3,
}
_TRACK: Final = ("track.installed", "track.switched_on", "track.in_use")
_MOST_COUNTRIES_NAMED: Final = 3


@router.get("/i/{token:path}")
async def install_page(
    request: Request,
    office: UnsettledOffice,
    token: str,
    lang: Annotated[str | None, Query()] = None,
) -> Response:
    """Needs no key: who holds the link may see it. Whatever is wrong with a link, the answer is the same."""
    settings = office.house.settings
    contact = settings.support_contact
    liked = request.headers.get("accept-language")
    language = choose_language(liked, wish=lang, otherwise=settings.default_language)
    try:
        vault = office.house.vault
        async with office.house.db.read() as connection:
            found = await installing_by_token(connection, vault, token)
        if found is None:
            async with office.house.db.begin() as connection:
                await take(connection, vault, (MISSES, client_of(request)))
            return _reply(no_page("gone", texts_in(language), contact), language, HTTPStatus.NOT_FOUND)
    except DatabaseUnavailable:
        retry, status = str(_RETRY_AFTER_S), HTTPStatus.SERVICE_UNAVAILABLE
    except RateLimited as error:
        retry, status = str(error.retry_after_s), HTTPStatus.TOO_MANY_REQUESTS
    else:
        # Where neither the reader nor their browser asks for one of ours, it is the language that they are mailed in.
        theirs = choose_language(found.customer_locale, otherwise=settings.default_language)
        language = choose_language(liked, wish=lang, otherwise=theirs)
        device = device_of(request.headers.get("user-agent", ""))
        return _reply(contents(found, texts_in(language), device, contact), language)
    return _reply(no_page("away", texts_in(language), contact), language, status, {"Retry-After": retry})


def _reply(
    html: str, language: Language, status: HTTPStatus = HTTPStatus.OK, headers: dict[str, str] | None = None
) -> Response:
    return HTMLResponse(html, status, _HEADERS | {"Content-Language": language} | (headers or {}))


def _frame(contact: str | None) -> dict[str, Any]:
    """What the template around all pages wants."""
    names = [(language, texts_in(language)("language.name")) for language in LANGUAGES]
    return {"style": _STYLE, "script": _SCRIPT, "languages": names, "contact": contact and _contact(contact)}


def _contact(contact: str) -> dict[str, Any]:
    """A page opens beside this one: that may be gone when there is no network to come back with."""
    is_page = "://" in contact
    href = contact if is_page else f"mailto:{quote(contact, safe='@')}"
    return {"shown": contact, "href": href, "is_page": is_page}


def device_of(user_agent: str) -> str | None:
    """None for what isn't a phone. An iPad says that it is a Mac, and gets what suits both."""
    if _IPHONE.search(user_agent):
        return "iphone"
    return "android" if _ANDROID.search(user_agent) else None


def contents(found: Installing, t: Texts, device: str | None, contact: str | None = None) -> str:
    """
    The page itself.

    Args:
        device: as `device_of` tells it.
        contact: where travellers find help, an e-mail address or a URL; None where there is no such place.
    """
    return render("install_page.html", t, **_frame(contact), **_values(found, t, device))


def no_page(kind: Literal["gone", "away"], t: Texts, contact: str | None = None) -> str:
    """What stands where the page doesn't: its link finds nothing, or the database is away."""
    return render("no_page.html", t, **_frame(contact), kind=kind)


def _values(found: Installing, t: Texts, device: str | None) -> dict[str, Any]:
    esim, stage = found.esim, found.stage
    code = esim.activation_code if stage is Stage.READY or stage in _FOLDED else None
    is_shown = code is not None and len(code.lpa) <= _LONGEST_CODE
    links = install_links(code) if code is not None and len(code.lpa) <= _LONGEST_LINK else install_links("")
    done = _STEPS_DONE.get(stage)
    return {
        "is_live": esim.is_live,
        "order_id": esim.order_id,
        "plan": _plan(found.plan_snapshot, t),
        "stage": stage.value,
        "mood": "wait" if stage in _WAIT or stage in _OVER else "good" if stage in _GOOD else "",
        "track": None if done is None else [(key, number < done) for number, key in enumerate(_TRACK)],
        "may_change": stage in _WAIT or stage in _FOLDED,
        "again": f"?lang={t.language}",
        "usage": _usage(found, t),
        "installing": "open" if stage is Stage.READY else "folded" if stage in _FOLDED else None,
        "phone": device,
        "links": {"iphone": links.ios_url, "android": links.android_url},
        "code": _code(code) if is_shown and code is not None else {"is_shown": False},
        "qr": _qr(esim.qr_code, is_live=esim.is_live) if is_shown else None,
        "from_network": (esim.instructions or "").strip()[:_LONGEST_INSTRUCTIONS],
    }


def _plan(snapshot: dict[str, Any], t: Texts) -> dict[str, str]:
    countries = snapshot.get("countries") or [snapshot["country_iso2"]]
    named = ", ".join(t.country(country) for country in countries)
    return {
        "name": snapshot["name"],
        "countries": named if len(countries) <= _MOST_COUNTRIES_NAMED else t.counted("plan.countries", len(countries)),
        "data": t.data(snapshot["data_mb"]),
        "days": t.counted("plan.days", snapshot["validity_days"]),
    }


def _code(code: ActivationCode) -> dict[str, Any]:
    return {
        "is_shown": True,
        "is_odd": code.smdp_address is None,
        "smdp_address": code.smdp_address,
        "matching_id": code.matching_id,
        "whole": code.lpa,
        "confirmation_code_required": code.confirmation_code_required,
    }


def _qr(text: str | None, *, is_live: bool) -> dict[str, Any] | None:
    """
    As a picture and not as SVG within the page: only on a picture does an iPhone (iOS 17.4) offer to add the eSIM when a finger is
    held on it, and it is a quarter of the size.
    """
    if text is None:
        return None
    try:
        png = qr_png(text, label=None if is_live else "TEST")
    except QrImpossible:
        return None
    width, height = (int.from_bytes(png[at : at + 4]) // MIN_SCALE * MIN_SCALE for at in (16, 20))  # its IHDR
    return {"src": f"data:image/png;base64,{b64encode(png).decode()}", "width": width, "height": height}


def _usage(found: Installing, t: Texts) -> dict[str, Any] | None:
    """What is left of data and days; None where nothing is known of either, or it is over."""
    esim, left, days = found.esim, found.data_left_mb, found.days_left
    if found.stage not in _FOLDED or (esim.data_used_mb is None and days is None):
        return None
    usage: dict[str, Any] = dict.fromkeys(("left", "used", "percent", "days", "until", "as_of"))
    if left is not None and esim.data_total_mb:
        total = esim.data_total_mb
        usage["left"] = t("usage.left", left=t.data(left, of_mb=total), total=t.data(total))
        usage["percent"] = round(100 * left / total)
    elif esim.data_used_mb is not None:
        usage["used"] = t("usage.used", used=t.data(esim.data_used_mb))
    if days is not None and found.ends_at is not None:
        usage["days"] = t.counted("usage.days", days)
        usage["until"] = t("usage.until", time=t.instant(found.ends_at))
    if esim.data_used_mb is not None and esim.usage_at is not None:
        usage["as_of"] = t("usage.as_of", time=t.instant(esim.usage_at))
    return usage
