import pytest

from app.values.email_address import ascii_email, read_email


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ana@example.com", "ana@example.com"),
        (" Ana@EXAMPLE.com\n", "Ana@example.com"),
        ("ana@shop.test", "ana@shop.test"),
        ("jurgen@bücher.example", "jurgen@bücher.example"),
        ("ana@xn--bcher-kva.example", "ana@bücher.example"),
    ],
)
def test_an_address_is_read_with_its_domain_normalised(text: str, address: str) -> None:
    assert read_email(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "jürgen@example.com",
        "ana",
        "ana@",
        "@example.com",
        "ana@localhost",
        "ana@[127.0.0.1]",
        "Ana <ana@example.com>",
        '"ana b"@example.com',
        "ana@example.com\r\nBcc: eve@example.com",
        "ana\0@example.com",
        "ana\ud800@example.com",
        "ana@exa\ud800mple.com",
        "a@b.test, c@d.test",
        "a" * 65 + "@example.com",
        "a" * 60 + "@" + "b" * 60 + "." + "c" * 60 + "." + "d" * 60 + "." + "e" * 60 + ".com",
        "a" * 1_000_000,
    ],
    ids=lambda text: ascii(text[:40]),
)
def test_what_is_no_plain_address_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(This is not an e-mail address: [A-Z].*|The e-mail address .*)\.$"):
        read_email(text)


def test_an_address_travels_with_its_domain_in_ascii() -> None:
    assert ascii_email(read_email("ana@bücher.example")) == "ana@xn--bcher-kva.example"
