"""What travellers read, on a page and in the mail: their languages, one file of texts for each, and templates that show them."""

from app.traveller.languages import FALLBACK, LANGUAGES, Language, choose_language, wanted_language
from app.traveller.templates import render
from app.traveller.texts import Texts, texts_in

__all__ = ["FALLBACK", "LANGUAGES", "Language", "Texts", "choose_language", "render", "texts_in", "wanted_language"]
