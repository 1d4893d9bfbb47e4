"""An event reaches whoever wants it, signed, once at least and under one id, whoever is away meanwhile."""



from app.house import House
from app.services.webhooks.events import OrderPaid
from tests.services.webhooks.conftest import (
    Receiver,
    an_endpoint,
    deliveries_on_file,
    told,
    worked_off,
)

PAID = OrderPaid(order_id=7, esim_id=8, is_live=False)


async def test_a_message_is_signed_as_the_reference_library_wants_it(telling_house: House, receiver: Receiver) -> None:
    _, secret = await an_endpoint(telling_house, receiver.url)
    await told(telling_house, PAID)
    assert await worked_off(telling_house) == 1
    [message] = receiver.heard
    payload = message.verified(secret)
    assert payload["type"] == "order.paid"
    assert payload["data"] == {"order_id": 7, "esim_id": 8, "is_live": False, "status": "paid"}
    assert payload["timestamp"].endswith("Z")
    assert message.message_id.startswith("msg_")
    [delivery] = await deliveries_on_file(telling_house.db)
    assert (delivery.status, delivery.attempts, delivery.next_attempt_at) == ("delivered", 1, None)
    assert await worked_off(telling_house) == 0
