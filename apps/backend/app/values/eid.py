"""EIDs: the number of an eUICC, the chip that eSIMs are installed on (GSMA SGP.29)."""

import re


def read_eid(text: str) -> str:
    """
    Read an EID that a person typed or a handset showed; spaces around and between groups are dropped.

    Returns:
        32 ASCII digits. They need not begin with 89: SGP.02 asked for that, SGP.29 only for right check digits.

    Raises:
        ValueError: another number of digits, other characters (other scripts' digits too), or wrong check digits.
    """
    digits = "".join(text.split())
    if re.fullmatch(r"[0-9]{32}", digits) is None:
        raise ValueError("An EID is 32 digits.")
    if int(digits) % 97 != 1:
        raise ValueError("The EID's last two digits don't fit the others; one digit is probably mistyped.")
    return digits
