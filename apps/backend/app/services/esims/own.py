"""What a traveller's activation is checked for before it begins."""

from app.house import House
from app.rate_limits import Limit, take
from app.services.accounts.sessions import SignedIn
from app.services.orders.show import order_by_id

ACTIVATIONS = Limit("activations: traveller", 30, 3600)


async def check_own_activation(house: House, traveller: SignedIn, order_id: int) -> None:
    """
    Raises:
        NotFound: the order isn't theirs, or there is none.
        RateLimited: they activate again and again.
    """
    async with house.db.read() as connection:
        await take(connection, house.vault, (ACTIVATIONS, str(traveller.traveller_id)))
        await order_by_id(connection, order_id, owner=traveller.owner)
