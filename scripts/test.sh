#!/usr/bin/env bash
# All tests; with arguments for pytest, those that they choose. `make test` calls it.
#
# Most of a test is waiting: so there are two streams, and what the second one says comes at the end.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../apps/backend"
python=../../.venv/bin/python

through_pgbouncer() {
    echo '==> pytest, through PgBouncer'
    $python -m pytest --through-pgbouncer "$@" || { test $? = 5 && echo 'None of those tests uses the database.'; }
}

if test $# -gt 0; then
    echo '==> pytest'
    $python -m pytest "$@"
    through_pgbouncer "$@"
    exit
fi

said=$(mktemp)
{
    failed=0
    echo '==> pytest, the proof'
    $python -m pytest tests/proof || failed=1
    through_pgbouncer --ignore=tests/services || failed=1
    exit $failed
} >"$said" 2>&1 &
beside=$!
trap 'kill $beside 2>/dev/null || true; rm -f "$said"' EXIT  # Ctrl-C reaches its pytest by itself

failed=0
echo '==> pytest, without the proof (that runs beside it, and half of what uses the database through PgBouncer)'
$python -m pytest --ignore=tests/proof || failed=1
through_pgbouncer tests/services || failed=1
wait $beside || failed=1
cat "$said"
exit $failed
