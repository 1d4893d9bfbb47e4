"""The shapes of columns that several tables share."""

from datetime import datetime
from typing import Annotated, Any

from sqlalchemy import BigInteger, DateTime, Identity, LargeBinary, Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import mapped_column

Id = Annotated[int, mapped_column(BigInteger, Identity(), primary_key=True)]
BigInt = Annotated[int, mapped_column(BigInteger)]
String = Annotated[str, mapped_column(Text)]
Instant = Annotated[datetime, mapped_column(DateTime(timezone=True))]
CreatedAt = Annotated[datetime, mapped_column(DateTime(timezone=True), server_default=func.now())]
Json = Annotated[dict[str, Any], mapped_column(JSONB)]
Sealed = Annotated[bytes, mapped_column(LargeBinary, info={"is_sealed": True})]
"""Encrypted by `app.vault` for its table, column and row; what carries this mark is sealed anew when the key is rotated."""
Fingerprint = Annotated[bytes, mapped_column(LargeBinary)]


def one_of(column: str, values: tuple[str, ...]) -> str:
    """A CHECK that closes a set of states."""
    return f"{column} IN ({', '.join(repr(value) for value in values)})"
