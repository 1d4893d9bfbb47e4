"""The oracle sees every breach of the promise, and none where there is none. Each is made by hand."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy import text

from app.house import House
from app.services.esim_providers import EsimProvisioningError
from app.services.esim_providers.connected_you.client import ConnectedYou
from app.services.esim_providers.connected_you.wire import Wire
from app.services.esims.activate import Activations
from app.services.esims.esim import place_of
from app.services.esims.intent import reference_of
from tests.builders import an_order
from tests.chaos.oracle import Evidence, judge
from tests.chaos.outcome import PROMISES, Verdict
from tests.stand_in import StandIn, read_ledger
from tests.stand_in.issuing import issue


@dataclass
class Scene:
    """An order that was bought as it should be, one whose outcome is unknown, and one that was refused."""

    house: House
    evidence: Evidence
    bought: int
    unknown: int
    refused: int

    async def change(self, statement: str, **values: object) -> None:
        async with self.house.db.begin() as connection:
            await connection.execute(text(statement), values)

    async def verdict(self) -> Verdict:
        return await judge(self.house.db, self.house.vault, self.evidence)

    async def finds(self, *breaches: str) -> None:
        """These breaches, once each, and no other."""
        found = await self.verdict()
        assert {name: getattr(found, name) for name in PROMISES} == {name: int(name in breaches) for name in PROMISES}
        assert found.is_clean == (not breaches)
        assert len(found.cases) == len(breaches)


@pytest.fixture
async def scene(house: House, tmp_path: Path) -> Scene:
    async with StandIn(ledger=tmp_path / "ledger.jsonl", fsync=False) as supplier:
        provider = ConnectedYou("partner", "key", supplier.url, Wire("key", 10))
        activations = Activations(house, provider, timeout_s=10, wait_s=10, max_concurrency=10)
        bought, unknown, refused = [await an_order(house.db) for _ in range(3)]
        supplier.script("none", "status_500_after", "status_422")
        await activations.activate(bought, actor="test")
        for order_id in (unknown, refused):
            with pytest.raises(EsimProvisioningError):
                await activations.activate(order_id, actor="test")
        received = [asdict(request) for request in supplier.requests]
        await provider.close()
    return Scene(house, Evidence(read_ledger(tmp_path / "ledger.jsonl"), received), bought, unknown, refused)


async def test_a_kept_promise_is_clean(scene: Scene) -> None:
    await scene.finds()
    assert str(await scene.verdict()) == ("clean: 0 doubled, 0 lost, 0 invented, 0 stuck, 0 silent; 0 false unknowns")


async def test_an_order_bought_twice_is_doubled_for_each_surplus_line(scene: Scene) -> None:
    line = next(line for line in scene.evidence.issued if line.reference == reference_of(scene.unknown))
    more = [issue(line.reference, line.plan_code, nth, 10 + nth) for nth in (2, 3)]
    scene.evidence = replace(scene.evidence, issued=[*scene.evidence.issued, *more])
    assert await scene.verdict() == Verdict(doubled=2)


async def test_what_was_issued_to_an_order_that_does_not_know_it_is_lost(scene: Scene) -> None:
    await scene.change("UPDATE esim_profiles SET status = 'refused' WHERE order_id = :order_id", order_id=scene.unknown)
    await scene.finds("lost")


async def test_a_provisioned_order_with_another_code_has_lost_its_own_and_has_one_that_nobody_issued(
    scene: Scene,
) -> None:
    esim_id = await _esim_id(scene, scene.bought)
    other = scene.house.vault.seal_text("LPA:1$RSP.EXAMPLE.COM$OTHER", place_of("activation_code", esim_id))
    await scene.change("UPDATE esim_profiles SET activation_code = :code WHERE id = :id", code=other, id=esim_id)
    await scene.finds("lost", "invented")


async def test_a_provisioned_order_that_the_supplier_knows_nothing_of_is_invented(scene: Scene) -> None:
    others = [line for line in scene.evidence.issued if line.reference != reference_of(scene.bought)]
    scene.evidence = replace(scene.evidence, issued=others)
    await scene.finds("invented")


@pytest.mark.parametrize("status", ["pending", "provisioning"])
async def test_an_order_that_was_driven_to_an_end_and_has_none_is_stuck(scene: Scene, status: str) -> None:
    await scene.change(
        "UPDATE esim_profiles SET status = :status WHERE order_id = :order_id", status=status, order_id=scene.refused
    )
    await scene.finds("stuck")


async def test_an_order_that_nobody_activated_is_not_stuck(scene: Scene) -> None:
    await an_order(scene.house.db)
    scene.evidence = replace(scene.evidence, activated=[scene.bought])
    await scene.finds()


async def test_an_open_attempt_is_stuck(scene: Scene) -> None:
    await scene.change(
        "UPDATE provisioning_attempts SET outcome = NULL, closed_at = NULL WHERE reference = :reference",
        reference=reference_of(scene.unknown),
    )
    await scene.finds("stuck")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE esim_profiles SET provider_payload = NULL WHERE id = :id",
        "DELETE FROM audit_log WHERE tag = 'esims.provisioned' AND subject_id = :id",
        "DELETE FROM procrastinate_jobs WHERE (args ->> 'esim_id')::bigint = :id",
    ],
    ids=["payload", "audit row", "job"],
)
async def test_a_provisioned_esim_without_all_that_belongs_to_it_is_silent(scene: Scene, statement: str) -> None:
    await scene.change(statement, id=await _esim_id(scene, scene.bought))
    await scene.finds("silent")


@pytest.mark.parametrize("which", ["bought", "refused"])
async def test_an_answer_whose_body_is_gone_is_silent(scene: Scene, which: str) -> None:
    reference = reference_of(getattr(scene, which))
    await scene.change("UPDATE provisioning_attempts SET response_body = NULL WHERE reference = :it", it=reference)
    found = await scene.verdict()
    assert (found.silent, found.doubled, found.lost, found.invented, found.stuck) == (2, 0, 0, 0, 0)


async def test_an_answer_that_no_attempt_has_on_file_is_silent(scene: Scene) -> None:
    await _forget_the_answer(scene)
    await scene.finds("silent")


async def test_an_answer_that_nobody_could_take_is_not_missed(scene: Scene) -> None:
    await _forget_the_answer(scene)
    scene.evidence = replace(scene.evidence, disturbed={reference_of(scene.unknown)})
    await scene.finds()


async def test_an_answer_that_came_after_the_calls_end_is_not_missed(scene: Scene) -> None:
    await _forget_the_answer(scene)
    await scene.change(
        "UPDATE provisioning_attempts SET duration_ms = 10500 WHERE reference = :it", it=reference_of(scene.unknown)
    )
    await scene.finds()


async def test_an_unknown_order_that_the_supplier_never_received_is_a_false_unknown(scene: Scene) -> None:
    line = reference_of(scene.unknown)
    scene.evidence = replace(
        scene.evidence,
        issued=[issued for issued in scene.evidence.issued if issued.reference != line],
        received=[request for request in scene.evidence.received if request["reference"] != line],
    )
    await scene.finds()
    assert (await scene.verdict()).false_unknowns == 1


async def test_no_case_tells_a_code(scene: Scene) -> None:
    scene.evidence = replace(scene.evidence, issued=[*scene.evidence.issued, *scene.evidence.issued])
    await scene.change("UPDATE esim_profiles SET status = 'refused' WHERE order_id = :order_id", order_id=scene.unknown)
    found = await scene.verdict()
    assert found.cases
    assert not [line for line in scene.evidence.issued if line.activation_code in " ".join(found.cases)]


async def _esim_id(scene: Scene, order_id: int) -> int:
    async with scene.house.db.read() as connection:
        found = await connection.scalar(text("SELECT id FROM esim_profiles WHERE order_id = :it"), {"it": order_id})
        assert isinstance(found, int)
        return found


async def _forget_the_answer(scene: Scene) -> None:
    await scene.change(
        "UPDATE provisioning_attempts SET response_body = NULL, response_status = NULL WHERE reference = :it",
        it=reference_of(scene.unknown),
    )
