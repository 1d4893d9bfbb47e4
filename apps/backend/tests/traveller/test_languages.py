"""Which language a traveller is written to in."""

import pytest

from app.traveller import LANGUAGES, Language, choose_language


@pytest.mark.parametrize(
    ("accept_language", "language"),
    [
        (None, "en"),
        ("", "en"),
        ("es", "es"),
        ("pt-BR,pt;q=0.9,en;q=0.8", "pt"),
        ("pt-PT", "pt"),
        ("de-AT", "de"),
        ("FR_ca", "fr"),
        ("it-IT, it;q=0.9, fr;q=0.5, en;q=0.4", "fr"),
        ("en;q=0.1, de;q=0.2", "de"),
        ("de;q=0, es;q=0.1", "es"),
        ("ja, zh;q=0.9", "en"),
        ("*", "en"),
        ("des, frx, esp", "en"),
        ("\xff,;=", "en"),
        ("a" * 100_000, "en"),
    ],
)
def test_a_browser_gets_the_language_that_it_likes_best_of_ours(
    accept_language: str | None, language: Language
) -> None:
    assert choose_language(accept_language) == language


@pytest.mark.parametrize(
    ("wish", "language"), [("fr", "fr"), ("es-MX", "es"), (" DE ", "de"), ("it", "pt"), ("", "pt")]
)
def test_an_explicit_choice_goes_before_what_the_browser_says(wish: str, language: Language) -> None:
    assert choose_language("pt, de;q=0.9", wish=wish) == language


@pytest.mark.parametrize(("accept_language", "language"), [(None, "pt"), ("ja, *", "pt"), ("ja, de;q=0.1", "de")])
def test_where_none_of_ours_is_liked_it_is_the_one_that_was_named(
    accept_language: str | None, language: Language
) -> None:
    assert choose_language(accept_language, otherwise="pt") == language


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_can_be_chosen(language: Language) -> None:
    assert choose_language("ja", wish=language) == language
