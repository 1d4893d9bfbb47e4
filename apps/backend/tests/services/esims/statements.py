"""What an activation asks of the database, statement by statement."""

from sqlalchemy import event

from app.house import House
from app.services.esims.activate import Activations
from tests.builders import an_order


async def statements_of(house: House, activations: Activations) -> list[str]:
    """Those of one that buys."""
    order_id = await an_order(house.db)
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    engine = house.db._engine.sync_engine  # noqa: SLF001 - where statements can be counted
    event.listen(engine, "before_cursor_execute", note)
    try:
        assert (await activations.activate(order_id, actor="key:1")).is_first
    finally:
        event.remove(engine, "before_cursor_execute", note)
    return seen
