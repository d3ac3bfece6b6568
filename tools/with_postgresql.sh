#!/usr/bin/env bash
# Run a command beside a PostgreSQL server of its own, which ends with it; $POSTGRESQL_URL is its database:
#   tools/with_postgresql.sh .venv/bin/pytest -m postgresql
# Needs Debian's package postgresql; changes nothing outside a temporary folder.
set -euo pipefail
[ $# -gt 0 ] || { sed -n 2,4p "$0" >&2; exit 2; }
programs=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
[ -n "$programs" ] || { echo "PostgreSQL is missing: apt-get install postgresql" >&2; exit 2; }
as=()  # the server refuses to be run by root
[ "$(id -u)" -ne 0 ] || as=(runuser -u postgres --)

folder=$(mktemp -d /tmp/postgresql.XXXXXX)
stop() {
    "${as[@]}" "$programs/pg_ctl" --pgdata "$folder/data" --mode immediate stop >/dev/null 2>&1 || true
    rm -rf "$folder"
}
trap stop EXIT
password=$(head -c 12 /dev/urandom | od -An -tx1 | tr -d ' \n')
port=$((20000 + RANDOM % 10000))
echo "$password" >"$folder/password"
[ "$(id -u)" -ne 0 ] || chown -R postgres "$folder"
cd "$folder"
"${as[@]}" "$programs/initdb" --pgdata "$folder/data" --username search --pwfile "$folder/password" \
    --auth scram-sha-256 >"$folder/initdb.log"
"${as[@]}" "$programs/pg_ctl" --pgdata "$folder/data" --log "$folder/server.log" --wait \
    --options "-c listen_addresses=127.0.0.1 -c port=$port -c unix_socket_directories=" start >/dev/null
cd - >/dev/null
export POSTGRESQL_URL=postgresql+psycopg://search:$password@127.0.0.1:$port/postgres
"$@"
