"""What follows a delivery: the traveller is told."""

import structlog

from app.house import House
from app.services.esims.esim import esim_by_id

log = structlog.get_logger()


async def announce_provisioned(house: House, esim_id: int) -> None:
    async with house.db.read() as connection:
        esim = await esim_by_id(connection, house.vault, esim_id)
    log.info("esims.announced", esim_id=esim.id)
