#!/bin/bash
# Copies roles and databases of the server at $PGHOST into a new server of this image's major version, on a volume of its
# own, and compares how many rows each table has. The arguments are the server's.
#
# From the beginning of the copy the databases are closed: nobody but a superuser gets in. They stay closed when all is
# well, for what would be written then would be lost; the playbook switches, and opens the new ones. Whatever else ends
# this script, the old ones are opened again. Killed and run again, it begins anew.
# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"

volume=$(dirname "$PGDATA")
ours=$volume/.upgrade
# Made by the playbook before it opens the new server to the site.
opened=$volume/.opened
log=$SCRATCH/upgrade.log server_log=$SCRATCH/server.log
sockets=${SOCKETS:-/var/run/postgresql}

# Runs a command, or a function from common.sh, against the new server.
new() { PGHOST=$sockets PGSSLMODE=disable PGUSER=postgres PGPASSWORD='' "$@"; }

# What the log $1 says of a failure.
cause() { grep -E -m 1 'ERROR:|FATAL:|error:' "$1" || tail -n 1 "$1"; }

# Names of the databases that people use: not the templates, and not those that nobody may connect to.
databases() {
    sql postgres <<< "select datname from pg_database where datallowconn and not datistemplate and datname <> 'postgres' order by 1"
}

open() { sql postgres < "$(dirname "$0")/open.sql"; }

# A limit of 0 holds for everybody but superusers; what it was is kept in a setting of the database, until it is opened.
close() {
    sql postgres << 'SQL'
        select format('alter database %1$I set kubernetes_django.connection_limit = %2$L; alter database %1$I connection limit 0',
            datname, datconnlimit)
        from pg_database where datallowconn and not datistemplate and datname <> 'postgres' and datconnlimit <> 0 \gexec
SQL
    # Twice: somebody may have been on the way in.
    for _ in 1 2; do
        sql postgres << 'SQL'
            select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity join pg_roles on usename = rolname
            where not rolsuper and datname <> 'postgres' \g /dev/null
SQL
    done
}

put_back() {
    local code=$?
    trap - EXIT
    if ((code != 0)); then
        kill -INT "${server:-}" 2> /dev/null || true
        open || true
    fi
    exit "$code"
}

take_new_volume() {
    local found
    [[ -w $volume && -x $volume ]] || fail "storage_path: user $(id -u) may not write to the new volume, which belongs to" \
        "$(stat -c '%u:%g, mode %a' "$volume")."
    found=$(find "$volume" -mindepth 1 -maxdepth 1 ! -name lost+found -printf '%f ')
    [[ ! -e $opened ]] || fail "storage_claim: the new volume has data that the site has written to since" \
        "$(date -u -r "$opened" '+%Y-%m-%d %H:%M:%S UTC'), and is left alone. If it is of no use any more, delete the file .opened on it."
    [[ -z $found || -e $ours ]] || fail "storage_claim: the new volume is not empty, and what is on it is left alone: $found"
    exec {lock}> "$ours" || fail "storage_size: the new volume takes no file."
    flock --wait 60 "$lock" || fail "another upgrade uses the new volume."
    rm -rf "$PGDATA"
}

# With the settings of the server that it is to replace. What it holds is only worth something when all of it is there,
# so its files are brought to the disk once, at the end.
start_server() {
    local words
    read -ra words <<< "$POSTGRES_INITDB_ARGS"
    initdb --pgdata="$PGDATA" --username=postgres --no-sync "${words[@]}" > "$log" 2>&1 ||
        fail "storage_size: the new server's data cannot be made: $(cause "$log")"
    # The log is memory, and statements have data in them.
    postgres "$@" -c unix_socket_directories="$sockets" -c listen_addresses= -c archive_mode=off -c autovacuum=off -c fsync=off \
        -c log_statement=none -c log_min_duration_statement=-1 -c log_min_error_statement=panic > "$server_log" 2>&1 &
    server=$!
    until new sql postgres <<< 'select 1' > /dev/null 2>&1; do
        if ! kill -0 "$server" 2> /dev/null; then
            cat "$server_log" >&2
            fail "the new server does not start with postgres_settings: $(cause "$server_log")"
        fi
        sleep 0.1
    done
}

# What would fail half-way, while nobody has to wait yet.
check() {
    local need free database missing
    need=$(sql postgres <<< 'select sum(pg_database_size(oid)) / 1000000 + 1 from pg_database' | cut -d . -f 1)
    free=$(df -Pm "$volume" | awk 'NR == 2 {print $4}')
    ((free > need)) || fail "storage_size: the data takes $need MB, and the new volume has $free MB free."
    for database in "${names[@]}"; do
        missing=$(comm -23 <(sql "$database" <<< 'select extname from pg_extension' | sort) \
            <(new sql postgres <<< 'select name from pg_available_extensions' | sort) | paste -s -d ' ')
        [[ -z $missing ]] || fail "PostgreSQL $(postgres --version | grep -o '[0-9][0-9.]*' | head -n 1) has no extension" \
            "$missing, which the database $database uses: DROP EXTENSION it first."
    done
}

# Runs a dump into the new server; its arguments are the dump's.
copy() {
    { "$@" | sed '/^CREATE ROLE postgres;$/d' |
        new psql --no-psqlrc --quiet --output=/dev/null --set ON_ERROR_STOP=1 --dbname postgres; } 2> "$log" &
    child=$!
    wait "$child" || { cat "$log" >&2 && fail "the data could not be copied: $(cause "$log" | tr -s ' ')"; }
}

# Names of the sequences of the database $1, and where they are.
sequences() { sql "$1" <<< "select schemaname || '.' || sequencename, last_value from pg_sequences order by 1"; }

# What the command says of the database is the same in both servers; what it says is in $SCRATCH/new.
compare() {
    local differs
    "$@" > "$SCRATCH/old"
    new "$@" > "$SCRATCH/new"
    differs=$(diff "$SCRATCH/old" "$SCRATCH/new") || fail "the copy differs from the database: $(paste -s -d ' ' <<< "$differs")"
}

login
take_new_volume
trap put_back EXIT
start_server "$@"
mapfile -t names < <(databases)
check
began=$SECONDS tables=0 rows=0
close
say "the site has to wait"
copy pg_dumpall --no-password --roles-only --database=postgres
for database in "${names[@]}"; do
    say "copying the database $database"
    copy pg_dump --no-password --create --lock-wait-timeout="${LOCK_SECONDS}s" --dbname="$database"
    new run psql --no-psqlrc --quiet --dbname "$database" --command 'analyze'
    compare sequences "$database"
    compare count_rows "$database"
    while IFS='|' read -r table number; do
        printf '  %12d rows in %s\n' "$number" "$table"
        tables=$((tables + 1)) rows=$((rows + number))
    done < "$SCRATCH/new"
done
kill -INT "$server"
wait "$server"
initdb --pgdata="$PGDATA" --sync-only > /dev/null 2>&1
say "copied $tables tables with $rows rows in $((SECONDS - began)) s; each has as many rows as in the old server"
