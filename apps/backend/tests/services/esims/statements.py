"""What an activation asks of the database."""

from app.house import House
from app.services.esims.activate import Activations
from tests.builders import an_order
from tests.statements import statements


async def statements_of(house: House, activations: Activations) -> list[str]:
    """Those of one that buys."""
    order_id = await an_order(house.db)
    with statements(house.db) as seen:
        assert (await activations.activate(order_id, actor="key:1")).is_first
    return seen
