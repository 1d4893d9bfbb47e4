"""SKUs: how a seller names a plan. They stand in URLs as they are."""

import re
from typing import Final

MAX_SKU_LENGTH: Final = 64

# RFC 3986 section 3.3, `pchar` without percent-encoding; not a dot-segment (section 5.2.4), which a client would resolve.
_SKU = re.compile(rf"(?!\.{{1,2}}\Z)[A-Za-z0-9._~!$&'()*+,;=:@-]{{1,{MAX_SKU_LENGTH}}}")


def is_sku(text: str) -> bool:
    """1 to 64 ASCII characters that a URL's path takes as they are: no space, slash, `?`, `#`, `%`, quotes or brackets."""
    return _SKU.fullmatch(text) is not None
