"""What is sent to POST /partners/orders, read by the letter of the draft contract: what a real supplier may refuse is refused."""

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from app.values.strict_json import read_strict_json

_MOST_TOLD = 5  # mistakes; of a body that is nothing like an order there would be dozens
_LONGEST_TOLD = 100  # characters of the place of a mistake, which is the sender's own text


def _email(text: str) -> str:
    if re.fullmatch(r"[^\s@]+@[^\s@]+", text) is None:
        raise ValueError("must be an e-mail address")
    return text


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", alias_generator=to_camel, hide_input_in_errors=True)


class Customer(_Part):
    """Read, and forgotten at once: no ledger and no log holds it."""

    email: Annotated[str, AfterValidator(_email)]
    name: str


class Metadata(BaseModel):
    """The one place where the contract lets anything stand."""

    model_config = ConfigDict(strict=True, extra="allow", hide_input_in_errors=True)

    order_id: Annotated[int, Field(ge=1)]
    plan_name: Annotated[str, Field(min_length=1)]


class PartnerOrder(_Part):
    partner_id: Annotated[str, Field(min_length=1)]
    order_reference: Annotated[str, Field(pattern="^order-[1-9][0-9]*$")]
    plan_code: Annotated[str, Field(min_length=1)]
    country_iso2: Annotated[str, Field(pattern="^[A-Z]{2}$")]
    quantity: Annotated[int, Field(ge=1, le=1)]
    customer: Customer
    metadata: Metadata


class Refused(Exception):
    """The sandbox's no to a request that breaks the contract. `str()` repeats nothing of what was sent but names of fields."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def read_order(headers: Mapping[str, str], body: bytes) -> PartnerOrder:
    """
    Args:
        headers: names in any case.

    Raises:
        Refused: the key is missing, or begins with "wrong"; the body isn't JSON, or no PartnerOrder.
    """
    key = headers.get("x-api-key", "").strip()
    if not key:
        raise Refused(401, "missing_key", "The header x-api-key is missing.")
    if key.lower().startswith("wrong"):
        raise Refused(
            401, "wrong_key", "This API key is not known. (The sandbox takes any that doesn't begin with wrong.)"
        )
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(415, "not_json", "The header Content-Type must be application/json.")
    try:
        value = read_strict_json(body)
    except ValueError:
        raise Refused(400, "not_json", "The body isn't JSON in UTF-8, or names a field twice.") from None
    try:
        return PartnerOrder.model_validate(value)
    except ValidationError as error:
        raise Refused(422, "invalid_order", _told(error)) from None


def _told(error: ValidationError) -> str:
    mistakes = [
        f"{'.'.join(map(str, mistake['loc']))[:_LONGEST_TOLD] or 'the body'}: {mistake['msg'].removeprefix('Value error, ')}"
        for mistake in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    more = f"; and {len(mistakes) - _MOST_TOLD} more" if len(mistakes) > _MOST_TOLD else ""
    return "; ".join(mistakes[:_MOST_TOLD]) + more
