"""The product broken on purpose, a rule at a time. `breaks.py` shows which test of the proof notices each."""

from dataclasses import dataclass
from pathlib import Path

ESIMS = "app/services/esims"
PROVIDERS = "app/services/esim_providers"


@dataclass(frozen=True)
class Edit:
    """`sound` stands in the file exactly once; `broken` takes its place."""

    file: str
    sound: str
    broken: str

    def make(self, backend: Path) -> None:
        path = backend / self.file
        text = path.read_text()
        assert text.count(self.sound) == 1, f"{self.file} has changed: sabotage.py must follow"
        path.write_text(text.replace(self.sound, self.broken))


@dataclass(frozen=True)
class Sabotage:
    name: str
    edits: tuple[Edit, ...]


_NO_LOCK = Edit(f"{ESIMS}/intent.py", "    .with_for_update(of=[Order, EsimProfile])\n", "")
_NO_CONSTRAINT = Edit(
    "migrations/versions/0001_the_first_schema.py",
    "op.create_index('uq_provisioning_attempts_open', 'provisioning_attempts', ['profile_id'], unique=True,",
    "op.create_index('uq_provisioning_attempts_open', 'provisioning_attempts', ['profile_id'], unique=False,",
)

SABOTAGES = (
    Sabotage("the order isn't locked", (_NO_LOCK,)),
    Sabotage("two calls for one order may be under way", (_NO_CONSTRAINT,)),
    Sabotage("neither lock nor constraint", (_NO_LOCK, _NO_CONSTRAINT)),
    Sabotage(
        "after an unclear answer the order is sent again",
        (
            Edit(
                f"{ESIMS}/activate.py",
                "            except SupplierNotConfigured as error:\n",
                "            except SupplierOutcomeUnknown:\n"
                "                return await self._provider.provision(intent.order, may_send=lambda: True)\n"
                "            except SupplierNotConfigured as error:\n",
            ),
        ),
    ),
    Sabotage(
        "the intent is committed after the call only",
        (
            Edit(
                f"{ESIMS}/activate.py",
                "            intent = await self._declare(order_id, declare)\n"
                "            if not isinstance(intent, Intent):\n"
                "                return intent\n"
                "            flight.declare()\n"
                "            return intent, await self._call(intent)\n",
                "            async with self._db.begin() as connection:\n"
                "                intent = await declare(connection)\n"
                "                if not isinstance(intent, Intent):\n"
                "                    return intent\n"
                "                flight.declare()\n"
                "                return intent, await self._call(intent)\n",
            ),
        ),
    ),
    Sabotage(
        "the sweep takes a dead process's order for one that wasn't sent",
        (Edit(f"{ESIMS}/recover.py", '.values(status="unknown", updated_at', '.values(status="pending", updated_at'),),
    ),
    Sabotage(
        "a process that slept sends after all",
        (Edit(f"{ESIMS}/intent.py", "return boot_clock() - self.declared_at <= SEND_WITHIN_S", "return True"),),
    ),
    Sabotage(
        "5xx is taken for the provider's no",
        (Edit(f"{PROVIDERS}/statuses.py", "if 400 <= status <= 499 and", "if 400 <= status <= 599 and"),),
    ),
    Sabotage(
        "another order's answer is taken",
        (Edit(f"{PROVIDERS}/reading.py", "if value.strip().lower() != reference:", "if value == '':"),),
    ),
    Sabotage(
        "an eSIM is delivered without its job",
        (
            Edit(
                f"{ESIMS}/answer.py",
                "    if isinstance(result, Delivered):\n"
                "        await enqueue(connection, Job.ESIM_PROVISIONED, esim_id=intent.profile_id)\n"
                "    failpoints.reached(Point.ANSWER_WRITTEN",
                "    failpoints.reached(Point.ANSWER_WRITTEN",
            ),
        ),
    ),
    Sabotage(
        "an answer is stored whoever has settled the order meanwhile",
        (
            Edit(
                f"{ESIMS}/answer.py",
                '        EsimProfile.status == "provisioning",\n        exists().where(',
                "        exists().where(",
            ),
        ),
    ),
    Sabotage(
        "an answer is dropped while the database is away",
        (
            Edit(
                f"{ESIMS}/keep.py",
                "            await asyncio.sleep(next(pauses_s))\n",
                "            raise\n",
            ),
        ),
    ),
    Sabotage(
        "connections to the provider are kept and used again",
        (
            Edit(f"{PROVIDERS}/one_post.py", '            "Connection": "close",\n', ""),
            Edit(f"{PROVIDERS}/one_post.py", "limit=0, force_close=True)", "limit=0, keepalive_timeout=60)"),
        ),
    ),
    Sabotage(
        "an order is sent again to another account",
        (
            Edit(f"{ESIMS}/replay.py", "    elif not row.is_ours:\n", "    elif row is None:\n"),
            Edit(
                f"{ESIMS}/replay.py",
                '.where(EsimProfile.status == "unknown", _is_ours, ~',
                '.where(EsimProfile.status == "unknown", ~',
            ),
        ),
    ),
    Sabotage(
        "an order is sent without its line in the journal",
        (Edit(f"{ESIMS}/activate.py", "                await self._note(intent)\n", ""),),
    ),
    Sabotage(
        "a start doesn't compare the database with the journal",
        (Edit("app/house.py", "        await hold_if_older(self.db, newest)\n", ""),),
    ),
)
