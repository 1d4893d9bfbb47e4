"""Names of persons: free text that may be put into a mail's header."""

import unicodedata
from typing import Final

MAX_LENGTH: Final = 200

# Control characters (line breaks would forge a mail's headers, U+0000 no database takes), lone surrogates (they have
# no bytes) and Unicode's own line and paragraph separators.
_REFUSED_CATEGORIES: Final = frozenset(("Cc", "Cs", "Zl", "Zp"))


def read_person_name(text: str) -> str:
    """
    Read a name; white space around it is dropped, everything else stays as it was written.

    Returns:
        1 to 200 characters on one line.

    Raises:
        ValueError: empty, too long, or with a character that can't be in a name. The message is a sentence that can be
            shown to whoever typed it and doesn't repeat the name.
    """
    name = text.strip()
    if not name:
        raise ValueError("The name is empty.")
    if len(name) > MAX_LENGTH:
        raise ValueError(f"The name is longer than {MAX_LENGTH} characters.")
    if any(unicodedata.category(character) in _REFUSED_CATEGORIES for character in name):
        raise ValueError("The name holds a line break or another character that can't be printed.")
    return name
