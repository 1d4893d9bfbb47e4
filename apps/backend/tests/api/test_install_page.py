"""The install page over HTTP: who gets it, what it may do, and that nothing secret is left anywhere."""

import base64
import hashlib
import re
from io import StringIO
from typing import Any

import aiohttp
import pytest
from sqlalchemy import text, update

from app.api import install_page
from app.models import EsimProfile, Order
from app.rate_limits import Limit
from app.traveller import LANGUAGES, Language, texts_in
from tests.api.conftest import a_database, a_shop, settings_on
from tests.api.serving import Reply, Shop, a_wish, served
from tests.builders import a_plan

IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148"
NOBODYS = "/i/" + "a" * 32


def path_of(esim: dict[str, Any]) -> str:
    found = re.fullmatch(r"https?://[^/]+(/i/[a-z2-7]{32})", esim["install"]["page_url"])
    assert found
    return found[1]


async def visit(shop: Shop, path: str, method: str = "GET", **headers: str) -> Reply:
    """As a traveller: without a key."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await shop.call(method, path, headers=named, anonymous=True)


async def bought(shop: Shop) -> dict[str, Any]:
    order = await shop.ordered()
    return dict((await shop.activate(order["id"])).json())


async def change(shop: Shop, esim_id: int, **columns: Any) -> None:
    async with shop.db.begin() as connection:
        await connection.execute(update(EsimProfile).where(EsimProfile.id == esim_id).values(**columns))


async def test_the_link_is_there_from_the_order_on_and_stays_the_same(each_shop: Shop) -> None:
    order = await each_shop.ordered()
    path = path_of(order["esim"])
    page = await visit(each_shop, path)
    assert page.status == 200
    assert texts_in("en")("stage.preparing.title") in page.body.decode()
    esim = (await each_shop.activate(order["id"])).json()
    assert path_of(esim) == path
    assert path_of((await each_shop.get(f"/api/esims/{esim['id']}")).json()) == path
    assert path_of((await each_shop.get(f"/api/orders/{order['id']}")).json()["esim"]) == path
    assert esim["activation_code"] in (await visit(each_shop, path)).body.decode()


async def test_a_repeated_order_has_the_same_link(shop: Shop) -> None:
    one, two = await shop.ordered(), await shop.ordered()
    assert path_of(one["esim"]) != path_of(two["esim"])


async def test_the_link_begins_with_what_the_public_may_reach(postgres_url: str) -> None:
    with a_database(postgres_url) as url:
        async with a_shop(settings_on(url, public_url="https://esims.example/shop")) as shop:
            order = await shop.ordered()
            assert order["esim"]["install"]["page_url"].startswith("https://esims.example/shop/i/")


async def test_it_follows_what_becomes_of_the_esim(shop: Shop) -> None:
    esim = await bought(shop)
    path = path_of(esim)
    for columns, stage in (
        ({}, "ready"),
        ({"profile_state": "enabled"}, "on"),
        ({"plan_state": "active", "data_used_mb": 1024, "data_total_mb": 5120, "usage_at": text("now()")}, "in_use"),
        ({"plan_state": "depleted"}, "used_up"),
    ):
        if columns:
            await change(shop, esim["id"], **columns)
        assert texts_in("en")(f"stage.{stage}.title") in (await visit(shop, path)).body.decode()
    async with shop.db.begin() as connection:
        await connection.execute(update(Order).where(Order.id == esim["order_id"]).values(status="refunded"))
    page = (await visit(shop, path)).body.decode()
    assert texts_in("en")("stage.refunded.title") in page
    assert esim["activation_code"] not in page


# Language and device


@pytest.mark.parametrize("language", LANGUAGES)
async def test_it_speaks_the_browsers_language_or_the_one_chosen(shop: Shop, language: Language) -> None:
    path = path_of((await shop.ordered())["esim"])
    title = texts_in(language)("stage.preparing.title")
    for page in (
        await visit(shop, path, accept_language=f"xx, {language}-XX;q=0.9, en;q=0.1"),
        await visit(shop, f"{path}?lang={language}", accept_language="ja"),
    ):
        assert page.headers["Content-Language"] == language
        assert f'<html lang="{language}">' in page.body.decode()
        assert title in page.body.decode()
        assert (
            f'<a href="?lang={language}" lang="{language}" hreflang="{language}" aria-current="true">'
            in page.body.decode()
        )


async def test_who_asks_for_no_language_of_ours_gets_the_one_they_are_mailed_in_and_the_shops_contact(
    postgres_url: str,
) -> None:
    with a_database(postgres_url) as url:
        settings = settings_on(url, default_language="de", support_contact="help@example.com")
        async with a_shop(settings) as shop:
            wish = a_wish(await a_plan(shop.db))
            wish["customer"]["locale"] = "fr-CA"
            in_french = path_of((await shop.place(wish)).json()["esim"])
            unsaid = path_of((await shop.ordered())["esim"])
            for path, header, language in (
                (in_french, "ja", "fr"),
                (in_french, "", "fr"),
                (in_french, "ja, pt;q=0.1", "pt"),
                (f"{in_french}?lang=es", "ja", "es"),
                (unsaid, "ja", "de"),
                (NOBODYS, "ja", "de"),
            ):
                page = await visit(shop, path, accept_language=header)
                assert page.headers["Content-Language"] == language
                assert f'<html lang="{language}">' in page.body.decode()
                assert 'href="mailto:help@example.com"' in page.body.decode()


@pytest.mark.parametrize("lang", ["xx", "", "%22%3E%3Cscript%3E", "en&lang=fr", "%00"])
async def test_an_odd_choice_of_language_does_no_harm(shop: Shop, lang: str) -> None:
    page = await visit(shop, f"{NOBODYS}?lang={lang}", accept_language="de")
    assert page.status == 404
    assert b"<script>" not in page.body


async def test_a_phone_gets_its_own_button(shop: Shop) -> None:
    esim = await bought(shop)
    page = (await visit(shop, path_of(esim), user_agent=IPHONE)).body.decode()
    assert f'<a class="tap" href="{esim["install"]["ios_url"]}" rel="noreferrer">' in page


# What isn't there, or not any more


def shared_headers(reply: Reply) -> set[tuple[str, str]]:
    """Without those that each reply has of its own."""
    own = {"date", "x-request-id"}
    return {(name.lower(), value) for name, value in reply.headers.items() if name.lower() not in own}


async def test_of_all_links_that_do_not_work_the_answer_is_the_same(shop: Shop) -> None:
    withdrawn, expired = await bought(shop), await bought(shop)
    await change(shop, withdrawn["id"], page_token=None, page_token_hash=None, page_expires_at=text("now()"))
    await change(shop, expired["id"], page_expires_at=text("now()"))
    whole = path_of(await bought(shop))
    for path in (
        NOBODYS,
        path_of(withdrawn),
        path_of(expired),
        whole[:-1],
        whole + "a",
        whole.upper().replace("/I/", "/i/"),
        whole + "/",
        "/i/",
        "/i/%00",
        "/i/..%2f",
        "/i/" + "x" * 5000,
        "/i/%e9",
    ):
        for language in ("en", "fr"):
            page = await visit(shop, path, accept_language=language)
            nobodys = await visit(shop, NOBODYS, accept_language=language)
            assert (page.status, page.body) == (404, nobodys.body), path
            t = texts_in("en" if language == "en" else "fr")
            assert t("gone.title") in page.body.decode()
            assert shared_headers(page) == shared_headers(nobodys)
    for esim in (withdrawn, expired):
        assert (await shop.get(f"/api/esims/{esim['id']}")).json()["install"]["page_url"] is None


async def test_head_is_get_without_the_body(shop: Shop) -> None:
    path = path_of(await bought(shop))
    got, head = await visit(shop, path), await visit(shop, path, "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == str(len(got.body))
    assert (await visit(shop, NOBODYS, "HEAD")).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_it_takes_no_other_method(shop: Shop, method: str) -> None:
    reply = await visit(shop, path_of(await bought(shop)), method)
    assert reply.problem == (405, "method-not-allowed")


async def test_while_the_database_is_away_it_says_so_in_plain_words(postgres_url: str) -> None:
    # never migrated: as far away as can be
    with a_database(postgres_url, "template1") as url, served(settings_on(url)) as server:
        async with (
            aiohttp.ClientSession(headers={"Accept-Language": "pt"}) as http,
            http.get(server.url + NOBODYS) as page,
        ):
            assert (page.status, page.headers["Retry-After"]) == (503, "60")
            assert page.headers["Cache-Control"] == "no-store"
            assert texts_in("pt")("away.title") in await page.text()


# What it may do


@pytest.mark.parametrize("is_there", [True, False])
async def test_nothing_keeps_it_and_it_may_do_nothing_but_show_itself(shop: Shop, is_there: bool) -> None:
    page = await visit(shop, path_of(await bought(shop)) if is_there else NOBODYS)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert page.headers["X-Robots-Tag"] == "noindex, nofollow"
    assert "Set-Cookie" not in page.headers
    policy = dict(part.strip().split(" ", 1) for part in page.headers["Content-Security-Policy"].split(";"))
    nothing = ("default-src", "object-src", "base-uri", "form-action", "frame-ancestors")
    assert [policy[name] for name in nothing] == ["'none'"] * len(nothing)
    assert policy["img-src"] == "data:"
    html = page.body.decode()
    for name, tag in (("style-src", "style"), ("script-src", "script")):
        allowed = re.fullmatch(r"'sha256-([A-Za-z0-9+/=]{44})'", policy[name])
        assert allowed
        there = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        assert len(there) == (0 if tag == "script" and not is_there else 1)
        assert all(base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() == allowed[1] for one in there)


async def test_no_log_has_the_link_or_the_code(shop: Shop, server_log: StringIO) -> None:
    esim = await bought(shop)
    path = path_of(esim)
    before = len(server_log.getvalue())
    await visit(shop, path)
    await visit(shop, f"{path}?lang=de", "HEAD")
    await visit(shop, path + "x")
    logged = server_log.getvalue()
    token = path.removeprefix("/i/")
    assert '"route": "/i/{token}"' in logged[before:]
    for secret in (token, esim["activation_code"], esim["matching_id"], esim["iccid"]):
        assert secret not in logged
    metrics = await shop.get("/metrics")
    assert token.encode() not in metrics.body


async def test_the_link_is_no_part_of_the_apis_document(document: dict[str, Any]) -> None:
    assert not [path for path in document["paths"] if path.startswith("/i/")]
    described = document["components"]["schemas"]["Install"]["properties"]["page_url"]["description"]
    assert "withdrawn" in described


async def test_who_tries_links_is_held_up_and_who_has_one_is_not(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install_page, "MISSES", Limit("of this test", 3, 3600))
    with a_database(postgres_url) as url:
        async with a_shop(settings_on(url)) as shop:
            path = path_of((await shop.ordered())["esim"])
            assert [(await visit(shop, f"/i/{letter * 32}")).status for letter in "abcd"] == [404, 404, 404, 429]
            refused = await visit(shop, "/i/nothing-that-could-be-one")
            assert 1 <= int(refused.headers["Retry-After"]) <= 1200
            assert texts_in("en")("away.title") in refused.body.decode()
            assert (await visit(shop, path)).status == 200
