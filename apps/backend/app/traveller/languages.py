"""Which languages travellers are written to in, and choosing one."""

from typing import Final, Literal, get_args

from app.values.locales import wishes_of

Language = Literal["en", "es", "pt", "fr", "de"]
"""Primary language subtags (RFC 5646)."""

LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)
FALLBACK: Final[Language] = "en"


def choose_language(
    accept_language: str | None, *, wish: str | None = None, otherwise: Language = FALLBACK
) -> Language:
    """What is wanted (`wanted_language`), else `otherwise`."""
    return wanted_language(accept_language, wish=wish) or otherwise


def wanted_language(accept_language: str | None, *, wish: str | None = None) -> Language | None:
    """
    What somebody chose, else what their `Accept-Language` (RFC 9110 section 12.5.4) likes best of LANGUAGES; None where that is
    none of them.

    Regions don't matter: `pt-BR` and `pt-PT` both are "pt" (the lookup of RFC 4647 section 3.4).

    Args:
        wish: what somebody chose, a language tag; where nothing is known of it, it is as if nobody had chosen.
    """
    for tag in (wish or "", *wishes_of(accept_language or "")):
        primary = tag.strip().replace("_", "-").partition("-")[0].lower()
        for language in LANGUAGES:
            if primary == language:
                return language
    return None
