"""Templates escape what they show, and leave nothing out silently."""

import pytest
from jinja2 import DictLoader, Environment, UndefinedError

from app.traveller import render, templates, texts_in


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Templates by name, in place of our own; everything else is as it is."""
    files: dict[str, str] = {}
    environment: Environment = templates._environment().overlay(loader=DictLoader(files))  # noqa: SLF001
    monkeypatch.setattr(templates, "_environment", lambda: environment)
    return files


def test_a_page_escapes_what_it_shows_and_plain_text_does_not(given: dict[str, str]) -> None:
    given["page.html"] = given["mail.txt"] = "{{ t('test.word') }}: {{ name }}"
    assert render("page.html", texts_in("en"), name="<b>&") == "TEST: &lt;b&gt;&amp;"
    assert render("mail.txt", texts_in("en"), name="<b>&") == "TEST: <b>&"


def test_a_value_that_is_not_given_is_an_error(given: dict[str, str]) -> None:
    given["page.html"] = "{{ nmae }}"
    with pytest.raises(UndefinedError):
        render("page.html", texts_in("en"), name="Ana")
