"""What nobody can sign in with any more, the addresses in it included, and limits that hold nobody back."""

from app.house import House
from app.rate_limits import forget_full_buckets
from app.services.accounts.codes import forget_codes
from app.services.accounts.sessions import forget_sessions


async def forget_what_is_over(house: House) -> None:
    """Once a day, by the queue's timetable; each in a transaction of its own, so that none holds many rows for long."""
    for forget in (forget_codes, forget_sessions, forget_full_buckets):
        async with house.db.begin() as connection:
            await forget(connection)
