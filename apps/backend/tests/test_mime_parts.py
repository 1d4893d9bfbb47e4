"""A message's parts arrive as they were written, whatever they hold, over servers that know seven bits and short lines alone."""

import re
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

from hypothesis import example, given
from hypothesis import strategies as st

from app.mime_parts import POLICY, Picture, set_parts

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


def sent(plain: str, html: str, picture: Picture | None) -> tuple[bytes, EmailMessage]:
    """As it travels, and as a mail program reads it."""
    message = EmailMessage(POLICY)
    message["Subject"] = "Hello"
    set_parts(message, plain=plain, html=html, picture=picture)
    travels = message.as_bytes()
    read = message_from_bytes(travels, policy=default)
    assert isinstance(read, EmailMessage)
    assert [part.defects for part in read.walk() if part.defects] == []
    return travels, read


def content_of(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


@given(TEXTS, TEXTS, st.one_of(st.none(), st.binary(max_size=300)))
@example(".\n..\nFrom me\n", "x" * 5000, b"")
@example("ends in a space \nand a tab\t\n=_ =3D\n", "\x0b\x0c\x1c\x85\u2028", None)
@example(f"{'x' * 75} \n{'x' * 74}\t\ny", "a lone \rb\r\nc", None)
def test_all_arrives_as_it_was_written_in_seven_bits_and_short_lines(plain: str, html: str, png: bytes | None) -> None:
    picture = None if png is None else Picture(png, "qr.esim-3@esim.invalid", "esim-qr.png", 222)
    travels, message = sent(plain, html, picture)
    assert travels.isascii()
    assert max(map(len, travels.split(b"\r\n"))) <= 76  # RFC 2045 section 6.7, and fewer than RFC 5322's
    assert b"\n" not in travels.replace(b"\r\n", b"")
    for kind, text in (("plain", plain), ("html", html)):
        assert content_of(message, kind) == re.sub("\r\n?", "\n", text).removesuffix("\n")
    pictures = [part for part in message.walk() if part.get_content_type() == "image/png"]
    assert [part.get_payload(decode=True) for part in pictures] == ([] if png is None else [png])


def test_what_reads_like_the_end_of_a_part_ends_none() -> None:
    picture = Picture(b"png", "qr@esim.invalid", "esim-qr.png", 222)
    _, message = sent("plain", "html", picture)
    ends = [
        f"--{part.get_boundary()}{dashes}" for part in message.walk() if part.is_multipart() for dashes in ("", "--")
    ]
    assert len(ends) == 4
    text = "\n".join([*ends, "Content-Type: text/plain", "", "x"])
    _, message = sent(text, text, Picture(text.encode(), picture.cid, picture.name, picture.width))
    assert [content_of(message, kind) for kind in ("plain", "html")] == [text, text]
    assert len(list(message.walk())) == 5


def test_the_picture_belongs_to_the_html_which_is_the_better_of_two() -> None:
    _, message = sent("plain", "<p>html</p>", Picture(b"png", "qr@esim.invalid", "esim-qr.png", 222))
    shape = [part.get_content_type() for part in message.walk()]
    assert shape == ["multipart/alternative", "text/plain", "multipart/related", "text/html", "image/png"]
    _, _, pair, _, picture = message.walk()
    assert pair.get_param("type") == "text/html"  # RFC 2387 section 3.1
    assert picture["Content-ID"] == "<qr@esim.invalid>"
    assert (picture.get_content_disposition(), picture.get_filename()) == ("inline", "esim-qr.png")
