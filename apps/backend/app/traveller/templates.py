"""
Templates (Jinja2) for what travellers read: `templates/*.html` escapes what it shows, `*.txt` doesn't.

A template has `t`, the texts of the reader's language, and what it is given. A name that it isn't given is an error.
"""

from functools import cache
from typing import TYPE_CHECKING

from app.traveller.texts import Texts

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, texts: Texts, /, **values: object) -> str:
    """
    Args:
        template: its file's name; ends with .html or .txt.

    Raises:
        jinja2.UndefinedError: the template wants a value that isn't given.
    """
    return _environment().get_template(template).render(t=texts, **values)


@cache
def _environment() -> "Environment":
    # wanted only where something is shown
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    return Environment(
        loader=PackageLoader("app.traveller"),
        autoescape=select_autoescape(enabled_extensions=("html",), default_for_string=True, default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
