#!/usr/bin/env bash
# All tests; with arguments for pytest, those that they choose. `make test` calls it.
#
# Most of a test is waiting: so three parts of them run at a time. What a part says comes when it has ended, and at the end a line of
# each.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../apps/backend"
export python=../../.venv/bin/python

if test $# -gt 0; then
    echo '==> pytest'
    $python -m pytest "$@"
    echo '==> pytest, through PgBouncer'
    $python -m pytest --through-pgbouncer "$@" || { test $? = 5 && echo 'None of those tests uses the database.'; }
    exit
fi

# What pytest is given for each part, the longest first: who has ended one takes the next. Everything is in one of the first three, and
# whatever uses the database in one of the last two once more.
programs='tests/processes tests/postgres tests/deploy tests/sandbox'
parts="tests/proof
tests --ignore=tests/proof $(printf -- '--ignore=%s ' $programs)
--through-pgbouncer --ignore=tests/services
$programs
--through-pgbouncer tests/services"

run_part() {
    result=passed
    $python -m pytest $1 >"$said/$$" 2>&1 || result=FAILED
    echo "==> pytest $1"
    cat "$said/$$"
    echo "$result in $((SECONDS / 60)) min $((SECONDS % 60)) s: pytest $1" >>"$said/results"
    test $result = passed
}
export -f run_part

export said
said=$(mktemp -d)
trap 'rm -rf "$said"' EXIT
status=0
xargs -P 3 -I{} "$BASH" -c 'run_part "{}"' <<<"$parts" || status=1
cat "$said/results"
exit $status
