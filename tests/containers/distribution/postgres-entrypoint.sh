#!/bin/sh
# What the image of PostgreSQL makes of POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB.
set -eu
mkdir -p "$PGDATA" /var/run/postgresql
chown -R postgres "$PGDATA" /var/run/postgresql
run() { setpriv --reuid postgres --regid postgres --clear-groups "$@"; }
user=${POSTGRES_USER:-postgres}
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  secret=$(mktemp)
  printf %s "$POSTGRES_PASSWORD" > "$secret"
  chown postgres "$secret"
  run initdb --username "$user" --pwfile "$secret" --auth-host scram-sha-256 --auth-local trust
  rm "$secret"
  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
  echo "listen_addresses = '*'" >> "$PGDATA/postgresql.conf"
  # Only on its socket, so that nobody outside takes this for the start.
  run pg_ctl --wait --options "-c listen_addresses=''" start
  [ "${POSTGRES_DB:-$user}" = postgres ] || run createdb --username "$user" "${POSTGRES_DB:-$user}"
  run pg_ctl --wait stop
fi
exec setpriv --reuid postgres --regid postgres --clear-groups "$@"
