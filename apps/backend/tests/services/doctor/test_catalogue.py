"""Plans and service keys."""

from app.house import House
from app.services.accounts.keys import revoke_key
from app.services.doctor.catalogue import check_keys, check_plans
from tests.builders import a_key, a_plan
from tests.services.doctor.conftest import by_name, results, the_failure


async def test_a_catalogue_is_wanted_by_hand(house: House) -> None:
    [found] = await check_plans(house)
    assert (found.result.value, found.to_do) == ("by hand", "tribi catalogue import FILE.csv")


async def test_plans_with_their_codes_pass(house: House) -> None:
    await a_plan(house.db)
    [found] = await check_plans(house)
    assert (found.result.value, found.detail) == ("passed", "1 on sale, each with its code at CONNECTED_YOU")


async def test_a_plan_without_a_code_fails(house: House) -> None:
    await a_plan(house.db, sku="es-nowhere", code=None)
    failure = the_failure(await check_plans(house))
    assert failure.detail.startswith("es-nowhere: no code at CONNECTED_YOU")
    assert "tribi catalogue check" in str(failure.to_do)


async def test_a_doubtful_plan_is_for_a_person_to_look_at(house: House) -> None:
    await a_plan(house.db, sku="fr-5gb", name="Spain 5GB", country_iso2="FR")
    found = await check_plans(house)
    assert results(found) == {"catalogue": "passed", "catalogue-doubts": "by hand"}
    assert by_name(found)["catalogue-doubts"].detail.startswith("fr-5gb: the country is FR but the name says Spain")


async def test_a_long_list_of_doubts_is_cut(house: House) -> None:
    for country in ("FR", "DE", "IT", "PT", "JP"):
        await a_plan(house.db, name="Spain 5GB", country_iso2=country, code=f"CY-{country}")
    assert by_name(await check_plans(house))["catalogue-doubts"].detail.endswith(" And 2 more.")


async def test_local_needs_no_codes(house: House) -> None:
    await a_plan(house.db, code=None)
    house.settings = house.settings.model_copy(update={"esim_provider": "LOCAL"})
    [found] = await check_plans(house)
    assert (found.result.value, found.detail) == ("passed", "1 on sale")


async def test_a_key_that_sells_passes(house: House) -> None:
    await a_key(house.db)
    [found] = await check_keys(house)
    assert (found.result.value, found.detail) == ("passed", "1 in use")


async def test_a_key_is_wanted_by_hand_also_where_those_there_are_do_not_sell(house: House) -> None:
    revoked, _ = await a_key(house.db)
    async with house.db.begin() as connection:
        await revoke_key(connection, revoked, actor="test")
    await a_key(house.db, "orders")
    [found] = await check_keys(house)
    assert (found.result.value, str(found.to_do).startswith("tribi keys create ")) == ("by hand", True)
