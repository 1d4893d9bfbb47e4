"""Secrets at rest: sealed with AES-256-GCM, and a keyed fingerprint where equality must be seen.

A sealed value is `version (1 byte) | key id (8) | nonce (12) | ciphertext and tag`. The associated data names the table, column and
row, so that a ciphertext moved to another place does not open (design, section 7; OWASP ASVS 11.3).
"""

import hashlib
import hmac
import os
from base64 import b64decode
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VERSION = b"\x01"
_KEY_BYTES = 32
KEY_ID_BYTES = 8
_NONCE_BYTES = 12
HEADER_BYTES = 1 + KEY_ID_BYTES + _NONCE_BYTES


class CannotOpen(Exception):
    """A sealed value does not open: another key sealed it, or it was moved or changed."""


def key_id(key: bytes) -> bytes:
    """8 bytes that name a key without telling it."""
    return hashlib.sha256(b"tribi key id" + key).digest()[:KEY_ID_BYTES]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sealed value stands: its associated data."""

    table: str
    column: str
    row_id: int

    def __bytes__(self) -> bytes:
        return f"{self.table}.{self.column}:{self.row_id}".encode()


@dataclass(frozen=True)
class Keyring:
    """The keys of `ENCRYPTION_KEY`: the first one seals, all of them open."""

    keys: tuple[bytes, ...] = field(repr=False)
    _ciphers: dict[bytes, AESGCM] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._ciphers.update({key_id(key): AESGCM(key) for key in self.keys})

    @classmethod
    def parse(cls, text: str) -> "Keyring":
        """From the setting's text: base64 keys of 32 bytes, separated by commas. ValueError where it isn't."""
        keys = tuple(b64decode(part.strip(), validate=True) for part in text.split(","))
        if any(len(key) != _KEY_BYTES for key in keys):
            raise ValueError(f"a key must be {_KEY_BYTES} bytes in base64")
        return cls(keys)

    @property
    def key_ids(self) -> tuple[bytes, ...]:
        return tuple(self._ciphers)

    def seal(self, plain: bytes, place: Place) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        first, cipher = next(iter(self._ciphers.items()))
        return _VERSION + first + nonce + cipher.encrypt(nonce, plain, bytes(place))

    def open(self, sealed: bytes, place: Place) -> bytes:
        """
        Raises:
            CannotOpen: the key is not among ours, or the value was sealed for another place.
        """
        cipher = self._ciphers.get(sealed[1 : 1 + KEY_ID_BYTES])
        if sealed[:1] != _VERSION or cipher is None:
            raise CannotOpen(f"{place.table}.{place.column}: sealed with a key that ENCRYPTION_KEY does not hold")
        nonce = sealed[1 + KEY_ID_BYTES : HEADER_BYTES]
        try:
            return cipher.decrypt(nonce, sealed[HEADER_BYTES:], bytes(place))
        except (InvalidTag, ValueError) as error:  # ValueError: cut so short that it has no nonce
            raise CannotOpen(
                f"{place.table}.{place.column}: the value was sealed for another row, or changed"
            ) from error


@dataclass(frozen=True)
class Vault:
    """A keyring and the installation's fingerprint key (itself sealed in the database, so it outlives a key rotation)."""

    keyring: Keyring
    fingerprint_key: bytes = field(repr=False)

    def seal_text(self, text: str | None, place: Place) -> bytes | None:
        # surrogatepass: what a provider sent is kept to the letter, broken letters included
        return None if text is None else self.keyring.seal(text.encode("utf-8", "surrogatepass"), place)

    def open_text(self, sealed: bytes | None, place: Place) -> str | None:
        return None if sealed is None else self.keyring.open(sealed, place).decode("utf-8", "surrogatepass")

    def fingerprint(self, kind: str, text: str) -> bytes:
        """16 bytes: HMAC-SHA-256 of a value that must be unique without being readable."""
        return hmac.digest(self.fingerprint_key, f"{kind}:{text}".encode("utf-8", "surrogatepass"), "sha256")[:16]
