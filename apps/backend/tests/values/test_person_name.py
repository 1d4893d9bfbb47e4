import pytest

from app.values.person_name import read_person_name


@pytest.mark.parametrize("name", ["Ana", "Ана Ивановна", "O'Brien, Jr.", "क्\u200dष", "x" * 200, "李"])
def test_a_name_is_kept_as_it_is_written(name: str) -> None:
    assert read_person_name(f" {name}\n") == name


@pytest.mark.parametrize(
    "name", ["", "  ", "x" * 201, "A\r\nBcc: eve@example.com", "A\0", "A\x1b[31mB", "A\ud800", "A\u2028B"]
)
def test_what_cannot_be_a_name_is_refused_without_being_repeated(name: str) -> None:
    with pytest.raises(ValueError, match=r"^The name [^\n]*\.$"):
        read_person_name(f"x{name}x" if len(name) < 200 and name.strip() else name)
