"""The settings are documented, all of them and no others, with the defaults that they have."""

import re
from pathlib import Path
from typing import Any

import pytest

from app.settings import BACKEND_DIR, Settings, load_settings

EXAMPLE = BACKEND_DIR / ".env.example"
PAGE = BACKEND_DIR.parents[1] / "docs" / "configuration.md"

NAMES = sorted(name.upper() for name in Settings.model_fields)
_LINE = re.compile(r"^(?:# )?([A-Z][A-Z0-9_]*)=(.*)$", re.MULTILINE)
_ROW = re.compile(r"^\| `([A-Z][A-Z0-9_]*)` \| (.*?) \| (.*) \| `(.*)` \|$", re.MULTILINE)


def default_of(name: str) -> str:
    """As somebody would write it into .env; empty for none."""
    default: Any = Settings.model_fields[name.lower()].default
    if default is None:
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)


def lines() -> dict[str, str]:
    """`.env.example`: name → value."""
    return dict(_LINE.findall(EXAMPLE.read_text()))


def rows() -> dict[str, tuple[str, str, str]]:
    """`docs/configuration.md`: name → default, meaning, example."""
    return {name: (default, meaning, example) for name, default, meaning, example in _ROW.findall(PAGE.read_text())}


def test_env_example_has_every_setting_once_and_no_other() -> None:
    assert sorted(name for name, _ in _LINE.findall(EXAMPLE.read_text())) == NAMES


def test_the_page_has_every_setting_once_and_no_other() -> None:
    assert sorted(name for name, *_ in _ROW.findall(PAGE.read_text())) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_env_example_shows_the_default(name: str) -> None:
    is_a_place_here = default_of(name).startswith(str(BACKEND_DIR))
    assert lines()[name] == ("" if is_a_place_here else default_of(name))


@pytest.mark.parametrize("name", NAMES)
def test_the_page_tells_the_default(name: str) -> None:
    default = default_of(name).replace(str(BACKEND_DIR), "apps/backend")
    assert rows()[name][0] == (f"`{default}`" if default else "unset")


@pytest.mark.parametrize("name", NAMES)
def test_each_setting_is_explained_right_above_it(name: str) -> None:
    above = EXAMPLE.read_text().partition(f"# {name}=")[0].rpartition("\n\n")[2]
    assert len(above) > 40
    assert all(line.startswith("# ") for line in above.splitlines())


@pytest.mark.parametrize("name", NAMES)
def test_the_pages_example_is_a_value_that_can_be(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "SMTP_URL":
        monkeypatch.setenv("MAIL_FROM", rows()["MAIL_FROM"][2])
    monkeypatch.setenv(name, rows()[name][2])
    assert getattr(load_settings(), name.lower()) != Settings.model_fields[name.lower()].default


def test_env_example_changes_nothing_even_with_every_line_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = tmp_path / "taken.env"
    taken.write_text("\n".join(f"{name}={value}" for name, value in lines().items()))
    for env_file in (EXAMPLE, taken):
        monkeypatch.setitem(Settings.model_config, "env_file", env_file)
        assert load_settings().model_dump() == {name: field.default for name, field in Settings.model_fields.items()}


@pytest.mark.parametrize("path", [EXAMPLE, PAGE], ids=["env example", "page"])
def test_no_name_is_mentioned_that_is_no_setting(path: Path) -> None:
    known = {*NAMES, *(f"{name}_FILE" for name in NAMES), "TRIBI_ENV_FILE", "X_FILE", "CONNECTED_YOU"}
    prefixes = "|".join(sorted({name.partition("_")[0] for name in NAMES}))
    mentioned = set(re.findall(rf"\b(?:{prefixes})_[A-Z_]*[A-Z]\b", path.read_text()))
    assert mentioned <= known
