"""Texts, and numbers and dates in them, in all languages alike."""

import re
from datetime import UTC, date, datetime
from string import Formatter

import pytest

from app.models.mail import NOTICES
from app.services.esims.installing import Stage
from app.settings import BACKEND_DIR
from app.traveller import LANGUAGES, Language, texts_in

ENGLISH = texts_in("en")
OTHERS = [language for language in LANGUAGES if language != "en"]


def placeholders(text: str) -> list[str]:
    return sorted(name for _, name, _, _ in Formatter().parse(text) if name is not None)


@pytest.mark.parametrize("language", OTHERS)
def test_all_languages_have_the_same_texts(language: Language) -> None:
    texts = texts_in(language)
    assert texts.keys == ENGLISH.keys
    for key in ENGLISH.keys:
        assert [placeholders(text) for text in texts.raw(key)] == [placeholders(text) for text in ENGLISH.raw(key)], key


@pytest.mark.parametrize("language", OTHERS)
def test_no_text_was_left_in_english(language: Language) -> None:
    the_same = {key for key in ENGLISH.keys if texts_in(language).raw(key) == ENGLISH.raw(key)}
    assert the_same - {"test.word"} == set()


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_are_set_as_the_language_wants_it(language: Language) -> None:
    for key in texts_in(language).keys:
        for text in texts_in(language).raw(key):
            assert text == text.strip(), key
            assert "  " not in text, key
            assert "..." not in text, key
            assert not re.search(r"""['"<>*]""", text), f"{key}: plain text with typographic quotes"
            if language == "fr":
                assert not re.search(r"(?<![0-9])(?<![\u00a0\u202f])[:;!?»]|«(?!\u202f)", text.replace("Wi-Fi:", "")), (
                    key
                )


# Keys that are put together of parts, and can be made whole of them.
_COMPOSED = [
    re.compile(rf"stage\.(?:{'|'.join(Stage)})\.(?:title|text)"),
    re.compile(r"steps\.(?:iphone|android)(?:_heading)?"),
    re.compile(r"one_tap\.(?:iphone|android)(?:_needs)?"),
    re.compile(r"(?:gone|away)\.(?:title|text)"),
    re.compile(rf"notice\.(?:{'|'.join(NOTICES)})\.(?:subject|news|then)"),
]


def test_no_text_is_without_use() -> None:
    sources = [path for kind in ("*.py", "*.html", "*.txt") for path in (BACKEND_DIR / "app").rglob(kind)]
    source = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    unused = {key for key in ENGLISH.keys if f'"{key}"' not in source and f"'{key}'" not in source}
    assert {key for key in unused if not any(pattern.fullmatch(key) for pattern in _COMPOSED)} == set()


def test_a_text_is_filled_in() -> None:
    assert texts_in("de")("test.word") == "TEST"
    assert len(texts_in("pt").each("steps.iphone")) == 3


def test_a_text_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError):
        ENGLISH("test.wrod")
    with pytest.raises(KeyError):
        ENGLISH("steps.iphone")
    with pytest.raises(KeyError):
        ENGLISH.each("test.word")


@pytest.mark.parametrize(
    ("language", "megabytes", "of_mb", "text"),
    [
        ("en", 5120, None, "5 GB"),
        ("en", 5000, None, "5 GB"),
        ("es", 1331.2, 5120, "1,3 GB"),
        ("de", 1300, 5000, "1,3 GB"),
        ("fr", 512, 5120, "512 Mo"),
        ("fr", 5632, None, "5,5 Go"),
        ("pt", 0, 1024, "0 MB"),
        ("en", 999.6, 1000, "1,000 MB"),
        ("en", 102400, None, "100 GB"),
        ("en", 500, None, "500 MB"),
    ],
)
def test_an_amount_of_data_is_written_as_the_language_writes_it(
    language: Language, megabytes: float, of_mb: float | None, text: str
) -> None:
    found = texts_in(language).data(megabytes, of_mb=of_mb)
    assert re.sub("[\u00a0\u202f]", " ", found) == text
    assert " " not in found


@pytest.mark.parametrize(
    ("language", "instant", "day"),
    [
        ("en", "3 Nov 2026, 14:05 UTC", "3 November 2026"),
        ("es", "3 nov 2026, 14:05 UTC", "3 de noviembre de 2026"),
        ("pt", "3 de nov. de 2026, 14:05 UTC", "3 de novembro de 2026"),
        ("fr", "3 nov. 2026, 14:05 UTC", "3 novembre 2026"),
        ("de", "03.11.2026, 14:05 UTC", "3. November 2026"),
    ],
)
def test_days_and_times_are_written_as_the_language_writes_them(language: Language, instant: str, day: str) -> None:
    assert texts_in(language).instant(datetime(2026, 11, 3, 14, 5, 59, tzinfo=UTC)) == instant
    assert texts_in(language).day(date(2026, 11, 3)) == day


def test_countries_have_their_names() -> None:
    assert [texts_in(language).country("ES") for language in LANGUAGES] == [
        "Spain",
        "España",
        "Espanha",
        "Espagne",
        "Spanien",
    ]
    assert ENGLISH.country("QQ") == "QQ"
