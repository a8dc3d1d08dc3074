# POSTGRES_USER, POSTGRES_PASSWORD_FILE, POSTGRES_DB and /docker-entrypoint-initdb.d/*.sql, as in the official image.
set -euo pipefail

if [[ ! -s $PGDATA/PG_VERSION ]]; then
  user=${POSTGRES_USER:-postgres} database=${POSTGRES_DB:-${POSTGRES_USER:-postgres}}
  # Made beside its final place: whoever interrupts this leaves nothing half done.
  rm -rf "$PGDATA.new"
  initdb --pgdata "$PGDATA.new" --username "$user" --pwfile "${POSTGRES_PASSWORD_FILE:?is missing}" --encoding UTF8 --no-locale \
    --auth-local trust --auth-host scram-sha-256
  echo 'host all all all scram-sha-256' >>"$PGDATA.new/pg_hba.conf"
  # Nobody outside reaches it before it is as it should be.
  pg_ctl --pgdata "$PGDATA.new" --wait --options '-c listen_addresses= -c unix_socket_directories=/tmp' start
  ask=(psql --host /tmp --username "$user" --no-psqlrc --set ON_ERROR_STOP=1 --quiet)
  [[ $database == postgres ]] || "${ask[@]}" --dbname postgres --command "create database \"$database\""
  for script in /docker-entrypoint-initdb.d/*.sql; do
    [[ ! -e $script ]] || "${ask[@]}" --dbname "$database" --file "$script"
  done
  pg_ctl --pgdata "$PGDATA.new" --wait --mode fast stop
  mv "$PGDATA.new" "$PGDATA"
fi
exec postgres -D "$PGDATA" -c 'listen_addresses=*' -c unix_socket_directories=/tmp,/var/run/postgresql "$@"
