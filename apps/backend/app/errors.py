"""The root of the error tree, and the problem types that more than one room raises.

An error knows three things about itself: its problem type (`code`, the last part of `/problems/<code>`, RFC 9457 section 3.1.1),
the HTTP status that goes with it, and a sentence for the client. `str(error)` is for operators and may hold a provider's words;
`public_message` never does.
"""

from enum import StrEnum
from typing import ClassVar, Final


class TribiError(Exception):
    """Anything that Tribi expects to go wrong. Each subclass is one problem type (or shares one)."""

    code: ClassVar[str]
    title: ClassVar[str]
    meaning: ClassVar[str]
    """One or two sentences for the page `/problems/<code>`: what happened and what to do."""
    http_status: ClassVar[int]
    retryable: ClassVar[bool] = False

    public_message: str
    retry_after_s: int | None

    def __init__(
        self, message: str | None = None, *, public_message: str | None = None, retry_after_s: int | None = None
    ) -> None:
        """
        Args:
            message: for operators; without it, the public one.
            public_message: for the client; without it, the type's meaning.
            retry_after_s: seconds for the `Retry-After` header (RFC 9110 section 10.2.3), None for no header.
        """
        self.public_message = public_message or self.meaning
        self.retry_after_s = retry_after_s
        super().__init__(message or self.public_message)


class NotFound(TribiError):
    code = "not-found"
    title = "Not found"
    meaning = "There is nothing at this address, or nothing that you may see. Check the id and the key you used."
    http_status = 404


class ValidationFailed(TribiError):
    code = "validation-failed"
    title = "The request is not valid"
    meaning = (
        "The request was understood but holds values that cannot be. `errors` names each of them; nothing was done."
    )
    http_status = 422


class RateLimited(TribiError):
    code = "rate-limited"
    title = "Too many requests"
    meaning = "Requests came faster than this key or address may send them. Send again after `Retry-After`."
    http_status = 429
    retryable = True


class DatabaseUnavailable(TribiError):
    code = "database-unavailable"
    title = "The database is away"
    meaning = "Tribi cannot reach its database at the moment. Nothing was bought by this request; send it again a little later."
    http_status = 503
    retryable = True

    def __init__(self, message: str | None = None, *, public_message: str | None = None) -> None:
        super().__init__(message, public_message=public_message, retry_after_s=2)


class PausedBy(StrEnum):
    """What keeps orders from a provider."""

    HELD = "held"
    """The database is older than the intent journal (`app.held`)."""
    PERSON = "person"
    """Somebody has typed `tribi providers pause`."""
    CIRCUIT = "circuit"
    """Too many calls in a row have failed."""
    CAP = "cap"
    """LIVE_ESIMS_PER_HOUR or LIVE_ESIMS_PER_DAY is used up."""


class ProviderPaused(TribiError):
    """Nothing is sent to the provider for now."""

    code = "provider-paused"
    title = "Orders to the provider are paused"
    meaning = (
        "Tribi sends nothing to the eSIM provider for now: the shop's operator has paused it, the shop's own limit of eSIMs an "
        "hour or a day is used up, too many calls in a row have failed, or the shop's database was set back. `detail` says which "
        "of these it is. Nothing was sent and the order keeps; activate it again after `Retry-After`."
    )
    http_status = 503
    retryable = True

    by: PausedBy

    def __init__(self, by: PausedBy, *, retry_after_s: int) -> None:
        super().__init__(public_message=_WHY_PAUSED[by], retry_after_s=retry_after_s)
        self.by = by


_KEEPS = "Nothing was sent and the order keeps; activate it again after `Retry-After`."
_WHY_PAUSED: Final = {
    PausedBy.HELD: (
        "This installation's database was set back to an older state. Until its operator has run `tribi recover` it sends "
        "nothing to the eSIM provider and takes no orders. Nothing was done; send the request again after `Retry-After`."
    ),
    PausedBy.PERSON: f"The shop's operator has paused orders to the eSIM provider. {_KEEPS}",
    PausedBy.CIRCUIT: f"Too many calls to the eSIM provider in a row have failed, so it is given a rest. {_KEEPS}",
    PausedBy.CAP: f"The shop's own limit of eSIMs an hour or a day is used up. {_KEEPS}",
}


class ConfigurationError(Exception):
    """The installation cannot start as it is configured. `str()` holds one line per mistake."""


def problem_types(root: type[TribiError] = TribiError) -> dict[str, type[TribiError]]:
    """Every problem type by its code; where errors share a code, the one nearest the root (it describes the type)."""
    found: dict[str, type[TribiError]] = {}
    level = [root]
    while level:
        for error in level:
            if "code" in vars(error):
                found.setdefault(error.code, error)
        level = [child for error in level for child in error.__subclasses__()]
    return dict(sorted(found.items()))
