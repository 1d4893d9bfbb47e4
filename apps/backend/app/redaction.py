r"""
Takes secrets and personal data out of text that goes to a log, an error or an operator's screen.

By form, since the text is often not ours: a provider's answer, a library's message, JSON within JSON. Each pass reads
the text once and gives up nothing that it has consumed (possessive quantifiers): the time is linear in hostile text too.
A placeholder says what stood there; text that is redacted already stays as it is.

Cut a text after redacting it, not before: half an ICCID or address no longer looks like one.
"""

import json
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final
from urllib.parse import quote, quote_plus

SECRET: Final = "[redacted]"  # noqa: S105 - stands in a secret's place
CODE: Final = "[code]"
ICCID: Final = "[iccid]"
EMAIL: Final = "[email]"

_MIN_KNOWN = 4  # characters; a shorter string stands everywhere in ordinary text
_ROUNDS = 4  # a placeholder may make its surroundings look like a field; one round is enough for nearly all text
_PLACEHOLDER = re.compile(r"\[(?:redacted|code|iccid|email)\]")


def redact(text: str, known: Iterable[str] = ()) -> str:
    """
    Replace what is secret or personal by a placeholder.

    Args:
        known: strings to replace wherever they stand, also as JSON, a Python repr or a URL would write them: the
            API key in use, a customer's name. Those under 4 characters are ignored.
    """
    secrets = frozenset(known)
    return text if is_plain(text, secrets) else _redact_by_form(text, secrets)


def is_plain(text: str, known: frozenset[str]) -> bool:
    """
    Whether a glance is enough to be sure that `redact` leaves the text as it is, and every part of it: so it is with nearly all
    of what is logged. False says nothing.
    """
    if not text.isascii():
        return False
    # In small letters, and without what may stand within a field's name or between the digits of a number.
    bare = text.replace("-", "").replace("_", "").replace(" ", "").lower()
    for sign in _SIGNS:
        if sign in bare:
            return False
    for form in _known_forms(known):
        if form in text:
            return False
    return _LONG_NUMBER.search(bare) is None


@lru_cache(maxsize=1024)
def redact_name(name: str, known: frozenset[str]) -> str:
    """As `redact`, remembered: the names of our log's fields are few, and are half of what it redacts."""
    return redact(name, known)


def _redact_by_form(text: str, known: frozenset[str]) -> str:
    for _ in range(_ROUNDS):
        before, text = text, _redact_once(text, known)
        if text == before:
            break
    return text


def _redact_once(text: str, known: frozenset[str]) -> str:
    text = _redact_known(text, known)
    text = _redact_fields(text)
    text = _redact_url_passwords(text)
    text = _CODES.sub(CODE, text)
    text = _BEARER.sub(rf"\1{SECRET}", text)
    text = _PAGE_TOKEN.sub(SECRET, text)
    text = _KEYS.sub(_key_or_name, text)
    text = _redact_emails(text)
    text = _ROW.sub(rf"\1{SECRET}", text)
    return _ICCIDS.sub(_iccid_or_id, text)


# --- strings that the caller knows


def _redact_known(text: str, known: frozenset[str]) -> str:
    forms = _known_forms(known)
    if not any(form in text for form in forms):
        return text
    pattern = _known_pattern(forms)
    # Placeholders are stepped over, as "code" or "email" may themselves be known strings.
    pieces = re.split(f"({_PLACEHOLDER.pattern})", text)
    pieces[::2] = [pattern.sub(SECRET, piece) for piece in pieces[::2]]
    return "".join(pieces)


@lru_cache(maxsize=64)
def _known_forms(known: frozenset[str]) -> tuple[str, ...]:
    """Each string as it stands in text, JSON, JSON within JSON, a Python repr and URLs; the longest first."""
    forms: set[str] = set()
    for value in known:
        escaped = json.dumps(value)[1:-1]
        forms |= {value, escaped, escaped.replace("/", r"\/"), json.dumps(escaped)[1:-1]}
        forms |= {json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1]}
        # A lone surrogate has no UTF-8 and stands in no URL.
        encodable = value.encode("utf-8", "replace").decode()
        for encoded in (quote(encodable), quote(encodable, safe=""), quote_plus(encodable)):
            forms |= {encoded, re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), encoded)}
    return tuple(sorted((form for form in forms if len(form) >= _MIN_KNOWN), key=len, reverse=True))


@lru_cache(maxsize=64)
def _known_pattern(forms: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, forms)))


# --- values of fields that are secret by their name: in JSON, reprs, query strings, headers, key=value


# Ends of names, in lower case without "-" and "_", so that customerEmail and access_token are found too.
_SECRET_NAMES: Final[dict[str, str]] = {
    **dict.fromkeys(("activationcode", "qrcode", "matchingid", "lpa", "smdpaddress", "smdpplusaddress"), CODE),
    "iccid": ICCID,
    **dict.fromkeys(("email", "emailaddress"), EMAIL),
    **dict.fromkeys(("apikey", "encryptionkey", "privatekey", "secretkey", "signingkey"), SECRET),
    **dict.fromkeys(("password", "passwd", "passphrase", "token", "secret", "confirmationcode"), SECRET),
    **dict.fromkeys(("authorization", "cookie", "partnerid", "xpartnerid"), SECRET),
    **dict.fromkeys(("customername", "fullname", "firstname", "lastname", "personname"), SECRET),
}
_SECRET_ENDINGS: Final = tuple(_SECRET_NAMES)
_HEADERS: Final = ("authorization", "cookie")
_NOTHING: Final = frozenset(("null", "None", "true", "false", "True", "False", "undefined", "NULL"))

_FIELD = re.compile(
    r"""(?<![A-Za-z0-9_-])(?P<name>[A-Za-z0-9_-]++)
        (?: \\*+["']\s*+(?P<quoted>[:,])\s*+ | (?P<equals>=) | [ \t]*+(?P<colon>:)[ \t]*+ )""",
    re.VERBOSE,
)
_OPENING_QUOTE = re.compile(r"""b?(\\{0,64}+)(["'])""")
_JSON_WORD = re.compile(r"""[^\s,}\]"'\\{\[]++""")
_WORD = re.compile(r"""(?![\[{]["'\\])(?:[^\s&"'\\\x1b]|\\(?![nrt"']))++""")
_HEADER_VALUE = re.compile(
    r"""
      digest[ \t][^\r\n]*+
    | [^\s=;"']++=(?:[^\r\n"'\\]|\\(?![nrt"']))*+    # cookies
    | (?:[A-Za-z]++[ \t]++)?(?:[^\s"'\\,]|\\(?![nrt"']))++    # perhaps a scheme, and the rest
    """,
    re.VERBOSE | re.IGNORECASE,
)


def placeholder_for(name: str) -> str | None:
    """What replaces the value of a field of that name (in any case, camel, snake or kebab); None for most names."""
    plain = name.replace("_", "").replace("-", "").lower()
    if not plain.endswith(_SECRET_ENDINGS):
        return None
    return next(_SECRET_NAMES[ending] for ending in _SECRET_ENDINGS if plain.endswith(ending))


def _redact_fields(text: str) -> str:
    pieces: list[str] = []
    done = 0
    person_ends = 0  # where the JSON object under "customer" ends: a "name" in it is a person's
    while field := _FIELD.search(text, done):
        pieces.append(text[done : field.end()])
        done = field.end()
        name = field["name"]
        if name.lower() == "customer" and text.startswith("{", done) and done >= person_ends:
            brace = text.find("}", done)
            person_ends = brace if brace >= 0 else len(text)
        placeholder = SECRET if name == "name" and done < person_ends else placeholder_for(name)
        if placeholder and (span := _value_span(text, done, field)):
            start, end = span
            pieces += [text[done:start], placeholder]
            done = end
    pieces.append(text[done:])
    return "".join(pieces)


def _value_span(text: str, start: int, field: re.Match[str]) -> tuple[int, int] | None:
    """Where the value that begins at `start` has its content; None where there is none to hide."""
    is_header = "x-" in field["name"].lower() or field["name"].lower().endswith(_HEADERS)
    if (field["colon"] or field["quoted"] == ",") and not is_header:
        return None  # "email: not given" is prose, and ["email", "name"] a list of names
    if quoted := _OPENING_QUOTE.match(text, start):
        end = _closing_quote(text, quoted.end(), len(quoted[1]), quoted[2])
        return (quoted.end(), end) if end > quoted.end() else None
    pattern = _HEADER_VALUE if field["colon"] else _WORD if field["equals"] else _JSON_WORD
    bare = pattern.match(text, start)
    if bare is None or bare[0].rstrip(",;)]}>") in _NOTHING or _PLACEHOLDER.fullmatch(bare[0]):
        return None
    return bare.span()


def _closing_quote(text: str, start: int, backslashes: int, mark: str) -> int:
    r"""
    Where the string ends whose opening quote had so many backslashes: 0 in JSON, 1 in JSON within JSON, then 3, 7.

    A quote inside has more of them before it, and a backslash at the string's end doubles them: the closing one has
    `b` of them modulo `2 * (b + 1)`. Fewer are the end of the text around it, which was cut. A line ends every string.
    """
    for found in _QUOTES[mark].finditer(text, start):
        if found[0] == "\n":
            return found.start()
        if not found[0].endswith(mark):
            continue
        run = len(found[0]) - 1
        if run < backslashes:
            return found.start()
        if run % (2 * (backslashes + 1)) == backslashes:
            return found.end() - 1 - backslashes
    return len(text)


_QUOTES: Final = {mark: re.compile(rf"\\++{mark}?|{mark}|\n") for mark in "\"'"}


# --- passwords in URLs


_URL_START = re.compile(r":(?:/|\\/){2}")
_URL_STOP = re.compile(r"""[\s"'<>`]|\Z""")
# What follows the colon isn't a port. Addresses of IPv6 have colons too.
_USER = re.compile(r"(?!\[)[^/?#@:]*+:(?![0-9]{1,5}(?:[/?#,]|\Z))")


def _redact_url_passwords(text: str) -> str:
    """`scheme://user:password@host`; the password may hold "@" and, though in a URL it may not, "/"."""
    pieces: list[str] = []
    kept, position, stop = 0, 0, -1
    while url := _URL_START.search(text, position):
        position = url.end()
        if position > stop and (found := _URL_STOP.search(text, position)):
            stop = found.start()
        user = _USER.match(text, position, stop)
        if user is None:
            continue
        # Up to the last "@": one in a path costs us the host's name in a log, one in a password would show its end.
        at = text.rfind("@", user.end(), stop)
        if at < 0:
            position = stop
            continue
        pieces += [text[kept : user.end()], SECRET]
        kept = position = at
    return "".join((*pieces, text[kept:]))


# --- activation codes, and our own secrets


_DOLLAR = r"(?:\$|%(?:25)?24|\\{1,8}u0024|\\{1,8}x24|&\#36;)"
_OF_CODE = rf"(?:{_DOLLAR}|\\{{1,8}}u(?!00[0-7])[0-9A-Fa-f]{{4}}|[^\s\"'<>\\,;()\[\]{{}}|&`])"
_CODES = re.compile(
    rf"""
      lpa(?::|%(?:25)?3a|\\{{1,8}}u003a|&\#58;)[ ]?[^\s\"'<>\\,;()\[\]{{}}|&`$%:]*+{_DOLLAR}{_OF_CODE}++
    | (?<!\\u[0-9A-Fa-f]{{3}})[0-9]{_DOLLAR}(?:(?!{_DOLLAR}){_OF_CODE})*+{_DOLLAR}{_OF_CODE}*+
    | (?<![0-9A-Za-z.,])1{_DOLLAR}[A-Za-z]{_OF_CODE}{{2,}}+    # as LPA:1$XYZ without prefix; "1$" and "1$50" are money
    """,
    re.VERBOSE | re.IGNORECASE,
)

# In prose ("a bearer token", "Bearer authentication") nothing follows that is secret.
_BEARER = re.compile(
    r"""
    ((?:(?<![A-Za-z])|(?<=\\[nrt]))bearer(?:[ \t]|%20)++)
    (?!(?:token|auth|authentication|authorization|key|scheme)s?\b)[^\s"'\\,;]++
    """,
    re.VERBOSE | re.IGNORECASE,
)
_PAGE_TOKEN = re.compile(r"(?<=/i/)[A-Za-z0-9_-]{16,}+")  # the install page's, which stands in its path
_KEYS = re.compile(r"tribi_[A-Za-z0-9_-]{20,}+|whsec_[A-Za-z0-9+/=_-]{4,}+")
_NAME = re.compile(r"tribi(?:_[a-z]+){2,}")  # of a metric or a database; a key is all small letters once in 10**7


# PostgreSQL's detail of a violated constraint: a whole row, names of persons included.
_ROW = re.compile(r"(Failing row contains )\([^\n]*+")


def _key_or_name(found: re.Match[str]) -> str:
    return found[0] if _NAME.fullmatch(found[0]) else SECRET


# --- e-mail addresses


_AT = re.compile(r"(@|%(?:25)?40|\\u0040|\\x40|&#64;|&#x40;)", re.IGNORECASE)
# Read backwards from the "@": atext of RFC 5322, all beyond ASCII (RFC 6531), also as \u00fc or \xfc.
_LOCAL_BACKWARDS = re.compile(
    r"""(?:[0-9A-Fa-f]{4}u\\|[0-9A-Fa-f]{2}x\\|[^\s\x00-\x20"(),:;<>@\[\\\]\x7f])*+""",
)
_NOT_LOCAL = re.compile(r""".*(?:='|//|\bb')""", re.DOTALL)  # key='a@b.c', //a@b.c, b'a@b.c'
_OF_LABEL = r"(?:\\u[0-9A-Fa-f]{4}|%[89A-Fa-f][0-9A-Fa-f]|[^\s\x00-\x2c./:-@\[-^`{-\x7f\u3002\uff0e\uff61])"
_DOMAIN = re.compile(
    rf"""
      {_OF_LABEL}++(?:[.\u3002\uff0e\uff61]{_OF_LABEL}++)++
    | test(?![A-Za-z0-9_\[-])
    | \[(?:IPv6:)?(?=[0-9A-Fa-f]{{0,4}}[.:])[0-9A-Fa-f.:]{{2,45}}\]
    """,
    re.VERBOSE | re.IGNORECASE,
)


def _redact_emails(text: str) -> str:
    first, *rest = _AT.split(text)
    pieces: list[str] = []
    before = first
    for at, after in zip(rest[::2], rest[1::2], strict=True):
        domain = _DOMAIN.match(after)
        # Versions have numbers only behind the "@": package@1.2.3.
        is_domain = domain is not None and not domain[0].partition(".")[2].replace(".", "").isdigit()
        local = _local_part(before) if is_domain else 0
        if domain and local:
            pieces += [before[:-local], EMAIL]
            before = after[domain.end() :]
        else:
            pieces += [before, at]
            before = after
    return "".join((*pieces, before))


def _local_part(before: str) -> int:
    """How many characters at the end of `before` are the local part of an address."""
    if (quoted := before.rstrip("\\")).endswith('"'):
        # At most 64 characters are within the quotes (RFC 5321 section 4.5.3.1.1).
        opening = quoted.rfind('"', max(0, len(quoted) - 68), -1)
        # In `"key": "@…` the two quotes belong to different strings.
        if opening < 0 or quoted[opening + 1] in ' \t\n:,}]=)"\\':
            return 0
        head = quoted[:opening]
        return len(before) - len(head.rstrip("\\") if quoted.endswith('\\"') else head)
    backwards = _LOCAL_BACKWARDS.match(before[::-1])
    local = _NOT_LOCAL.sub("", backwards[0][::-1] if backwards else "").lstrip("'`{|}*=&?/#!~^")
    rest = before[: len(before) - len(local)]
    if local[:1] in tuple("nrtbf") and (len(rest) - len(rest.rstrip("\\"))) % 2:
        return len(local) - 1  # the letter belongs to a line break that JSON or a repr wrote as \n
    return len(local)


# --- ICCIDs


_ICCIDS = re.compile(
    r"""
      (?P<id>
          (?<![0-9A-Fa-f])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![0-9A-Fa-f])    # UUID
        | \\u(?!89[0-9]{15})[0-9A-Fa-f]{4}    # a character, as JSON writes it
        | (?<![0-9A-Za-z])(?=[0-9]*+[a-f])(?:[0-9a-f]{64}|[0-9a-f]{40}|[0-9a-f]{32})(?![0-9A-Za-z])    # hash, trace
      )
    | (?: [0-9]{18,}+
        | (?<![0-9.])89[0-9]{15}(?![0-9])    # 17 digits occur; as fraction of a number they are a float
        | (?=[0-9]{1,16}[ \u00a0\u202f-])    # grouped; no group begins after 19 digits
          8[ \u00a0\u202f-]?9(?:[ \u00a0\u202f-]?[0-9]){15,17}+[0-9]*+
      )
      (?:[ -]?[Ff](?![0-9A-Za-z]))?+    # pad digit
    """,
    re.VERBOSE,
)


def _iccid_or_id(found: re.Match[str]) -> str:
    return found[0] if found["id"] and not re.search("89[0-9]{15}", found["id"]) else ICCID


# --- what no pass finds anything without


_SIGNS: Final = (
    *(
        "$",
        "@",
        "%",
        "\\",
        "&",
    ),  # of codes, addresses and passwords in URLs, which stand before an "@", or of their escapes
    *("bearer", "/i/", "tribi", "whsec", "failingrow", "customer"),
    *(name for name in _SECRET_NAMES if not any(other in name for other in _SECRET_NAMES if other != name)),
)
_LONG_NUMBER = re.compile(r"[0-9]{17}")
