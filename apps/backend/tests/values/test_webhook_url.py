"""URLs of webhook endpoints. What may not be stands in `services/webhooks/targets.py`."""

import pytest

from app.values.public_address import is_public
from app.values.webhook_url import LONGEST, read_webhook_url


@pytest.mark.parametrize(
    ("text", "used"),
    [
        ("https://shop.example.com", "https://shop.example.com/"),
        ("https://shop.example.com/hooks?token=a%20b", "https://shop.example.com/hooks?token=a%20b"),
        ("https://Shop.Example.COM./Hooks", "https://shop.example.com/Hooks"),
        ("https://shop.example.com:443/", "https://shop.example.com:443/"),
        ("https://shop.example.com:8443/", "https://shop.example.com:8443/"),
        ("https://zoë.example/", "https://xn--zo-ija.example/"),
        ("https://xn--zo-ija.example/", "https://xn--zo-ija.example/"),
        ("https://9.9.9.9/", "https://9.9.9.9/"),
        ("https://[2606:4700:0:0::1111]/", "https://[2606:4700::1111]/"),
        ("https://shop.example.com/a//b/../c", "https://shop.example.com/a//b/../c"),
    ],
)
def test_a_public_url_is_used_with_its_host_in_ascii(text: str, used: str) -> None:
    assert read_webhook_url(text, allow_private=False) == used
    assert read_webhook_url(used, allow_private=False) == used


@pytest.mark.parametrize(
    "text",
    ["http://localhost:3000/hooks", "http://127.0.0.1:80/", "https://db/", "http://[::1]:8080/", "https://10.0.0.7/"],
)
def test_private_ones_and_http_may_be_allowed(text: str) -> None:
    assert read_webhook_url(text, allow_private=True) == text
    with pytest.raises(ValueError, match="URL"):
        read_webhook_url(text, allow_private=False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "shop.example.com",
        "https://",
        "https://shop example.com/",
        "https://shop.example.com/#top",
        "https://.../",
        "https://shop.example.com/é",
        "https://-a.example.com/",
        "https://a..b/",
        "https://shop.example.com/" + "x" * LONGEST,
    ],
)
def test_what_is_no_url_is_refused_even_so(text: str) -> None:
    for allow_private in (False, True):
        with pytest.raises(ValueError, match="URL"):
            read_webhook_url(text, allow_private=allow_private)


def test_no_part_of_a_url_is_repeated() -> None:
    with pytest.raises(ValueError, match="user or a password") as refused:
        read_webhook_url("https://eva:s3cret@shop.example.com/t0ken", allow_private=False)
    assert "s3cret" not in str(refused.value)
    assert "t0ken" not in str(refused.value)


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "8.8.8.8",
        "9.9.9.9",
        "100.63.255.255",
        "100.128.0.1",
        "172.15.0.1",
        "172.32.0.1",
        "192.0.1.1",
        "198.17.255.255",
        "198.20.0.1",
        "223.255.255.255",
        "168.63.129.17",
        "2606:4700::1111",
        "2a00:1450:4001::1",
        "64:ff9b::9.9.9.9",
        "2400:cb00::1",
    ],
)
def test_addresses_beside_the_reserved_ones_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "text", ["", "shop.example.com", "1.1.1", "1.1.1.1.1", "0x1.1.1.1", "1.1.1.1/32", " 1.1.1.1", "::g"]
)
def test_what_is_no_address_is_not_public(text: str) -> None:
    assert not is_public(text)
