"""Cursor pages: newest first, each next page begins below the last id of the one before."""

from collections.abc import Sequence
from typing import Annotated, Protocol, TypeVar

from fastapi import Query

from app.api.access import GREATEST_ID

Limit = Annotated[int, Query(ge=1, le=100, description="How many items at most")]
Cursor = Annotated[
    str | None, Query(pattern="^[0-9]{1,18}$", description="`next_cursor` of the page before", examples=["120"])
]


class _HasId(Protocol):
    @property
    def id(self) -> int: ...


Item = TypeVar("Item", bound=_HasId)


def before_id(cursor: str | None) -> int:
    return int(cursor) if cursor is not None else GREATEST_ID


def cut(items: Sequence[Item], limit: int) -> tuple[Sequence[Item], str | None]:
    """
    Args:
        items: one more than `limit`, where there are so many.

    Returns:
        The page's items and the cursor of the next page.
    """
    page = items[:limit]
    return page, str(page[-1].id) if len(items) > limit else None
