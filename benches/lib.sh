# Shared by the measuring scripts: a private Postgres server that syncs to disk as one in production does, and its rows.
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"

postgres_bin >/dev/null || install_postgres
mkdir -p "$cache"
bin=$(postgres_bin)

# start_server: starts the server in the session's folder; sets data and the variables that clients read.
start_server() {
    local port
    port=$(free_port)
    data=$session/postgres
    mkdir -m 700 "$data"
    printf 'rehome\n' >"$session/password"
    if [ "$(id -u)" -eq 0 ]; then chown "$(server_user)" "$data" "$session/password"; fi
    as_server "$bin/initdb" --pgdata="$data" --username=rehome --pwfile="$session/password" --auth=scram-sha-256 \
        --encoding=UTF8 --locale=C.UTF-8 >/dev/null
    as_server tee -a "$data/postgresql.conf" >/dev/null <<SETTINGS
port = $port
listen_addresses = '127.0.0.1'
unix_socket_directories = '.'
wal_level = logical
shared_buffers = '512MB'
max_wal_size = '8GB'
max_replication_slots = 50
SETTINGS
    as_server "$bin/pg_ctl" start --wait --silent --pgdata="$data" --log="$data/log" >/dev/null
    export PGPASSWORD=rehome PGHOST=127.0.0.1 PGPORT=$port PGUSER=rehome
}

sql() { "$bin/psql" --no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 --dbname "$1" --command "$2"; }

# table_of AMOUNT: columns of the measured table, about 250 bytes a row: a key, a foreign key, a time, a number, some text.
table_of() {
    echo "id bigint PRIMARY KEY, parent uuid NOT NULL, at timestamptz NOT NULL, amount $1, note text, body text"
}

# Its row number i, but for the key.
row_of="md5(i::text)::uuid, '2025-01-01'::timestamptz + i * interval '1 second', i % 100000 / 100.0, 'note ' || i,
    repeat(md5(i::text), 5)"
