"""docs/providers/adding_one.md leads to a provider that sells, and names what there is."""

import re

from app.house import House
from app.services.catalogue.csv_file import read_catalogue
from app.services.catalogue.importing import apply_import
from app.services.esim_providers import EsimProvisioningError
from app.services.esims.activate import Activations
from app.services.orders.place import NewOrder, place_order
from app.settings import BACKEND_DIR
from tests.builders import a_key
from tests.stand_in import StandIn
from tests.toy_provider import build_toy
from tests.toy_provider.dialect import TOY

ROOT = BACKEND_DIR.parents[1]
RECIPE = ROOT / "docs" / "providers" / "adding_one.md"
_PLACES = (ROOT, BACKEND_DIR, BACKEND_DIR / "app" / "services" / "esim_providers", RECIPE.parent)
FILE = (
    "sku,name,country_iso2,data_mb,validity_days,price_minor,currency,toy_plan_code\n"
    "iberia,Iberia,PT ES,5120,30,1290,EUR,T-1\n"
)


def test_every_file_that_the_recipe_names_is_there() -> None:
    text = RECIPE.read_text(encoding="utf-8")
    named = set(re.findall(r"[`(]((?:[\w.]+/)*[\w.]+\.(?:py|md|example))[`)]", text))
    made = {"__init__.py", "client.py", "payloads.py", "dry_run.py"}
    assert len(named) > 15
    assert [name for name in sorted(named - made) if not any((place / name).exists() for place in _PLACES)] == []


def test_the_toy_has_the_files_of_the_recipe() -> None:
    assert {"__init__.py", "client.py", "payloads.py", "dialect.py"} <= {
        path.name for path in (BACKEND_DIR / "tests" / "toy_provider").iterdir()
    }


async def _placed(house: House, key: str) -> int:
    async with house.db.begin() as connection:
        placed = await place_order(
            connection,
            NewOrder("iberia", "ana@example.com", "Ana Traveller", "pay-1"),
            idempotency_key=key,
            key_id=(await a_key(house.db))[0],
            provider="TOY",
            code_provider="TOY",
            is_live=True,
        )
    return placed.order_id


async def test_a_provider_by_the_recipe_sells_and_fails_as_any_other(house: House) -> None:
    async with house.db.begin() as connection:
        file = read_catalogue(FILE.encode(), ["TOY"])
        await apply_import(connection, file, replacing=False, actor="test", file_name="toy.csv")
    async with StandIn(dialect=TOY) as supplier:
        toy = build_toy(supplier.url, "a key", timeout_s=20)
        activations = Activations(house, toy, timeout_s=20, wait_s=30, max_concurrency=4)
        delivered = await activations.activate(await _placed(house, "one"), actor="test")
        again = await activations.activate(delivered.esim.order_id, actor="test")
        failures: list[EsimProvisioningError] = []
        for fault in ("status_422", "status_503_after"):
            supplier.script(fault)
            order_id = await _placed(house, fault)
            try:
                await activations.activate(order_id, actor="test")
            except EsimProvisioningError as error:
                failures.append(error)
        await toy.close()

    assert (delivered.esim.status, delivered.esim.provider, again.esim.id) == ("provisioned", "TOY", delivered.esim.id)
    assert delivered.esim.activation_code is not None
    assert delivered.esim.activation_code.text == supplier.issued[0].activation_code
    assert [error.code for error in failures] == ["provider-refused", "activation-outcome-unknown"]
    assert (supplier.request_count, len(supplier.issued), supplier.violations) == (3, 2, [])
    assert {(request.json()["product"], request.json()["country"]) for request in supplier.requests} == {("T-1", "PT")}
