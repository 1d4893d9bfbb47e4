"""
One-tap installation links, beside the QR and the manual fields, never in their place: in-app browsers drop them.

A link carries the whole code: no log, no analytics, and a page with one sends `Referrer-Policy: no-referrer`.
"""

import re
from dataclasses import dataclass
from typing import Final

from app.values.activation_code import ActivationCode, UnusableActivationCode

# Legal as they are in a query (RFC 3986 section 3.4). Handsets disagree about percent-encoding, so nothing is encoded.
_RAW: Final = re.compile(r"[A-Za-z0-9.:$-]+")
_PATH: Final = "/esim_qrcode_provisioning?carddata="


@dataclass(frozen=True, slots=True, repr=False)
class InstallLinks:
    """
    Each is None where no link can be trusted to arrive whole.

    `ios_url`: iOS 17.4 or 17.5 and later. `android_url`: Android 10 and later with current Play services, uneven.
    `windows_url`: Windows 11 24H2 and later.
    """

    ios_url: str | None = None
    android_url: str | None = None
    windows_url: str | None = None

    def __repr__(self) -> str:
        return "InstallLinks([code])"

    __str__ = __repr__


def install_links(code: ActivationCode | str) -> InstallLinks:
    """The links for a code; without any where it isn't usable or has a character outside `[A-Za-z0-9.:$-]`."""
    if isinstance(code, str):
        try:
            code = ActivationCode.read(code)
        except UnusableActivationCode:
            return InstallLinks()
    if _RAW.fullmatch(code.lpa) is None:
        return InstallLinks()
    return InstallLinks(
        ios_url=f"https://esimsetup.apple.com{_PATH}{code.lpa}",
        android_url=f"https://esimsetup.android.com{_PATH}{code.lpa}",
        windows_url=f"lpa:{code.manual}",
    )
