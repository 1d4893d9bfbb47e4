"""The statements of one request of each kind that is measured: how many they are, and the yardstick's script made of them."""

from dataclasses import dataclass

import structlog

from app.settings import Settings
from tests.api.serving import Shop, served
from tests.bench.pgbench import Numbers, Script, script_of
from tests.bench.shop import Stage
from tests.bench.statements import Statement, overheard, without_background

STATEMENTS = {"activation": 12, "repeat activation": 1, "read": 1}
"""What each request may ask of the database, BEGIN and COMMIT among it. tests/api/test_statements.py holds more."""

_ORDERS = 3
"""Activated one after the other: the last one also asks whether the database knows the one before, as all but the first do."""


@dataclass(frozen=True, slots=True)
class Overheard:
    script: Script
    counts: dict[str, int]


class TooManyStatements(Exception):
    """`str()` has them."""


async def overhear(stage: Stage) -> Overheard:
    """
    Raises:
        TooManyStatements: a request asks for more than STATEMENTS.
        UnexpectedStatements: see `script_of`.
    """
    orders = [await stage.site.order() for _ in range(_ORDERS)]
    values = {name.lower(): value for name, value in stage.site.settings.items()}
    settings = Settings.model_validate(values | {"tribi_data_dir": stage.folder / "overheard"})
    earlier = structlog.get_config()
    told: dict[str, list[Statement]] = {}
    with (stage.folder / "overheard.log").open("w") as log:
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(log))
        with overheard(stage.database_url) as heard, without_background(), served(settings) as server:
            bearer = {"Authorization": f"Bearer {stage.site.secret}"}
            shop = Shop(server.url, stage.site.db, stage.site.http, bearer, stage.site.key_id)
            for order in orders:
                heard.clear()
                assert (await shop.activate(order)).status == 201
            told["activation"] = [*heard]
            heard.clear()
            reply = await shop.activate(orders[-1])
            told["repeat activation"] = [*heard]
            heard.clear()
            await shop.get(f"/api/esims/{reply.json()['id']}")
            told["read"] = [*heard]
    structlog.configure(**earlier)
    for name, statements in told.items():
        if len(statements) != STATEMENTS[name]:
            raise TooManyStatements(f"{name}: not {STATEMENTS[name]}: {[statement.shape for statement in statements]}")
    of_order = "SELECT max(id) FROM {} WHERE {}"
    profile = stage.ask(of_order.format("esim_profiles", "order_id = %s"), orders[-1])
    attempt = stage.ask(of_order.format("provisioning_attempts", "profile_id = %s"), profile)
    script = script_of(told["activation"], Numbers(orders[-1], profile, attempt))
    return Overheard(script, {name: len(statements) for name, statements in told.items()})
