#!/usr/bin/env bash
# All tests; with arguments for pytest, those that they choose. `make test` calls it.
#
# Most of a test is waiting, so that the proof runs beside everything else; what it says comes at the end.
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
$python -m pytest tests/proof >"$said" 2>&1 &
proof=$!
trap 'kill -INT $proof 2>/dev/null && wait $proof; rm -f "$said"' EXIT

failed=0
echo '==> pytest, without the proof (that runs beside it)'
$python -m pytest --ignore=tests/proof || failed=1
through_pgbouncer || failed=1
echo '==> pytest, the proof'
wait $proof || failed=1
cat "$said"
exit $failed
