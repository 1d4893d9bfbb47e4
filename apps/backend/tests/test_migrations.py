"""The schema: how it comes and goes, that it is the models', and what it refuses by itself."""

import base64
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import CheckViolation, IntegrityError, UniqueViolation
from sqlalchemy import create_engine
from sqlalchemy.engine import Connection
from sqlalchemy.pool import NullPool

from app import schema
from app.connecting import connect_arguments
from app.db import Base, Database
from app.errors import ConfigurationError, DatabaseUnavailable
from app.house import House
from app.models.accounts import SCOPES
from app.models.esims import ATTEMPT_OUTCOMES, PLAN_STATES, PROFILE_STATES, PROFILE_STATUSES
from app.models.orders import ORDER_STATUSES
from app.models.webhooks import DELIVERY_STATUSES, DISABLED_BECAUSE, EVENTS
from app.services.esim_providers import get_esim_provider
from app.services.esims.activate import Activations
from app.services.esims.dossier import dossier_of
from app.settings import BACKEND_DIR, Settings
from tests.builders import an_order

_numbers = count(1)


def other_database(url: str, name: str) -> str:
    parts = conninfo_to_dict(url)
    return f"postgresql://{parts['user']}@/{name}?host={parts['host']}&port={parts['port']}"


@pytest.fixture
def empty_url(postgres_url: str) -> Iterator[str]:
    """A database without anything in it."""
    name = f"empty_{next(_numbers)}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield other_database(postgres_url, name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def rows(url: str, query: LiteralString) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(query).fetchall()


def revision_of(url: str) -> list[Any]:
    return [version for (version,) in rows(url, "SELECT version_num FROM alembic_version")]


def revisions() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    return ScriptDirectory.from_config(config)


# Coming and going


def test_an_empty_database_becomes_one_at_the_head(empty_url: str) -> None:
    schema.migrate(empty_url)
    assert revision_of(empty_url) == [schema.head()]


def test_the_head_is_alembics_own() -> None:
    assert revisions().get_heads() == [schema.head()]


def test_revisions_are_numbers_in_a_row() -> None:
    found = sorted(script.revision for script in revisions().walk_revisions())
    assert found == [f"{number:04}" for number in range(1, len(found) + 1)]


def test_a_database_at_the_head_is_left_alone(empty_url: str) -> None:
    schema.migrate(empty_url)
    before = rows(empty_url, "SELECT oid, relname FROM pg_class ORDER BY oid")
    schema.migrate(empty_url)
    assert rows(empty_url, "SELECT oid, relname FROM pg_class ORDER BY oid") == before


async def test_each_step_back_and_forth_keeps_what_the_older_schema_knows(database_url: str, db: Database) -> None:
    order_id = await an_order(db)
    await db.close()
    orders = (
        "SELECT o.id, o.status, o.plan_snapshot::text, o.amount_minor, o.customer_email, o.customer_name, p.id, p.status"
        " FROM orders o JOIN esim_profiles p ON p.order_id = o.id"
    )
    before = rows(database_url, orders)
    for _ in range(len(list(revisions().walk_revisions())) - 1):
        schema.migrate(database_url, "-1")
        assert rows(database_url, orders) == before
    assert revision_of(database_url) == ["0001"]
    schema.migrate(database_url)
    assert rows(database_url, orders) == before
    assert before[0][0] == order_id


THINGS: LiteralString = """
    SELECT 'relation', relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT 'type', typname::text FROM pg_type WHERE typnamespace = 'public'::regnamespace
    UNION ALL SELECT 'function', proname::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT 'trigger', tgname::text FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT 'schema', nspname::text FROM pg_namespace WHERE nspname !~ '^pg_'
    UNION ALL SELECT 'extension', extname::text FROM pg_extension
    ORDER BY 1, 2"""


def test_back_to_the_beginning_nothing_is_left_but_alembics_empty_table(empty_url: str) -> None:
    before = rows(empty_url, THINGS)
    schema.migrate(empty_url)
    schema.migrate(empty_url, "base")
    left = [thing for thing in rows(empty_url, THINGS) if thing not in before]
    assert left == [
        ("relation", "alembic_version"),
        ("relation", "alembic_version_pkc"),
        ("type", "_alembic_version"),
        ("type", "alembic_version"),
    ]
    assert revision_of(empty_url) == []


def test_from_the_beginning_it_comes_again(empty_url: str) -> None:
    schema.migrate(empty_url)
    first = rows(empty_url, THINGS)
    schema.migrate(empty_url, "base")
    schema.migrate(empty_url)
    assert rows(empty_url, THINGS) == first


def test_processes_that_migrate_at_once_take_turns(empty_url: str) -> None:
    program = "import sys; from app.schema import migrate; migrate(sys.argv[1])"
    command = [sys.executable, "-c", program, empty_url]
    running = [subprocess.Popen(command, cwd=BACKEND_DIR, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (0, "")
    assert revision_of(empty_url) == [schema.head()]


NEXT = """
from alembic import op

revision = '9999'
down_revision = '{head}'


def upgrade():
    {statements}
"""


@pytest.fixture
def next_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of one more migration, in a copy of ours."""
    head = schema.head()
    copy = tmp_path / "migrations"
    shutil.copytree(schema.MIGRATIONS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(schema, "MIGRATIONS", copy)
    path = copy / "versions" / "9999_the_next.py"
    path.write_text(NEXT.format(head=head, statements="pass"))
    return path


def test_no_migration_waits_long_for_a_busy_table(database_url: str, next_migration: Path) -> None:
    next_migration.write_text(
        next_migration.read_text().replace(
            "pass", "op.execute(\"CREATE TABLE seen AS SELECT current_setting('lock_timeout') AS lock_timeout\")"
        )
    )
    schema.migrate(database_url)
    assert rows(database_url, "SELECT lock_timeout FROM seen") == [(f"{schema.LOCK_TIMEOUT_MS}ms",)]
    assert schema.LOCK_TIMEOUT_MS < 200


def test_a_busy_table_is_told_and_the_database_stays_as_it_was(database_url: str, next_migration: Path) -> None:
    next_migration.write_text(
        next_migration.read_text().replace(
            "pass",
            'op.execute("CREATE TABLE half_done ()"); op.execute("ALTER TABLE plans ADD COLUMN x int")',
        )
    )
    before = revision_of(database_url)
    with psycopg.connect(database_url) as busy:
        busy.execute("LOCK TABLE plans IN ACCESS SHARE MODE")
        with pytest.raises(DatabaseUnavailable, match=r"stayed busy for 0\.1 s .*lock timeout.*try again$"):
            schema.migrate(database_url, patience_s=0.1)
    assert revision_of(database_url) == before
    assert rows(database_url, "SELECT to_regclass('half_done')") == [(None,)]


def test_a_migration_tries_again_until_the_table_is_free(database_url: str, next_migration: Path) -> None:
    next_migration.write_text(
        next_migration.read_text().replace(
            "pass", "op.execute(\"SELECT nextval('tries')\"); op.execute('ALTER TABLE plans ADD COLUMN x int')"
        )
    )
    with psycopg.connect(database_url) as busy:
        busy.execute("CREATE SEQUENCE tries")
        busy.commit()
        busy.execute("LOCK TABLE plans IN ACCESS SHARE MODE")
        with ThreadPoolExecutor() as elsewhere:
            migrating = elsewhere.submit(schema.migrate, database_url)
            while rows(database_url, "SELECT last_value FROM tries") < [
                (2,)
            ]:  # a sequence keeps count of what is rolled back
                assert not migrating.done()
            busy.rollback()
            assert migrating.result() == "9999"


def test_an_index_can_be_made_while_others_write(database_url: str, next_migration: Path) -> None:
    next_migration.write_text(
        next_migration.read_text().replace(
            "pass",
            "with op.get_context().autocommit_block():\n"
            "        op.create_index('ix_new', 'orders', ['status'], postgresql_concurrently=True)",
        )
    )
    with psycopg.connect(database_url) as writing:
        writing.execute("LOCK TABLE orders IN ROW EXCLUSIVE MODE")
        with ThreadPoolExecutor() as elsewhere:
            migrating = elsewhere.submit(schema.migrate, database_url)
            while not rows(database_url, "SELECT 1 FROM pg_stat_progress_create_index WHERE phase LIKE 'waiting%'"):
                assert not migrating.done(), migrating.result()
            rows(database_url, "WITH written AS (UPDATE orders SET status = status RETURNING 1) SELECT 1 FROM written")
            writing.rollback()
            assert migrating.result() == "9999"
    assert rows(database_url, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix_new'::regclass") == [(True,)]


@pytest.mark.parametrize("is_valid", [True, False])
def test_0006_goes_on_after_a_try_that_was_cut_short(empty_url: str, is_valid: bool) -> None:
    schema.migrate(empty_url, "0005")
    with psycopg.connect(empty_url, autocommit=True) as connection:
        name = "ix_provisioning_attempts_spending"
        connection.execute(f"CREATE INDEX {name} ON provisioning_attempts (opened_at)".encode())
        found = "UPDATE pg_index SET indisvalid = %s WHERE indexrelid = %s::regclass RETURNING indexrelid"
        [before] = connection.execute(found, [is_valid, name]).fetchone() or [None]
        schema.migrate(empty_url, "0006")
        now = "SELECT indisvalid, indexrelid = %s FROM pg_index WHERE indexrelid = %s::regclass"
        assert connection.execute(now, [before, name]).fetchall() == [(True, is_valid)]


@pytest.mark.parametrize("is_valid", [True, False])
def test_the_install_pages_go_on_after_a_try_that_was_cut_short(empty_url: str, is_valid: bool) -> None:
    [revision] = [one for one in revisions().walk_revisions() if one.doc.startswith("install pages")]
    assert isinstance(revision.down_revision, str)
    schema.migrate(empty_url, revision.down_revision)
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE esim_profiles ADD page_token bytea, ADD page_token_hash bytea")
        name = "uq_esim_profiles_page_token"
        connection.execute(
            f"CREATE UNIQUE INDEX {name} ON esim_profiles (page_token_hash) WHERE page_token_hash IS NOT NULL".encode()
        )
        found = "UPDATE pg_index SET indisvalid = %s WHERE indexrelid = %s::regclass RETURNING indexrelid"
        [before] = connection.execute(found, [is_valid, name]).fetchone() or [None]
        schema.migrate(empty_url, revision.revision)
        now = "SELECT indisvalid, indexrelid = %s FROM pg_index WHERE indexrelid = %s::regclass"
        assert connection.execute(now, [before, name]).fetchall() == [(True, is_valid)]


def test_a_database_of_a_newer_release_is_left_alone(database_url: str, next_migration: Path) -> None:
    schema.migrate(database_url)
    next_migration.unlink()
    assert schema.head() < "9999"
    assert schema.migrate(database_url) == "9999"


def test_a_database_whose_revision_is_no_number_of_ours_is_told_in_one_line(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001-theirs'")
    with pytest.raises(ConfigurationError, match=r"0001-theirs.*is it Tribi's\?$"):
        schema.migrate(database_url)


def test_where_nobody_listens_there_is_nothing_to_migrate(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable):
        schema.migrate(f"postgresql:///tribi?host={tmp_path}")


async def test_the_current_revision_is_none_where_nothing_was_migrated(empty_url: str, database_url: str) -> None:
    for url, expected in ((empty_url, None), (database_url, schema.head())):
        database = Database(url)
        async with database.read() as connection:
            assert await schema.current_revision(connection) == expected
        await database.close()


# It is the models'


@pytest.fixture
def migrated(database_url: str) -> Iterator[Connection]:
    engine = create_engine(
        "postgresql+psycopg://", poolclass=NullPool, connect_args=connect_arguments(database_url, "tests")
    )
    with engine.connect() as connection:
        yield connection


def test_alembic_finds_no_difference_between_the_models_and_the_migrated_schema(migrated: Connection) -> None:
    options = {
        "compare_type": True,
        "compare_server_default": True,
        "include_name": lambda name, kind, _: kind != "table" or not str(name).startswith("procrastinate_"),
    }
    assert compare_metadata(MigrationContext.configure(migrated, opts=options), Base.metadata) == []


STRUCTURE: LiteralString = """
    SELECT conrelid::regclass::text, conname::text, pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL SELECT table_name, column_name, concat_ws(' ', data_type, is_nullable, column_default, is_identity)
    FROM information_schema.columns WHERE table_schema = 'public'
    ORDER BY 1, 2, 3"""


def test_models_and_migrations_make_the_same_columns_constraints_and_indexes(empty_url: str, database_url: str) -> None:
    engine = create_engine(
        "postgresql+psycopg://", poolclass=NullPool, connect_args=connect_arguments(empty_url, "tests")
    )
    Base.metadata.create_all(engine)
    by_migrations = [
        row for row in rows(database_url, STRUCTURE) if not row[0].startswith(("procrastinate_", "alembic_"))
    ]
    assert by_migrations == rows(empty_url, STRUCTURE)


# What the database refuses by itself

BASE: LiteralString = """
    INSERT INTO plans (id, sku, name, country_iso2, data_mb, validity_days, price_minor, currency)
        VALUES (1, 'es', 'Spain', 'ES', 1024, 30, 1290, 'EUR');
    INSERT INTO plan_codes (plan_id, provider, external_id) VALUES (1, 'CONNECTED_YOU', 'CY-ES');
    INSERT INTO service_keys (id, name, secret_hash, scopes) VALUES (1, 'shop', 'hash', '{orders,esims}');
    INSERT INTO sign_in_codes (request_hash, code_salt, code_hash, address, language, expires_at)
    VALUES ('request', 's', 'h', 'sealed', 'en', now());
    INSERT INTO travellers (id, address) VALUES (1, 'ana@example.com');
    INSERT INTO traveller_sessions (traveller_id, token_hash, ends_at) VALUES (1, 'token', now());
    INSERT INTO orders (id, status, plan_id, plan_snapshot, amount_minor, currency, customer_email, customer_name,
                        payment_reference, placed_by_key_id)
        SELECT id, 'paid', 1, '{}', 1290, 'EUR', 'ana@example.com', 'Ana', 'pay', 1 FROM generate_series(1, 3) id;
    INSERT INTO idempotency_keys (key, request_hash, order_id) VALUES ('cart', 'hash', 1);
    INSERT INTO esim_profiles (id, order_id, is_live, provider, status, provisioned_at, activation_code,
                               activation_code_fingerprint, iccid, iccid_fingerprint)
        VALUES (1, 1, false, 'LOCAL', 'provisioned', now(), 'sealed', 'code', 'sealed', 'iccid'),
               (2, 2, false, 'LOCAL', 'provisioning', NULL, NULL, NULL, NULL, NULL);
    INSERT INTO provisioning_attempts (id, profile_id, provider, is_live, reference, request, requested_by, deadline_at)
        VALUES (1, 2, 'LOCAL', false, 'order-2', 'sealed', 'system', now());
    INSERT INTO outgoing_mails (profile_id, kind) VALUES (1, 'instructions');
    INSERT INTO installation (id, fingerprint_key) VALUES (1, 'sealed');
    INSERT INTO provider_events (provider, fingerprint, body) VALUES ('CONNECTED_YOU', 'event', 'sealed');
    INSERT INTO provider_states (provider) VALUES ('CONNECTED_YOU');
    INSERT INTO webhook_endpoints (id, url, events, secret) VALUES (1, 'https://shop.example.com/', '{}', 'sealed');
    INSERT INTO webhook_events (id, type, data) VALUES (1, 'order.paid', '{}');
    INSERT INTO webhook_deliveries (id, event_id, endpoint_id, next_attempt_at) VALUES (1, 1, 1, now());
    SELECT setval(format('%I_id_seq', name), 100)
        FROM unnest(ARRAY['service_keys', 'travellers', 'esim_profiles', 'provisioning_attempts']) name;
"""

REFUSED: list[tuple[str, LiteralString]] = [
    # plans and codes
    ("uq_plans_sku", "INSERT INTO plans SELECT (jsonb_populate_record(p, '{\"id\": 2}')).* FROM plans p"),
    ("ck_plans_sku_given", "UPDATE plans SET sku = ''"),
    ("ck_plans_country_iso2", "UPDATE plans SET country_iso2 = 'es'"),
    ("ck_plans_country_iso2", "UPDATE plans SET country_iso2 = 'ESP'"),
    ("ck_plans_other_countries", "UPDATE plans SET other_countries = '{FR,pt}'"),
    ("ck_plans_other_countries", "UPDATE plans SET other_countries = '{FR,NULL}'"),
    ("ck_plans_other_countries", "UPDATE plans SET other_countries = ARRAY[country_iso2]"),
    ("ck_plans_currency", "UPDATE plans SET currency = 'euro'"),
    ("ck_plans_price_not_negative", "UPDATE plans SET price_minor = -1"),
    ("ck_plans_data_positive", "UPDATE plans SET data_mb = 0"),
    ("ck_plans_validity_positive", "UPDATE plans SET validity_days = 0"),
    ("ck_plan_codes_external_id_given", "UPDATE plan_codes SET external_id = ''"),
    ("ck_plan_codes_cost_not_negative", "UPDATE plan_codes SET cost_minor = -1"),
    # keys
    ("ck_service_keys_scopes", "UPDATE service_keys SET scopes = '{orders,everything}'"),
    ("uq_service_keys_secret_hash", "INSERT INTO service_keys (name, secret_hash, scopes) VALUES ('b', 'hash', '{}')"),
    # orders
    ("ck_orders_status", "UPDATE orders SET status = 'delivered'"),
    ("ck_orders_amount_not_negative", "UPDATE orders SET amount_minor = -1"),
    ("ck_orders_currency", "UPDATE orders SET currency = '€'"),
    (
        "uq_idempotency_keys_order_id",
        "INSERT INTO idempotency_keys (key, request_hash, order_id) VALUES ('another', 'hash', 1)",
    ),
    # one profile per order, in closed states, whole when provisioned, of one kind in the world
    ("uq_esim_profiles_order_id", "INSERT INTO esim_profiles (order_id, is_live, provider) VALUES (2, true, 'LOCAL')"),
    ("ck_esim_profiles_status", "UPDATE esim_profiles SET status = 'failed' WHERE id = 2"),
    ("ck_esim_profiles_profile_state", "UPDATE esim_profiles SET profile_state = 'active'"),
    ("ck_esim_profiles_plan_state", "UPDATE esim_profiles SET plan_state = 'enabled'"),
    ("ck_esim_profiles_provisioned_is_whole", "UPDATE esim_profiles SET activation_code = NULL WHERE id = 1"),
    ("ck_esim_profiles_provisioned_is_whole", "UPDATE esim_profiles SET provisioned_at = NULL WHERE id = 1"),
    ("ck_esim_profiles_provisioned_is_whole", "UPDATE esim_profiles SET status = 'pending' WHERE id = 1"),
    ("ck_esim_profiles_provisioned_is_whole", "UPDATE esim_profiles SET status = 'provisioned' WHERE id = 2"),
    ("ck_esim_profiles_provisioned_is_whole", "UPDATE esim_profiles SET provisioned_at = now() WHERE id = 2"),
    ("ck_esim_profiles_provisioned_is_whole", "UPDATE esim_profiles SET activation_code = 'x' WHERE id = 2"),
    ("ck_esim_profiles_usage_not_negative", "UPDATE esim_profiles SET data_used_mb = -1"),
    ("ck_esim_profiles_usage_not_negative", "UPDATE esim_profiles SET data_total_mb = -1, data_used_mb = 1"),
    ("uq_esim_profiles_activation_code", "UPDATE esim_profiles SET activation_code_fingerprint = 'code' WHERE id = 2"),
    ("uq_esim_profiles_iccid", "UPDATE esim_profiles SET iccid_fingerprint = 'iccid' WHERE id = 2"),
    # an install page's token is whole, and finds one eSIM
    (
        "ck_esim_profiles_page_is_whole",
        "UPDATE esim_profiles SET page_token = 'x', page_expires_at = now() WHERE id = 1",
    ),
    ("ck_esim_profiles_page_is_whole", "UPDATE esim_profiles SET page_token_hash = 'x' WHERE id = 1"),
    ("ck_esim_profiles_page_is_whole", "UPDATE esim_profiles SET page_token = 'x', page_token_hash = 'x' WHERE id = 1"),
    (
        "uq_esim_profiles_page_token",
        "UPDATE esim_profiles SET page_token = 'x', page_token_hash = 'x', page_expires_at = now()",
    ),
    # one call under way per profile
    (
        "uq_provisioning_attempts_open",
        "INSERT INTO provisioning_attempts (profile_id, provider, is_live, reference, request, requested_by, deadline_at) "
        "VALUES (2, 'CONNECTED_YOU', true, 'order-2', 'sealed', 'system', now())",
    ),
    ("ck_provisioning_attempts_outcome", "UPDATE provisioning_attempts SET outcome = 'failed', closed_at = now()"),
    ("ck_provisioning_attempts_closed_has_outcome", "UPDATE provisioning_attempts SET outcome = 'unknown'"),
    ("ck_provisioning_attempts_closed_has_outcome", "UPDATE provisioning_attempts SET closed_at = now()"),
    # travellers
    ("ck_sign_in_codes_tries_not_negative", "UPDATE sign_in_codes SET tries = -1"),
    (
        "uq_sign_in_codes_request_hash",
        "INSERT INTO sign_in_codes (request_hash, code_salt, code_hash, address, language, expires_at) "
        "VALUES ('request', 's', 'h', 'sealed', 'en', now())",
    ),
    ("uq_travellers_address", "INSERT INTO travellers (address) VALUES ('ana@example.com')"),
    (
        "uq_traveller_sessions_token_hash",
        "INSERT INTO traveller_sessions (traveller_id, token_hash, ends_at) VALUES (1, 'token', now())",
    ),
    # mail, installation
    (
        "uq_outgoing_mails_profile_id_kind_number",
        "INSERT INTO outgoing_mails (profile_id, kind) VALUES (1, 'instructions')",
    ),
    ("ck_outgoing_mails_kind", "UPDATE outgoing_mails SET kind = 'advertising'"),
    ("ck_outgoing_mails_one_ending", "UPDATE outgoing_mails SET sent_at = now(), refused_at = now()"),
    ("ck_crossed_thresholds_threshold", "INSERT INTO crossed_thresholds (profile_id, threshold) VALUES (1, 'data_99')"),
    ("ck_installation_one_row", "INSERT INTO installation (id, fingerprint_key) VALUES (2, 'sealed')"),
    # an event is there once; what was applied says to whose eSIM
    (
        "uq_provider_events_provider_fingerprint",
        "INSERT INTO provider_events (provider, fingerprint, body) VALUES ('CONNECTED_YOU', 'event', 'sealed')",
    ),
    ("ck_provider_events_outcome", "UPDATE provider_events SET outcome = 'lost', settled_at = now()"),
    ("ck_provider_events_settled_has_outcome", "UPDATE provider_events SET outcome = 'parked'"),
    ("ck_provider_events_settled_has_outcome", "UPDATE provider_events SET settled_at = now()"),
    ("ck_provider_events_applied_has_profile", "UPDATE provider_events SET outcome = 'older', settled_at = now()"),
    # an open circuit says why, and when it is probed
    ("ck_provider_states_open_circuit_is_whole", "UPDATE provider_states SET circuit_opened_at = now()"),
    ("ck_provider_states_open_circuit_is_whole", "UPDATE provider_states SET circuit_reason = 'provider-refused'"),
    (
        "ck_provider_states_open_circuit_is_whole",
        "UPDATE provider_states SET circuit_opened_at = now(), circuit_reason = 'provider-refused'",
    ),
    # who pauses a provider says why
    ("ck_provider_states_pause_is_whole", "UPDATE provider_states SET paused_at = now()"),
    ("ck_provider_states_pause_is_whole", "UPDATE provider_states SET paused_at = now(), paused_by = 'cli:eva'"),
    ("ck_provider_states_pause_is_whole", "UPDATE provider_states SET paused_at = now(), pause_reason = 'why'"),
    ("ck_provider_states_pause_is_whole", "UPDATE provider_states SET paused_by = 'cli:eva', pause_reason = 'why'"),
    # what sellers hear of
    ("ck_webhook_endpoints_events", "UPDATE webhook_endpoints SET events = '{order.paid,order.lost}'"),
    ("ck_webhook_endpoints_events", "UPDATE webhook_endpoints SET events = '{NULL}'"),
    (
        "ck_webhook_endpoints_disabled_because",
        "UPDATE webhook_endpoints SET disabled_at = now(), disabled_because = 'bored'",
    ),
    ("ck_webhook_endpoints_disabled_says_why", "UPDATE webhook_endpoints SET disabled_at = now()"),
    ("ck_webhook_endpoints_disabled_says_why", "UPDATE webhook_endpoints SET disabled_because = 'gone'"),
    ("ck_webhook_endpoints_previous_secret_ends", "UPDATE webhook_endpoints SET previous_secret = 'sealed'"),
    ("ck_webhook_events_type", "UPDATE webhook_events SET type = 'order.lost'"),
    ("ck_webhook_deliveries_status", "UPDATE webhook_deliveries SET status = 'lost', next_attempt_at = NULL"),
    ("ck_webhook_deliveries_pending_has_its_time", "UPDATE webhook_deliveries SET next_attempt_at = NULL"),
    ("ck_webhook_deliveries_pending_has_its_time", "UPDATE webhook_deliveries SET status = 'failed'"),
    # an event goes to an endpoint once
    (
        "uq_webhook_deliveries_event_id_endpoint_id",
        "INSERT INTO webhook_deliveries (id, event_id, endpoint_id, next_attempt_at) VALUES (2, 1, 1, now())",
    ),
]


@pytest.fixture(scope="module")
def stocked(postgres_url: str) -> Iterator["psycopg.Connection[Any]"]:
    """A database with a valid row or more in each table. Each test gives back what it changed."""
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("CREATE DATABASE stocked TEMPLATE template_tribi")
        with psycopg.connect(make_conninfo(postgres_url, dbname="stocked")) as connection:
            connection.execute(BASE)
            connection.commit()
            yield connection
        admin.execute("DROP DATABASE stocked WITH (FORCE)")


@pytest.mark.parametrize(
    ("constraint", "statement"), REFUSED, ids=[f"{name}-{i}" for i, (name, _) in enumerate(REFUSED)]
)
def test_the_database_refuses_what_must_not_be(
    stocked: "psycopg.Connection[Any]", constraint: str, statement: LiteralString
) -> None:
    with pytest.raises(IntegrityError) as refused, stocked.transaction(force_rollback=True):
        stocked.execute(statement)
    assert isinstance(refused.value, UniqueViolation if constraint.startswith("uq_") else CheckViolation)
    assert refused.value.diag.constraint_name == constraint


def test_every_check_and_unique_constraint_is_tried_above(stocked: "psycopg.Connection[Any]") -> None:
    there = stocked.execute(
        "SELECT conname FROM pg_constraint WHERE contype IN ('c', 'u') AND connamespace = 'public'::regnamespace "
        "AND conrelid::regclass::text !~ '^procrastinate_' "
        "UNION SELECT indexrelid::regclass::name FROM pg_index WHERE indisunique AND NOT indisprimary "
        "AND indrelid::regclass::text !~ '^(procrastinate_|pg_|information_schema)' "
    ).fetchall()
    stocked.rollback()
    assert {name for (name,) in there if not name.startswith("pg_")} == {name for name, _ in REFUSED}


CLOSED_SETS: list[tuple[LiteralString, tuple[str, ...]]] = [
    ("UPDATE orders SET status = %s", ORDER_STATUSES),
    (
        "UPDATE esim_profiles SET status = %(value)s, provisioned_at = CASE %(value)s WHEN 'provisioned' THEN now() END, "
        "activation_code = CASE %(value)s WHEN 'provisioned' THEN 'sealed'::bytea END",
        PROFILE_STATUSES,
    ),
    ("UPDATE esim_profiles SET profile_state = %s", PROFILE_STATES),
    ("UPDATE esim_profiles SET plan_state = %s", PLAN_STATES),
    ("UPDATE provisioning_attempts SET outcome = %s, closed_at = now()", ATTEMPT_OUTCOMES),
    ("UPDATE service_keys SET scopes = ARRAY[%s]", SCOPES),
    ("UPDATE webhook_endpoints SET events = ARRAY[%s]", EVENTS),
    ("UPDATE webhook_endpoints SET disabled_at = now(), disabled_because = %s", DISABLED_BECAUSE),
    ("UPDATE webhook_events SET type = %s", EVENTS),
    (
        "UPDATE webhook_deliveries SET status = %(value)s, next_attempt_at = CASE %(value)s WHEN 'pending' THEN now() END",
        DELIVERY_STATUSES,
    ),
]


@pytest.mark.parametrize(("statement", "values"), CLOSED_SETS)
def test_the_database_takes_every_state_that_the_code_knows(
    stocked: "psycopg.Connection[Any]", statement: LiteralString, values: tuple[str, ...]
) -> None:
    for value in values:
        with stocked.transaction(force_rollback=True):
            stocked.execute(statement, {"value": value} if "%(value)s" in statement else [value])


def test_the_states_are_the_designs() -> None:
    assert PROFILE_STATUSES == ("pending", "provisioning", "provisioned", "refused", "unknown", "cancelled")
    assert PROFILE_STATES == ("released", "downloaded", "installed", "enabled", "disabled", "deleted")
    assert PLAN_STATES == ("not_started", "active", "depleted", "expired", "terminated")


def test_a_settled_attempt_makes_room_for_the_next(stocked: "psycopg.Connection[Any]") -> None:
    with stocked.transaction(force_rollback=True):
        for _ in range(3):
            stocked.execute("UPDATE provisioning_attempts SET outcome = 'not_sent', closed_at = now()")
            stocked.execute(
                "INSERT INTO provisioning_attempts (profile_id, provider, is_live, reference, request, requested_by, "
                "deadline_at) VALUES (2, 'LOCAL', false, 'order-2', 'sealed', 'system', now())"
            )


# Sealed at rest


async def test_no_sealed_column_holds_plaintext_after_a_delivery(
    house: House, settings: Settings, database_url: str
) -> None:
    order_id = await an_order(house.db)
    activations = Activations(house, get_esim_provider(settings), timeout_s=5, wait_s=10, max_concurrency=1)
    esim = (await activations.activate(order_id, actor="test")).esim
    assert esim.activation_code
    assert esim.iccid
    assert esim.instructions
    async with house.db.read() as connection:
        dossier = await dossier_of(connection, house.vault, esim.id)
    code = esim.activation_code
    secrets = [code.text, code.lpa, code.text.rpartition("$")[2], esim.iccid, esim.instructions, "activationCode"]
    assert all(secret in str(dossier.provider_payload) for secret in secrets), "this test looks for the wrong things"
    personal = ["ana@example.com", "Ana Traveller"]  # orders hold those as they are; the request must not

    dumps = {
        name: _dump(database_url, name)
        for (name,) in rows(database_url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    }
    assert len(dumps["esim_profiles"]) > 500
    for table, dump in dumps.items():
        for secret in secrets + (personal if table != "orders" else []):
            for written in _spellings(secret):
                assert written not in dump, f"{table} holds {secret!r} to be read by anybody"


def _dump(url: str, table: str) -> bytes:
    """All rows as PostgreSQL stores their values, and as it writes them."""
    with psycopg.connect(url) as connection:
        dump = b""
        for form in ("binary", "text"):
            with connection.cursor().copy(f"COPY {table} TO STDOUT (FORMAT {form})") as copy:
                dump += b"".join(bytes(chunk) for chunk in copy)
    return dump


def _spellings(secret: str) -> list[bytes]:
    plain = secret.encode()
    encoded = base64.b64encode(plain).rstrip(b"=")[:-1]
    return [plain, plain.hex().encode(), encoded]
