"""What stands on the install page, for every stage in every language; nothing here needs a server."""

import re
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from typing import Literal

import pytest

from app.api import install_page
from app.api.install_page import contents
from app.models.esims import PROFILE_STATES
from app.services.esims.installing import Installing, Stage
from app.traveller import LANGUAGES, Language, texts_in
from tests.travellers import CODE, NOW, PLAN, an_installing

MOST_BYTES = 60_000
DEVICES = ("iphone", "android", None)

OF_STAGE: dict[Stage, Installing] = {
    Stage.PREPARING: an_installing(status="provisioning"),
    Stage.LATE: an_installing(status="pending", ordered_at=NOW - timedelta(hours=1)),
    Stage.CHECKING: an_installing(status="unknown"),
    Stage.NOT_SUPPLIED: an_installing(status="refused"),
    Stage.CANCELLED: an_installing(status="cancelled", order_status="cancelled"),
    Stage.REFUNDED: an_installing(order_status="refunded"),
    Stage.READY: an_installing(),
    Stage.DOWNLOADED: an_installing(profile_state="downloaded"),
    Stage.INSTALLED: an_installing(profile_state="installed"),
    Stage.ON: an_installing(profile_state="enabled"),
    Stage.OFF: an_installing(profile_state="disabled", plan_state="active", data_used_mb=1.0, usage_at=NOW),
    Stage.IN_USE: an_installing(
        profile_state="enabled",
        plan_state="active",
        data_used_mb=1843.2,
        data_total_mb=5120.0,
        usage_at=NOW,
        ends_at=NOW + timedelta(days=11, hours=3),
    ),
    Stage.DELETED: an_installing(profile_state="deleted"),
    Stage.USED_UP: an_installing(profile_state="enabled", plan_state="depleted"),
    Stage.EXPIRED: an_installing(plan_state="expired"),
    Stage.ENDED: an_installing(plan_state="terminated"),
}
WITH_CODE = {Stage.READY, Stage.DOWNLOADED, Stage.INSTALLED, Stage.ON, Stage.OFF, Stage.IN_USE}


def page(found: Installing, language: Language = "en", device: str | None = None) -> str:
    return contents(found, texts_in(language), device)


class _Text(HTMLParser):
    """What is to be read on a page, attributes that are read out included."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self._is_hidden = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._is_hidden = tag in {"style", "script"}
        self.pieces += [value for name, value in attrs if name in {"alt", "aria-label", "data-done"} and value]

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002 - the base class's signature
        self._is_hidden = False

    def handle_data(self, data: str) -> None:
        if not self._is_hidden and data.strip():
            self.pieces.append(data.strip())


def read(html: str) -> str:
    return "\n".join(_Text(html).pieces)


def test_the_stages_here_are_all_there_are() -> None:
    assert set(OF_STAGE) == set(Stage)
    assert all(found.stage == stage for stage, found in OF_STAGE.items())


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("stage", Stage)
def test_every_stage_can_be_read_in_every_language(stage: Stage, language: Language) -> None:
    t, english = texts_in(language), texts_in("en")
    for device in DEVICES:
        text = read(page(OF_STAGE[stage], language, device))
        assert t(f"stage.{stage}.title") in text
        assert t(f"stage.{stage}.text") in text
        assert t("page.shop", number="4711") in text
        assert "{" not in text
        if language != "en":
            own = {english("language.name"), *(one for key in t.keys for one in t.raw(key))}
            left = [
                one
                for key in english.keys
                for one in english.raw(key)
                if len(one) > 5 and one not in own and one in text
            ]
            assert left == [], "English was left over"


@pytest.mark.parametrize("stage", Stage)
def test_the_code_is_shown_while_it_can_be_of_use_and_not_longer(stage: Stage) -> None:
    html = page(OF_STAGE[stage], device="iphone")
    assert (CODE in html) == (stage in WITH_CODE)
    assert ("data:image/png" in html) == (stage in WITH_CODE)
    assert ("esimsetup.apple.com" in html) == (stage in WITH_CODE)


def test_on_a_phone_its_own_button_comes_first_and_the_other_is_folded() -> None:
    for device, own, other in (
        ("iphone", "esimsetup.apple.com", "esimsetup.android.com"),
        ("android", "esimsetup.android.com", "esimsetup.apple.com"),
    ):
        html = page(OF_STAGE[Stage.READY], device=device)
        assert html.index(own) < html.index("data:image/png") < html.index("<details>") < html.index(other)
        assert re.search(rf'<a class="tap" href="https://{re.escape(own)}/[^"]+" rel="noreferrer">', html)


def test_elsewhere_both_phones_are_told_of() -> None:
    html = page(OF_STAGE[Stage.READY])
    assert "<details>" not in html
    for text in (*texts_in("en").each("steps.iphone"), *texts_in("en").each("steps.android")):
        assert text.replace("&", "&amp;") in html


@pytest.mark.parametrize(
    ("user_agent", "device"),
    [
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15", "iphone"),
        ("Mozilla/5.0 (iPad; CPU OS 17_4 like Mac OS X)", "iphone"),
        ("Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36", "android"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15", None),
        ("Mozilla/5.0 (X11; Linux x86_64)", None),
        ("", None),
        ("iPhoneX AndroidX", None),
    ],
)
def test_the_device_is_read_from_the_browsers_name(user_agent: str, device: str | None) -> None:
    assert install_page.device_of(user_agent) == device


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("stage", Stage)
def test_what_is_not_live_says_test_in_all_places(stage: Stage, language: Language) -> None:
    found = OF_STAGE[stage]
    live = read(page(found, language))
    assert "TEST" not in live
    trial = page(replace(found, esim=replace(found.esim, is_live=False)), language)
    assert texts_in(language)("test.notice") in read(trial)
    assert re.search("<title>TEST · ", trial)
    if stage in WITH_CODE:
        assert 'alt="TEST: ' in trial
        assert re.findall('data:image/png[^"]*', trial) != re.findall('data:image/png[^"]*', page(found, language))


@pytest.mark.parametrize(
    ("stage", "done"),
    [(Stage.READY, 0), (Stage.DOWNLOADED, 0), (Stage.INSTALLED, 1), (Stage.OFF, 1), (Stage.ON, 2), (Stage.IN_USE, 3)],
)
def test_how_far_it_is_is_marked(stage: Stage, done: int) -> None:
    html = page(OF_STAGE[stage])
    assert html.count('<li class="done">') == done
    assert read(html).count("(done)") == done


def test_what_is_left_is_told_with_its_time() -> None:
    text = read(page(OF_STAGE[Stage.IN_USE], "es"))
    assert "Disponible: 3,2\xa0GB de 5\xa0GB" in text
    assert "Quedan 12 días, hasta el 14 nov 2026, 17:05 UTC" in text
    assert "Actualizado: 3 nov 2026, 14:05 UTC" in text
    html = page(OF_STAGE[Stage.IN_USE])
    assert '<progress aria-labelledby="usage" max="100" value="64">' in html


def test_what_is_not_known_is_not_told() -> None:
    assert "<progress" not in page(OF_STAGE[Stage.OFF])
    assert "1\xa0MB used" in read(page(OF_STAGE[Stage.OFF]))
    assert texts_in("en")("usage.heading") not in read(page(OF_STAGE[Stage.ON]))


@pytest.mark.parametrize(
    ("countries", "told"),
    [(["ES"], "Espagne"), (["ES", "PT"], "Espagne, Portugal"), (["ES", "PT", "FR", "IT"], "4 pays")],
)
def test_the_plan_is_named_with_its_countries(countries: list[str], told: str) -> None:
    text = read(page(an_installing(plan_snapshot=PLAN | {"countries": countries}), "fr"))
    assert f"{told} · 5\xa0Go · 30 jours" in text


# Odd codes


def test_an_odd_code_goes_whole_and_without_one_tap() -> None:
    html = page(an_installing(code="LPA:1$XYZ <script>\"&'"), device="iphone")
    assert "XYZ <script>" not in html
    assert "LPA:1$XYZ &lt;script&gt;" in html
    assert "esimsetup" not in html
    text = read(html)
    assert texts_in("en")("page.code_odd") in text
    assert texts_in("en")("manual.smdp_address") not in text
    assert "data:image/png" in html


def test_an_empty_matching_id_and_a_confirmation_code_are_told() -> None:
    assert texts_in("en")("manual.matching_id_empty") in read(page(an_installing(code="LPA:1$SMDP.EXAMPLE.COM$")))
    text = read(page(an_installing(code="LPA:1$SMDP.EXAMPLE.COM$A1$$1")))
    assert texts_in("en")("manual.confirmation_code_needed") in text
    assert texts_in("en")("manual.confirmation_code_needed") not in read(page(OF_STAGE[Stage.READY]))


def test_a_code_too_long_for_a_qr_is_for_typing() -> None:
    html = page(an_installing(code="LPA:1$" + "é" * 2400), device="android")
    assert "data:image/png" not in html
    assert texts_in("en")("qr.impossible") in read(html)
    assert "é" * 2400 in html


def test_a_code_too_long_for_anything_is_not_shown() -> None:
    html = page(an_installing(code="LPA:1$" + "A" * 100_000))
    assert "AAAA" not in html
    assert texts_in("en")("page.code_not_shown") in read(html)


def test_the_page_stays_small_whatever_a_provider_sent() -> None:
    sizes = {language: len(page(OF_STAGE[Stage.READY], language, "iphone").encode()) for language in LANGUAGES}
    longest = max(LANGUAGES, key=lambda language: sizes[language])
    assert sizes[longest] < 15_000  # as nearly always
    for code in ("LPA:1$" + '"' * 2490, "LPA:1$" + "<" * 2320, "LPA:1$A" + "-9" * 190):
        found = an_installing(code=code, instructions='"' * 100_000, plan_snapshot=PLAN | {"name": "<" * 200})
        assert len(page(found, longest, "iphone").encode()) < MOST_BYTES


def test_what_the_network_says_is_shown_as_it_came() -> None:
    html = page(an_installing(instructions="  APN: <internet>\nRoaming on  "))
    assert "APN: &lt;internet&gt;\nRoaming on</p>" in html


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", ["gone", "away"])
def test_a_page_that_is_not_there_says_what_to_do(kind: Literal["gone", "away"], language: Language) -> None:
    t = texts_in(language)
    text = read(install_page.no_page(kind, t))
    assert t(f"{kind}.title") in text
    assert t(f"{kind}.text") in text
    assert all(step in text for step in t.each("gone.to_do")) == (kind == "gone")
    assert (t("page.refresh") in text) == (kind == "away")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_page_refers_to_nothing_outside(language: Language) -> None:
    html = page(OF_STAGE[Stage.READY], language, "iphone")
    addresses = re.findall(r'(?:href|src|action|srcset|content)="([^"]*)"', html)
    outside = {address for address in addresses if "//" in address and not address.startswith("data:image/png;base64,")}
    assert all(
        address.startswith(("https://esimsetup.apple.com/", "https://esimsetup.android.com/")) for address in outside
    )
    assert '<link rel="icon" href="data:,">' in html, "or browsers ask for one"
    assert "url(" not in html
    assert " style=" not in html
    assert " onclick" not in html


@pytest.mark.parametrize(
    ("contact", "link"),
    [
        ("help@example.com", '<a class="contact" href="mailto:help@example.com" rel="noreferrer">help@example.com</a>'),
        ("a?cc=b@example.com", '<a class="contact" href="mailto:a%3Fcc%3Db@example.com" rel="noreferrer">'),
        (
            "https://example.com/help?a=1&b=2",
            '<a class="contact" href="https://example.com/help?a=1&amp;b=2" target="_blank" rel="noreferrer">',
        ),
    ],
)
def test_the_shops_contact_stands_on_every_page_also_where_the_link_is_gone(contact: str, link: str) -> None:
    t = texts_in("es")
    assert link in contents(OF_STAGE[Stage.CHECKING], t, "iphone", contact)
    assert link in install_page.no_page("gone", t, contact)
    assert 'class="contact"' not in contents(OF_STAGE[Stage.CHECKING], t, "iphone")
    assert 'class="contact"' not in install_page.no_page("gone", t)


def test_every_state_of_the_phone_is_among_the_stages() -> None:
    for state in PROFILE_STATES:
        page(an_installing(profile_state=state))
