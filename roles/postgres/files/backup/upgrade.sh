#!/bin/bash
# Copies roles and databases of the server at $PGHOST into a new server of this image's major version, on a volume of its
# own, and compares how many rows each table has. The arguments are the server's. What people made in a database is loaded
# by its owner: whoever can write there could let a superuser run it.
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
# What is in a database, without its rows.
definitions=$volume/.definitions
# The login of whoever owns the database that is copied; none where the superuser loads all of it.
OWNER=$SCRATCH/owner
[[ ${AS_SUPERUSER-} != true ]] || OWNER=

# Runs a command, or a function from common.sh, against the new server.
new() { PGHOST=$sockets PGSSLMODE=disable PGUSER=postgres PGPASSWORD='' "$@"; }

# What the log $1 says of a failure.
cause() {
    { grep -E -m 1 'ERROR:|FATAL:|error:' "$1" || tail -n 1 "$1"; } | sed 's/^pg_restore: error: could not execute query: //'
}

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
    # As a server locks it, and a restore to a moment.
    exec {data_lock}>> "$volume/.$(basename "$PGDATA").lock" || fail "storage_size: the new volume takes no file."
    flock --wait 60 "$data_lock" || fail "storage_claim: a server uses the new volume. Stop it first."
    rm -rf "$PGDATA"
}

# With the settings of the server that it is to replace. What it holds is only worth something when all of it is there,
# so its files are brought to the disk once, at the end.
start_server() {
    local words
    read -ra words <<< "$POSTGRES_INITDB_ARGS"
    initdb --pgdata="$PGDATA" --username=postgres --no-sync "${words[@]}" > "$log" 2>&1 ||
        fail "storage_size: the new server's data cannot be made: $(cause "$log")"
    # Nobody else gets to its socket.
    printf 'local all all trust\n' > "$SCRATCH/hba"
    # The log is memory, and statements have data in them.
    postgres "$@" -c hba_file="$SCRATCH/hba" -c unix_socket_directories="$sockets" -c listen_addresses= \
        -c archive_mode=off -c autovacuum=off -c fsync=off -c log_statement=none -c log_min_duration_statement=-1 -c log_min_error_statement=panic > "$server_log" 2>&1 &
    server=$!
    until new sql postgres <<< 'select 1' > /dev/null 2>&1; do
        if ! kill -0 "$server" 2> /dev/null; then
            cat "$server_log" >&2
            fail "the new server does not start with postgres_settings: $(cause "$server_log")"
        fi
        sleep 0.1
    done
}

bytes_of_all() { sql postgres <<< 'select sum(pg_database_size(oid))::bigint from pg_database where not datistemplate'; }

# What would fail half-way, while nobody has to wait yet.
check() {
    local need free database missing
    need=$(($(bytes_of_all) / 1000000 + 32))
    free=$(df -Pm "$volume" | awk 'NR == 2 {print $4}')
    ((free > need)) || fail "storage_size: the data takes $need MB, and the new volume has $free MB free."
    for database in "${names[@]}"; do
        missing=$(comm -23 <(sql "$database" <<< 'select extname from pg_extension' | sort) \
            <(new sql postgres <<< 'select name from pg_available_extensions' | sort) | paste -s -d ' ')
        [[ -z $missing ]] || fail "PostgreSQL $(postgres --version | grep -o '[0-9][0-9.]*' | head -n 1) has no extension" \
            "$missing, which the database $database uses: DROP EXTENSION it first."
        [[ -z $OWNER ]] || check_owners "$database"
    done
}
# What others have made in the database $1 can neither be run as its owner nor be given back to them.
check_owners() {
    local theirs
    theirs=$(sql "$1" << 'SQL'
        select string_agg(distinct case when type = 'database' then format('the database itself, which is the superuser %s''s', rolname)
            else format('%s %s of %s', type, identity, rolname) end, ', ')
        from (
            select 'database' as type, '' as identity, datdba as role from pg_database where datname = current_database()
            union all
            select type, identity, refobjid from pg_shdepend join pg_database on pg_database.oid = dbid,
                pg_identify_object(classid, objid, 0)
            where datname = current_database() and deptype = 'o' and refobjid <> datdba
                and classid not in ('pg_default_acl'::regclass, 'pg_extension'::regclass)
                and not exists (select from pg_depend where pg_depend.classid = pg_shdepend.classid
                    and pg_depend.objid = pg_shdepend.objid and pg_depend.deptype = 'e')
        ) as it join pg_roles on pg_roles.oid = role
        where rolsuper or type <> 'database'
SQL
    )
    [[ -z $theirs ]] || fail "the database $1 holds what is not its owner's, and each owner loads his own alone: $(head -c 500 <<< "$theirs")." \
        "Give it to $(owner_of "$1") (REASSIGN OWNED BY … TO …); or, if you trust all that is in it," \
        "say -e postgres_upgrade_as_superuser=true. Nothing was touched."
}

# Runs a dump into the database $1 of the new server, as its owner; further arguments are the dump's.
copy() {
    { "${@:2}" | new as_owner load "$1"; } 2> "$log" &
    child=$!
    wait "$child" || copy_failed
}
load() { psql --no-psqlrc --quiet --output=/dev/null --set ON_ERROR_STOP=1 --dbname "$1"; }
copy_failed() { cat "$log" >&2 && fail "the data could not be copied: $(cause "$log" | tr -s ' ')"; }
copy_roles() {
    { pg_dumpall --no-password --roles-only --database=postgres | sed '/^CREATE ROLE postgres;$/d' | new load postgres; } 2> "$log" ||
        copy_failed
}

# Makes the database $1 with its settings and extensions, and at the end all rights, as the superuser; everything in it as
# its owner. Rights run nothing of what people made, and an owner may have given up some of his own.
copy_database() {
    local DATABASE=$1 EXTENSIONS=""
    [[ -z $OWNER ]] || owner_of "$1" > "$OWNER/user"
    # Not --schema-only, which leaves materialized views empty.
    run pg_dump --no-password --format=custom --section=pre-data --section=post-data --no-blobs --create \
        --lock-wait-timeout="${LOCK_SECONDS}s" --dbname="$1" --file="$definitions" 2> "$log" || copy_failed
    pg_restore --create --list "$definitions" > "$SCRATCH/whole"
    grep -E '^[0-9]+; [0-9]+ [0-9]+ (DATABASE|DATABASE PROPERTIES|(ACL|COMMENT) - DATABASE) ' "$SCRATCH/whole" > "$SCRATCH/database"
    awk '$4 == "ACL" || $4 == "DEFAULT" && $5 == "ACL"' "$SCRATCH/whole" > "$SCRATCH/rights"
    awk '$4 != "ACL" && ($4 != "DEFAULT" || $5 != "ACL")' "$SCRATCH/whole" > "$SCRATCH/list"
    new pg_restore --exit-on-error --create --use-list="$SCRATCH/database" --dbname=postgres "$definitions" 2> "$log" || copy_failed
    add_extensions_that_are_there
    new make_extensions "$definitions" "$1" "the database $1"
    new extension_tables "$1" grant to
    let_owner_in "$1" -1 'login connection limit -1'
    define "$1" pre-data
    copy_rows "$1"
    define "$1" post-data
    new run as_owner psql --no-psqlrc --quiet --dbname "$1" --command 'set client_min_messages = error' --command 'analyze'
    new extension_tables "$1" revoke from
    new run pg_restore --exit-on-error --use-list="$SCRATCH/rights" --dbname="$1" "$definitions" 2> "$log" || copy_failed
    let_owner_in "$1" 0 "$(sql postgres <<< "
        select case when rolcanlogin then 'login' else 'nologin' end || ' connection limit ' || rolconnlimit
        from pg_roles join pg_database on datdba = pg_roles.oid where datname = :'db'")"
}
owner_of() { sql postgres --set name="$1" <<< "select pg_get_userbyid(datdba) from pg_database where datname = :'name'" | tr -d '\n'; }
# An owner who may not log in, or not often enough, does so here alone.
let_owner_in() {
    [[ -n $OWNER ]] || return 0
    new sql postgres --set limit="$2" --set login="$3" --set owner="$(owner)" << 'SQL'
        select format('alter database %I connection limit %s', :'db', :'limit'),
            format('alter role %I %s', :'owner', :'login') \gexec
SQL
}
# As the owner, that section of the definitions.
define() {
    new run as_owner pg_restore --exit-on-error ${OWNER:+--no-owner} --jobs="$JOBS" --section="$2" \
        --use-list="$SCRATCH/wanted" --dbname="$1" "$definitions" 2> "$log" || copy_failed
}

# Nobody writes any more, so large tables can be read each by itself, several at a time, and the rest after them.
copy_rows() {
    local table large rest=() workers=()
    mapfile -t large < <(sql "$1" << 'SQL'
        select pg_class.oid::regclass from pg_class left join pg_depend on objid = pg_class.oid and deptype = 'e'
        where relkind = 'r' and pg_class.oid >= 16384 and deptype is null and pg_table_size(pg_class.oid) > 256 * 1024 * 1024
        order by pg_table_size(pg_class.oid) desc
SQL
    )
    for table in "${large[@]}"; do rest+=(--exclude-table-data="$table"); done
    for ((worker = 0; worker < JOBS; worker++)); do
        (
            log=$log.$worker
            for ((i = worker; i < ${#large[@]}; i += JOBS)); do copy_data "$1" --table="${large[i]}"; done
            ((worker > 0)) || copy_data "$1" "${rest[@]}"
        ) &
        workers+=("$!")
    done
    for child in "${workers[@]}"; do wait "$child" || exit 1; done
}
copy_data() {
    copy "$1" pg_dump --no-password --data-only ${OWNER:+--no-owner} --lock-wait-timeout="${LOCK_SECONDS}s" --dbname="$@"
}

# Names of the sequences of the database $1, and where they are.
sequences() { sql "$1" <<< "select schemaname || '.' || sequencename, last_value from pg_sequences order by 1"; }

# What the command says of the database is the same in both servers; what it says is in $SCRATCH/new.
compare() {
    local differs
    run "$@" > "$SCRATCH/old"
    new run "$@" > "$SCRATCH/new"
    differs=$(diff "$SCRATCH/old" "$SCRATCH/new") || fail "the copy differs from the database: $(paste -s -d ' ' <<< "$differs")"
}

if [[ -n $OWNER ]]; then
    mkdir -p "$OWNER"
    true > "$OWNER/user"
    true > "$OWNER/password"
fi
login
take_new_volume
trap put_back EXIT
start_server "$@"
# By a variable: that the question failed would go unnoticed in a process substitution.
found=$(databases)
mapfile -t names < <(printf '%s' "$found")
check
left=$(sql postgres < "$(dirname "$0")/left_behind.sql")
[[ -z $left ]] || say "not copied, and then on the old volume alone: $left"
began=$SECONDS tables=0 rows=0
close
bytes=$(bytes_of_all)
say "the site has to wait, $(estimate "$bytes")"
watch "$bytes" "$bytes" new bytes_of_all
copy_roles
for database in "${names[@]}"; do
    say "copying the database $database"
    copy_database "$database"
    compare sequences "$database"
    compare count_rows "$database"
    while read -r line; do
        printf '  %12d rows in %s\n' "${line##*|}" "${line%|*}"
        tables=$((tables + 1)) rows=$((rows + ${line##*|}))
    done < "$SCRATCH/new"
done
end_watch
rm -f "$definitions"
kill -INT "$server"
wait "$server"
initdb --pgdata="$PGDATA" --sync-only > /dev/null 2>&1
still_open=$(sql postgres < "$(dirname "$0")/still_open.sql")
[[ -z $still_open ]] || fail "somebody has opened while they were copied, or made: $still_open. What was written there since" \
    "is not in the copy, which is of no use. Run the upgrade again, and let nobody open a database meanwhile."
say "copied $tables tables with $rows rows in $((SECONDS - began)) s; each has as many rows as in the old server"
