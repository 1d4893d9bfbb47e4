import subprocess
import sys

import pytest

from app.values.country import Country, country_name


@pytest.mark.parametrize(("code", "name"), [("ES", "Spain"), ("KR", "South Korea"), ("TW", "Taiwan")])
def test_a_country_has_the_name_that_people_use(code: str, name: str) -> None:
    assert country_name(code) == name
    assert Country(code).name == name


def test_what_a_person_typed_is_read_in_either_case() -> None:
    assert str(Country.read(" es\n")) == "ES"


@pytest.mark.parametrize("code", ["es", "ESP", "", "XK", "EU", "E", "ES\n", "ß", "ﬁ", "724", "\0\0"])
def test_a_code_outside_iso_3166_is_refused(code: str) -> None:
    with pytest.raises(ValueError, match="ISO 3166-1"):
        Country(code)


def test_the_tables_are_not_loaded_before_they_are_needed() -> None:
    program = "import sys, app.values.country, app.values.money; sys.exit('pycountry' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
