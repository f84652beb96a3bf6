#!/bin/sh
# Every check: lint, types, unit tests, integration tests on PostgreSQL 18 and on 15, lab. Goes on after a failure; the last line
# sums the tests up.
#   npm test                all of it
#   npm test -- <filter>    only the tests of files whose name contains the filter
set -u
cd "$(dirname "$0")/.." || exit 1

results=$(mktemp -d) || exit 1
trap 'rm -rf "$results"' EXIT
trap 'exit 130' INT TERM
other_failures=0

# part <name> <command…>: runs it, says how long it took.
part() {
  name=$1
  shift
  printf '\n== %s\n' "$name"
  began=$(date +%s)
  "$@"
  status=$?
  printf '== %s: %s in %s s\n' "$name" "$([ $status -eq 0 ] && echo passed || echo FAILED)" "$(($(date +%s) - began))"
  return $status
}

check() {
  part "$@" || other_failures=$((other_failures + 1))
}

# tests <name> <project> [filter…]
tests() {
  name=$1
  project=$2
  shift 2
  file="$results/$(printf '%s' "$name" | tr ' ' '-').json"
  part "$name" sh bin/node.sh node_modules/vitest/vitest.mjs run --project "$project" --passWithNoTests \
    --reporter=default --reporter=json --outputFile.json="$file" "$@"
  echo $? >"$file.status"
}

if [ $# -eq 0 ]; then
  check lint sh bin/node.sh node_modules/@biomejs/biome/bin/biome check .
  check 'shell scripts' sh -c 'git ls-files "*.sh" bin/ingot .ci/run | xargs shellcheck'
  check types sh bin/node.sh node_modules/typescript/bin/tsc --noEmit
fi
tests unit unit "$@"
tests 'integration on PostgreSQL 18' integration "$@"
tests lab lab "$@"
# What speaks to PostgreSQL, and nothing else, again on the oldest one we promise.
[ $# -ne 0 ] || set -- postgres- ipam- lifecycle api
INGOT_TEST_POSTGRES=15 tests 'integration on PostgreSQL 15' integration "$@"

exec_status=0
sh bin/node.sh scripts/sum-tests.ts "$results" "$other_failures" || exec_status=$?
exit $exec_status
