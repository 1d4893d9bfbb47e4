"""E-mail addresses, checked by their form only: nobody is asked whether the mailbox exists."""

from typing import Final

MAX_LENGTH: Final = 254
"""Characters of an address: 256 with its angle brackets in SMTP (RFC 5321 section 4.5.3.1.3)."""


def read_email(text: str) -> str:
    """
    Read an address that a person typed; white space around it is dropped.

    Returns:
        The address with its domain in lower case and in Unicode, the local part as it was, in ASCII (few mail servers
        take others, RFC 6531). It has no display name, no quoted local part, no line break. `.test` (RFC 2606) is
        taken, so that tests never reach a mailbox.

    Raises:
        ValueError: it isn't such an address. The message is a sentence that can be shown to whoever typed it.
    """
    from email_validator import EmailNotValidError, validate_email  # loads IDNA's tables

    stripped = text.strip()
    if len(stripped) > MAX_LENGTH:
        raise ValueError(f"The e-mail address is longer than {MAX_LENGTH} characters.")
    try:
        address = validate_email(
            stripped, check_deliverability=False, test_environment=True, strict=True, allow_smtputf8=False
        )
    except EmailNotValidError as error:
        raise ValueError(f"This is not an e-mail address: {error}") from None
    except UnicodeError:
        raise ValueError("This is not an e-mail address: it holds characters that can't be sent.") from None
    return address.normalized


def ascii_email(address: str) -> str:
    """An address of `read_email` as it travels: its domain in ASCII (RFC 5891)."""
    import idna  # as above

    local, _, domain = address.rpartition("@")
    return f"{local}@{idna.encode(domain, uts46=True).decode()}"


def address_key(address: str) -> str:
    """
    An address of `read_email` as the key of its owner: in lower case. RFC 5321 section 2.4 leaves it to the mail server whether
    `Ana@` and `ana@` are two mailboxes; none is known where they are, and people type either.
    """
    local, _, domain = address.rpartition("@")
    return f"{local.lower()}@{domain}"
