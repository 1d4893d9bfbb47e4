"""What stands in the message with which a traveller installs."""

import io
import re
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any, get_args

import pytest
import zxingcpp
from PIL import Image

from app.services.messages.instructions import instructions_mail
from app.settings import Settings
from app.traveller import LANGUAGES, Language, texts_in
from app.values.activation_code import ActivationCode
from tests.letters import CODE, PAGE, a_letter, shop_settings
from tests.mailbox import text_of


def arrived(**letter: Any) -> EmailMessage:
    """As the traveller's mail program reads it."""
    sent = instructions_mail(shop_settings(), a_letter(**letter))
    message = message_from_bytes(sent.as_bytes(), policy=default)
    assert isinstance(message, EmailMessage)
    assert message.defects == []
    return message


def picture_of(message: EmailMessage) -> tuple[EmailMessage, str]:
    """The one picture, and the text in its QR code."""
    [part] = [part for part in message.walk() if part.get_content_maintype() == "image"]
    assert isinstance(part, EmailMessage)
    [barcode] = zxingcpp.read_barcodes(Image.open(io.BytesIO(part.get_content())))
    return part, barcode.text


def words_of(html: str) -> str:
    """Without its head and markup, white space as one space."""
    import html as escapes

    body = re.sub(r"(?s).*<body", "<body", html)
    return " ".join(escapes.unescape(re.sub(r"<[^>]*>", " ", body)).split())


@pytest.mark.parametrize("language", LANGUAGES)
def test_both_parts_say_all_that_installs_in_the_customer_s_language(language: Language) -> None:
    texts = texts_in(language)
    message = arrived(locale=language, is_live=False, code=f"{CODE}$$1", instructions="Set the APN.\nRestart.")
    assert message["Content-Language"] == language
    assert message["Subject"] == f"TEST: {texts('mail.subject', plan='Spain 5GB')}"
    html, plain = text_of(message, "html"), text_of(message, "plain")
    assert f'<html lang="{language}"' in html
    wanted = [
        texts("test.notice"),
        texts("mail.greeting", name="Ana Traveller"),
        texts("mail.ready", plan="Spain 5GB"),
        texts("mail.page"),
        texts("one_tap.iphone"),
        texts("one_tap.android"),
        "smdp.example.com",
        "A1B2-C3D4",
        f"{CODE}$$1",
        texts("manual.confirmation_code_needed"),
        *texts.each("steps.iphone"),
        *texts.each("steps.android"),
        "Set the APN.",
        "Restart.",
        texts("keep.once"),
        texts("mail.help", contact="help@example.com"),
        "7",
    ]
    for text in wanted:
        assert " ".join(text.split()) in words_of(html), text
        assert " ".join(text.split()) in " ".join(plain.split()), text
    for address in (PAGE, f"https://esimsetup.apple.com/esim_qrcode_provisioning?carddata={CODE}$$1"):
        assert f'href="{address}"' in html
        assert address in plain.splitlines()


def test_the_picture_is_inline_has_a_text_in_its_place_and_holds_the_code() -> None:
    message = arrived()
    html = text_of(message, "html")
    part, text = picture_of(message)
    assert text == CODE
    assert part.get_content_disposition() == "inline"
    assert f'src="cid:{part["Content-ID"].strip("<>")}"' in html
    assert f'alt="{texts_in("en")("qr.alt")}"' in html
    assert CODE in words_of(html)


def test_the_picture_of_an_esim_that_is_not_live_says_test_below_the_code() -> None:
    live, test = picture_of(arrived())[0], picture_of(arrived(is_live=False))[0]
    heights = [Image.open(io.BytesIO(part.get_content())).height for part in (live, test)]
    assert heights[0] < heights[1]
    assert picture_of(arrived(is_live=False))[1] == CODE


def test_the_install_page_comes_first() -> None:
    html = text_of(arrived(), "html")
    first, *_ = re.findall(r'href="([^"]+)"', html)
    assert first == PAGE


def test_without_an_install_page_the_phones_own_links_come_first() -> None:
    message = arrived(page_url=None)
    first, *_ = re.findall(r'href="([^"]+)"', text_of(message, "html"))
    assert first.startswith("https://esimsetup.apple.com/")
    assert texts_in("en")("mail.page") not in message.as_string()


def test_nothing_is_fetched_from_anywhere() -> None:
    html = text_of(arrived(), "html")
    assert re.findall(r"(?:src|background|url)\s*[=(]\s*[\"']?(?!cid:)[a-z]+:", html) == []
    assert not re.search(r"<(script|link|iframe|form)\b", html)


def test_a_customer_who_did_not_say_is_written_to_in_the_shop_s_language() -> None:
    spanish = shop_settings(default_language="es")
    assert instructions_mail(spanish, a_letter())["Content-Language"] == "es"
    assert instructions_mail(spanish, a_letter(locale="ja"))["Content-Language"] == "es"
    assert instructions_mail(spanish, a_letter(locale="de-AT"))["Content-Language"] == "de"


ODD = {
    "without LPA": "1$smdp.example.com$A1B2",
    "the blueprint's": "LPA:1$XYZ",
    "no matching id": "LPA:1$smdp.example.com$",
    "markup": "LPA:1$smdp.example.com$<b>&\"'</b>",
    "letters": "LPA:1$smdp.exämple$ключ-旅",
    "lines": "LPA:1$smdp.example.com$A1\r\nBcc: eve@example.com\r\n\r\nB2",
    "white space": "  LPA:1$smdp.example.com$A1  ",
    "percent": "LPA:1$smdp.example.com$%s{x}{{7*7}}",
}


@pytest.mark.parametrize("code", ODD.values(), ids=ODD)
def test_an_odd_code_arrives_as_it_is(code: str) -> None:
    message = arrived(code=code)
    lpa = ActivationCode.read(code).lpa
    assert picture_of(message)[1] == lpa
    shown = " ".join(lpa.split())
    assert shown in words_of(text_of(message, "html"))
    assert shown in " ".join(text_of(message, "plain").split())
    assert message["Bcc"] is None
    assert "<b>" not in text_of(message, "html").replace("<body", "")


def test_a_code_too_long_for_a_picture_says_so() -> None:
    message = arrived(code=f"LPA:1$smdp.example.com${'A' * 4000}")
    assert [part for part in message.walk() if part.get_content_maintype() == "image"] == []
    assert texts_in("en")("qr.impossible") in words_of(text_of(message, "html"))
    assert max(map(len, message.as_bytes().splitlines())) < 998  # RFC 5322 section 2.1.1


def test_every_language_that_there_are_texts_in_can_be_the_shop_s_own() -> None:
    assert get_args(Settings.model_fields["default_language"].annotation) == LANGUAGES
