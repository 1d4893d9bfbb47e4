"""Secrets at rest: who can open what, and where."""

import base64
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.vault import CannotOpen, Keyring, Place, Vault

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
PLACE = Place("esim_profiles", "iccid", 7)


def a_vault(*keys: bytes) -> Vault:
    return Vault(Keyring(keys or (OLD,)), fingerprint_key=b"f" * 32)


@given(st.binary(max_size=300))
def test_what_was_sealed_opens_at_its_place(plain: bytes) -> None:
    keyring = Keyring((OLD,))
    assert keyring.open(keyring.seal(plain, PLACE), PLACE) == plain


@given(st.text(st.characters(codec=None), max_size=100))
def test_text_comes_back_to_the_letter_even_where_it_is_broken(text: str) -> None:
    vault = a_vault()
    assert vault.open_text(vault.seal_text(text, PLACE), PLACE) == text


def test_nothing_stays_nothing() -> None:
    vault = a_vault()
    assert vault.seal_text(None, PLACE) is None
    assert vault.open_text(None, PLACE) is None


def test_an_empty_text_is_sealed_too() -> None:
    vault = a_vault()
    sealed = vault.seal_text("", PLACE)
    assert sealed
    assert vault.open_text(sealed, PLACE) == ""


def test_the_same_value_is_sealed_differently_each_time() -> None:
    keyring = Keyring((OLD,))
    assert len({keyring.seal(b"the same", PLACE) for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "elsewhere",
    [
        Place("esim_profiles", "iccid", 8),
        Place("esim_profiles", "iccid", 77),
        Place("esim_profiles", "activation_code", 7),
        Place("provisioning_attempts", "iccid", 7),
    ],
    ids=["another row", "a longer number", "another column", "another table"],
)
def test_a_value_moved_to_another_place_does_not_open(elsewhere: Place) -> None:
    keyring = Keyring((OLD,))
    with pytest.raises(CannotOpen, match=f"{elsewhere.table}.{elsewhere.column}"):
        keyring.open(keyring.seal(b"secret", PLACE), elsewhere)


def test_a_value_with_any_byte_changed_does_not_open() -> None:
    keyring = Keyring((OLD,))
    sealed = keyring.seal(b"secret", PLACE)
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= 1
        with pytest.raises(CannotOpen):
            keyring.open(bytes(changed), PLACE)


def test_a_value_cut_short_or_lengthened_does_not_open() -> None:
    keyring = Keyring((OLD,))
    sealed = keyring.seal(b"secret", PLACE)
    for wrong in [*(sealed[:length] for length in range(len(sealed))), sealed + b"\0"]:
        with pytest.raises(CannotOpen):
            keyring.open(wrong, PLACE)


def test_of_several_keys_the_first_seals() -> None:
    sealed = Keyring((NEW, OLD)).seal(b"secret", PLACE)
    assert Keyring((NEW,)).open(sealed, PLACE) == b"secret"
    with pytest.raises(CannotOpen, match="a key that ENCRYPTION_KEY does not hold"):
        Keyring((OLD,)).open(sealed, PLACE)


def test_of_several_keys_all_open() -> None:
    both = Keyring((NEW, OLD))
    assert both.open(Keyring((OLD,)).seal(b"old", PLACE), PLACE) == b"old"
    assert both.open(Keyring((NEW,)).seal(b"new", PLACE), PLACE) == b"new"


def test_the_setting_holds_base64_keys_separated_by_commas() -> None:
    text = " , ".join(base64.b64encode(key).decode() for key in (NEW, OLD)) + "\n"
    assert Keyring.parse(text).keys == (NEW, OLD)


@pytest.mark.parametrize(
    "text", ["", "not base64!", base64.b64encode(os.urandom(16)).decode(), base64.b64encode(OLD).decode() + ","]
)
def test_what_is_no_key_of_32_bytes_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"(?i)base64|bytes"):
        Keyring.parse(text)


def test_a_keys_name_does_not_tell_the_key() -> None:
    [key_id] = Keyring((OLD,)).key_ids
    assert len(key_id) == 8
    assert key_id not in OLD
    assert Keyring((NEW,)).key_ids != (key_id,)


def test_equal_values_have_equal_fingerprints_whichever_key_seals() -> None:
    assert a_vault(OLD).fingerprint("iccid", "89012") == a_vault(NEW, OLD).fingerprint("iccid", "89012")
    assert a_vault().fingerprint("iccid", "89012") != a_vault().fingerprint("iccid", "89013")


def test_fingerprints_differ_by_kind() -> None:
    assert a_vault().fingerprint("iccid", "89012") != a_vault().fingerprint("activation_code", "89012")


def test_fingerprints_differ_by_installation() -> None:
    here, there = Vault(Keyring((OLD,)), b"a" * 32), Vault(Keyring((OLD,)), b"b" * 32)
    assert here.fingerprint("iccid", "89012") != there.fingerprint("iccid", "89012")


def test_a_fingerprint_is_16_bytes_of_any_text_even_a_broken_one() -> None:
    assert len(a_vault().fingerprint("iccid", "\ud800")) == 16


def test_repr_shows_no_key() -> None:
    vault = a_vault(OLD, NEW)
    shown = f"{vault!r} {vault} {vault.keyring!r} {vault.keyring}"
    assert shown == "Vault(keyring=Keyring()) Vault(keyring=Keyring()) Keyring() Keyring()"


def test_an_error_shows_neither_value_nor_key() -> None:
    sealed = Keyring((OLD,)).seal(b"SECRET", PLACE)
    with pytest.raises(CannotOpen) as refused:
        Keyring((NEW,)).open(sealed, PLACE)
    assert str(refused.value) == "esim_profiles.iccid: sealed with a key that ENCRYPTION_KEY does not hold"
