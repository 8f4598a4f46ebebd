#!/bin/bash
# The archive of the write-ahead log, kept by pgBackRest, from which the data of any moment can be restored. Runs beside
# the server, in its image and on its volume:
#
#   pgbackrest.sh push FILE      archive_command: keeps one file of the log
#   pgbackrest.sh keep           makes base backups, one a day, and forgets those older than $ARCHIVE_DAYS days
#   pgbackrest.sh check TIME     says whether the data of this time can be restored, and ends what is to be archived by then
#   pgbackrest.sh restore TIME   restores it, where the server is stopped
#   pgbackrest.sh program     says whether this image has the program
#
# Each database cluster has a repository of its own: one that is made anew never meets the log of the one before.
# shellcheck shell=bash
set -euo pipefail
umask 077

DATA=${PGDATA:-/data/pgdata}
SOCKETS=/var/run/postgresql
export PGBACKREST_STANZA=main PGBACKREST_LOG_LEVEL_FILE=off PGBACKREST_LOG_LEVEL_CONSOLE=warn \
    PGBACKREST_LOCK_PATH=/tmp/pgbackrest PGBACKREST_PG1_SOCKET_PATH=$SOCKETS PGBACKREST_PG1_PORT=${PGPORT:-5432} \
    PGBACKREST_START_FAST=y PGBACKREST_COMPRESS_TYPE=gz PGBACKREST_COMPRESS_LEVEL=3 \
    PGBACKREST_REPO1_RETENTION_FULL_TYPE=time PGBACKREST_REPO1_RETENTION_FULL=${ARCHIVE_DAYS:-7} \
    PGBACKREST_ARCHIVE_TIMEOUT=120 PGBACKREST_CONFIG=/dev/null

say() { printf '%s\n' "$*"; }
fail() {
    printf '%s\n' "$*" >&2
    exit 1
}
# What a program said last, without pgBackRest's marks.
last_words() { grep -E 'ERROR|FATAL' "$1" | tail -n 1 | sed -E 's/^.*(ERROR|FATAL): *(\[[0-9]+\]: )?//' || true; }
field() { LC_ALL=C pg_controldata "$DATA" | sed -n "s/^$1: *//p"; }
find_program() {
    command -v pgbackrest > /dev/null || fail "postgres_archive: this image of PostgreSQL has no pgBackRest. The one that" \
        "is built here has (image_source: debian); or set postgres_archive to false."
}
use_repository() {
    find_program
    PGBACKREST_REPO1_PATH=$BACKUPS/archive/$(field 'Database system identifier')
    export PGBACKREST_REPO1_PATH
}
# When the base backups ended, in seconds since 1970, oldest first.
base_times() {
    pgbackrest info --output=json 2> /dev/null | grep -oE '"timestamp":\{"start":[0-9]+,"stop":[0-9]+' | sed 's/.*://' | sort -n
}
sql() { psql --no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 --host "$SOCKETS" --username postgres "$@"; }
moment() { date -u -d "@$1" '+%Y-%m-%d %H:%M:%S UTC'; }

keep() {
    local last
    until [[ -s $DATA/PG_VERSION ]] && sql --command 'select 1' > /dev/null 2>&1; do sleep 1; done
    use_repository
    until pgbackrest stanza-create; do sleep 10; done
    say "archiving to $PGBACKREST_REPO1_PATH"
    while :; do
        last=$(base_times | tail -n 1) || last=
        if ((${last:-0} < $(date +%s) - 86400)); then
            say "making a base backup"
            if pgbackrest backup --type=full; then
                say "made a base backup"
            else
                sleep 60
            fi
        fi
        sleep 10 &
        wait $!
    done
}

check() {
    local wanted first pushed free size
    wanted=$(date -u -d "$1" +%s 2> /dev/null) || fail "to_time: '$1' is no time. Write it as 2026-01-31 14:05:00, in UTC."
    ((wanted <= $(date +%s))) || fail "to_time: $(moment "$wanted") has not come yet; it is $(moment "$(date +%s)")."
    use_repository
    first=$(base_times | head -n 1) || first=
    [[ -n $first ]] || fail "to_time: there is no base backup yet. It is made soon after postgres_archive became true."
    ((wanted >= first)) || fail "to_time: $(moment "$wanted") is before the archive begins, which is at $(moment "$first")."
    size=$(du -sm "$DATA" | cut -f 1)
    free=$(df -Pm "$DATA" | awk 'NR == 2 {print $4}')
    ((free > size)) || fail "storage_size: the data is kept aside until the restored data is there, which takes $size MB;" \
        "the volume has $free MB free."
    # The server ends a recovery only at a commit after the wanted time: here is one, in a file that is archived at once.
    sql --command 'select txid_current()' > /dev/null
    pushed=$(sql --command 'select pg_walfile_name(pg_switch_wal())')
    for _ in {1..60}; do
        [[ $(sql --command "select last_archived_wal >= '$pushed' from pg_stat_archiver") != t ]] || return 0
        sleep 0.5
    done
    fail "to_time: the archive does not take the log: $(sql --command 'select last_failed_wal from pg_stat_archiver')."
}

# The data is restored beside its place. What is there is moved aside, and moved back if anything fails.
restore() {
    local new=$DATA.restoring old=$DATA.replaced target log=/tmp/restore.log server turn
    target=$(date -u -d "$1" '+%Y-%m-%d %H:%M:%S+00')
    # A pod that was killed may still be on its way out.
    exec {turn}< "$(dirname "$DATA")"
    flock --wait 60 "$turn" || fail "another restore still works on the data: wait for its end."
    # What a run that was killed left behind: the old data is back in its place, if it was not the new one's already.
    [[ -e $DATA || ! -e $old ]] || mv "$old" "$DATA"
    rm -rf "$new"
    exec {lock}< "$DATA"
    flock --wait 60 "$lock" || fail "a server still runs on the data: stop it first."
    use_repository
    say "restoring the data of $target"
    mkdir "$new"
    trap 'kill -INT "${server:-}" 2> /dev/null || true; wait || true; rm -rf "$new"' EXIT
    trap 'exit 143' INT TERM
    pgbackrest restore --pg1-path="$new" --type=time --target="$target" --target-action=promote > "$log" 2>&1 ||
        { cat "$log" >&2 && fail "to_time: the data could not be restored, and is as it was: $(last_words "$log")"; }
    # Reads the log up to that time, and becomes a server of its own; its own log is archived from here on.
    # Without hot_standby it answers only then, and asks for no settings as large as the other's.
    postgres -D "$new" -c hot_standby=off -c listen_addresses= -c unix_socket_directories="$SOCKETS" -c port="$PGBACKREST_PG1_PORT" \
        -c archive_mode=on -c archive_command="bash $0 push %p" > "$log" 2>&1 &
    server=$!
    until [[ $(sql --command 'select pg_is_in_recovery()' 2> /dev/null) = f ]]; do
        if ! kill -0 "$server" 2> /dev/null; then
            cat "$log" >&2
            fail "to_time: $target could not be reached, and the data is as it was: $(last_words "$log")"
        fi
        sleep 0.3
    done
    grep -E 'recovery stopping|last completed transaction' "$log" || true
    kill -INT "$server"
    wait "$server"
    trap - EXIT
    rm -rf "$old"
    mv "$DATA" "$old"
    mv "$new" "$DATA"
    sync -f "$DATA"
    say "restored the data of $target; what was there before is kept in $old"
}

case $1 in
    push)
        DATA=$PWD
        use_repository
        exec pgbackrest archive-push --pg1-path="$PWD" "$2"
        ;;
    keep)
        export PGBACKREST_PG1_PATH=$DATA
        trap 'exit 0' INT TERM
        keep
        ;;
    check) check "$2" ;;
    restore) restore "$2" ;;
    program) find_program ;;
esac
