"""Steps of staff: ending orders, settling what is unknown, looking."""

from hypothesis import strategies as st

from app.services.esims.resolve import CannotResolve
from app.values.activation_code import ActivationCode, UnusableActivationCode
from app.values.iccid import Iccid
from tests.chaos.model.acts import Acts, refused
from tests.chaos.model.processes import Mishap
from tests.chaos.model.stepping import chosen
from tests.chaos.model.steps import PERHAPS, PICK, SIDE, WORD, may_send, step
from tests.chaos.model.supplier import WELL, Word
from tests.stand_in.issuing import issue

_FEWEST_PAID = 3


class Settling(Acts):
    """What people do."""

    @step(
        lambda stage: sum(order.status == "paid" for order in stage.model.orders) > _FEWEST_PAID,
        pick=PICK,
        status=st.sampled_from(["cancelled", "refunded"]),
    )
    def end_an_order(self, pick: int, status: str) -> None:
        order = chosen([order for order in self.model.orders if order.status == "paid"], pick)
        self.world.on_file.end_order(order.id, status)
        order.status = status
        if order.profile in {"pending", "refused"}:
            order.profile = "cancelled"

    @step(
        lambda stage: any(order.profile == "unknown" for order in stage.bought()), pick=PICK, with_iccid=st.booleans()
    )
    def a_person_types_in_what_was_issued(self, pick: int, with_iccid: bool) -> None:
        order = chosen(self.stage.bought(), pick)
        line = self.stage.supplier.ledger[order.reference][-1]
        code = ActivationCode.read(line.activation_code)
        iccid = Iccid.read(line.iccid) if with_iccid else None
        if self.model.may_be_resolved(order):
            self.world.run(self.resolve_issued(order, code, iccid))
            self.stage.count("issued, says a person")
            self.model.resolve_issued(order, code.text, has_iccid=with_iccid)
        else:
            with refused(CannotResolve):
                self.world.run(self.resolve_issued(order, code, iccid))

    @step(
        lambda stage: stage.model.holders() and stage.without_iccid(),
        pick=PICK,
        what=st.sampled_from(["code", "ICCID", "nonsense"]),
    )
    def a_person_types_in_what_cannot_be(self, pick: int, what: str) -> None:
        order, holder = chosen(self.stage.without_iccid(), pick), chosen(self.model.holders(), pick)
        if what == "nonsense":
            with refused(UnusableActivationCode):
                ActivationCode.read("LPA:2$no$code")
            return
        [line] = [
            line
            for lines in self.stage.supplier.ledger.values()
            for line in lines
            if line.activation_code == holder.code
        ]
        fresh = issue(order.reference, "CY-ES-5GB", 900, 900)
        code = ActivationCode.read(line.activation_code if what == "code" else fresh.activation_code)
        with refused(CannotResolve):
            self.world.run(self.resolve_issued(order, code, Iccid.read(line.iccid if what == "ICCID" else fresh.iccid)))

    @step(lambda stage: any(order.profile == "unknown" for order in stage.model.orders), pick=PICK, mishap=PERHAPS)
    def a_person_says_that_nothing_was_issued(self, pick: int, mishap: Mishap | None) -> None:
        unknown = [order for order in self.model.orders if order.profile == "unknown"]
        self.say_not_issued(chosen(self.model.resolvable() or unknown, pick), mishap)

    @step(lambda stage: may_send(stage), pick=PICK, side=SIDE, word=WORD, is_heard=st.booleans())
    def a_person_is_mistaken(self, pick: int, side: str, word: Word, is_heard: bool) -> None:
        """
        A call that sleeps is given up, nothing is said to have been issued, and the order is sent again by the other process.
        Then the sleeper may hear its answer, which nobody needs any more.
        """
        order, caller = self.free(pick)
        self.give_up_a_call(order, caller, pick, side)
        self.say_not_issued(order)
        again = (order, "A" if caller == "B" else "B")
        if again in self.stage.free():
            self.world.run(self.buy(*again, pick, WELL if is_heard else word))
        if is_heard:
            self.world.run(self.hear(self.model.flights[caller, order.id], pick, word))

    @step(lambda stage: stage.model.orders, pick=PICK, side=SIDE)
    def look(self, pick: int, side: str) -> None:
        order = chosen(self.model.orders, pick)
        path = f"/api/esims/{order.esim_id}"
        esim, picture = (self.world.run(self.world.get(side, at)) for at in (path, f"{path}/qr.svg"))
        is_provisioned = order.profile == "provisioned"
        assert (esim.json()["status"], esim.json()["activation_code"]) == (order.profile, order.code)
        if is_provisioned:
            order.body = order.body or esim.body
            assert esim.body == order.body
        assert picture.status == (200 if is_provisioned else 404)
        esims, orders = (
            self.world.run(self.world.get(side, f"/api/{of}")).json()["items"] for of in ("esims", "orders")
        )
        expected = [(order.id, order.profile) for order in reversed(self.model.orders)]
        assert [(esim["order_id"], esim["status"]) for esim in esims] == expected
        assert [(order["id"], order["esim"]["status"]) for order in orders] == expected
