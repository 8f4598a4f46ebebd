#!/bin/bash
# The archive of the write-ahead log, kept by pgBackRest, from which the data of any moment can be restored. Runs beside
# the server, in its image and on its volume:
#
#   pgbackrest.sh push FILE      archive_command: keeps one file of the log
#   pgbackrest.sh keep           makes base backups, one a day, and forgets what is older than $ARCHIVE_DAYS days
#   pgbackrest.sh check TIME     says whether the data of this time can be restored, and ends what is to be archived by then
#   pgbackrest.sh restore TIME   restores it, where the server is stopped
#   pgbackrest.sh list           prints from when to when each archive reaches, JSON, a line each
#   pgbackrest.sh program        says whether this image has the program, and whether it gets to the bucket
#
# Each database cluster has an archive of its own, called by its system identifier: one that is made anew never meets the
# log of the one before, and the archive of one whose data is lost is still there. They are below $BACKUPS, or in the
# bucket that the S3_ variables of common.sh name, where $ARCHIVE_STORAGE is s3.
# shellcheck shell=bash
set -euo pipefail
umask 077

DATA=${PGDATA:-/data/pgdata}
SOCKETS=${SOCKETS:-/var/run/postgresql}
SCRATCH=${TMPDIR:-/tmp}
export PGBACKREST_STANZA=main PGBACKREST_LOG_LEVEL_FILE=off PGBACKREST_LOG_LEVEL_CONSOLE=warn \
    PGBACKREST_LOCK_PATH=$SCRATCH/pgbackrest PGBACKREST_PG1_SOCKET_PATH=$SOCKETS PGBACKREST_PG1_PORT=${PGPORT:-5432} \
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
uses_s3() { [[ ${ARCHIVE_STORAGE-} = s3 ]]; }

# pgBackRest is told of the bucket by a file in memory: no password in a process list, nor in an environment.
find_storage() {
    command -v pgbackrest > /dev/null || fail "postgres_archive: this image of PostgreSQL has no pgBackRest. The one that" \
        "is built here has (image_source: debian); or set postgres_archive to false."
    archives=$BACKUPS/archive
    uses_s3 || return 0
    local part
    archives=/${S3_PREFIX:+$S3_PREFIX/}archive
    # Server and keeper of the archive share the place: each writes it under another name first.
    part=$(mktemp "$SCRATCH/pgbackrest.XXXXXX") PGBACKREST_CONFIG=$SCRATCH/pgbackrest.conf
    printf '%s\n' '[global]' repo1-type=s3 repo1-s3-uri-style=path "repo1-s3-endpoint=${S3_ENDPOINT#https://}" \
        "repo1-s3-bucket=$S3_BUCKET" "repo1-s3-region=$S3_REGION" "repo1-s3-key=$(< "$S3_LOGIN/access-key")" \
        "repo1-s3-key-secret=$(< "$S3_LOGIN/secret-key")" ${S3_CA:+"repo1-storage-ca-file=$S3_CA"} > "$part"
    mv "$part" "$PGBACKREST_CONFIG"
}
# A bucket that is not there, a login that is none: told in a sentence, after some tries.
reach_storage() {
    local said cause
    find_storage
    uses_s3 || return 0
    said=$(PGBACKREST_IO_TIMEOUT=20 PGBACKREST_REPO1_PATH=$archives pgbackrest repo-ls 2>&1) || {
        cause=$(grep -oP '<Message>\K[^<]+' <<< "$said" | tail -n 1) || cause=$(sed -nE 's/^ERROR: \[[0-9]+\]: //p' <<< "$said" | tail -n 1)
        fail "postgres_archive_storage: $S3_ENDPOINT, bucket $S3_BUCKET refused: ${cause%.}. Check its address, the" \
            "bucket's name and the login in the vault."
    }
}
# The archive of the server whose data this is; nothing where that cannot be read.
own_archive() { LC_ALL=C pg_controldata "$DATA" 2> /dev/null | sed -n 's/^Database system identifier: *//p' || true; }
use_archive() { export PGBACKREST_REPO1_PATH=$archives/$1; }
# The archives of all servers that there were.
all_archives() { PGBACKREST_REPO1_PATH=$archives pgbackrest repo-ls | grep -xE '[0-9]+' || true; }
# When the base backups of the archive in use ended, in seconds since 1970, oldest first.
base_times() {
    pgbackrest info --output=json 2> /dev/null | grep -oE '"timestamp":\{"start":[0-9]+,"stop":[0-9]+' | sed 's/.*://' | sort -n
}
# When the last file of the archive $1 came.
last_file() {
    PGBACKREST_REPO1_PATH=$archives/$1 pgbackrest repo-ls --recurse --output=json | grep -oE '"time":[0-9]+' | cut -d : -f 2 | sort -n |
        tail -n 1
}
# A line for each archive: its name, and from when to when it reaches; from `-` where it has no base backup.
reaches() {
    local archive first last
    for archive in $(all_archives); do
        use_archive "$archive"
        first=$(base_times | head -n 1) || first=
        last=$(last_file "$archive") || return
        printf '%s %s %s\n' "$archive" "${first:--}" "$last"
    done
}
sql() { psql --no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 --host "$SOCKETS" --username postgres "$@"; }
moment() { date -u -d "@$1" '+%Y-%m-%d %H:%M:%S UTC'; }

# A signal ends it at once: bash alone would wait for its end first.
nap() {
    sleep "$1" &
    wait $!
}
keep() {
    local own known= last=0
    until [[ -s $DATA/PG_VERSION ]] && sql --command 'select 1' > /dev/null 2>&1; do nap 1; done
    while :; do
        find_storage
        own=$(own_archive)
        # It is another one where the data was lost and the server began anew.
        if [[ -n $own && $own != "$known" ]]; then
            use_archive "$own"
            until pgbackrest stanza-create; do nap 10; done
            say "archiving to $PGBACKREST_REPO1_PATH"
            known=$own last=0
        fi
        # Asked again only when one is due: a bucket counts what it is asked.
        ((last >= $(date +%s) - 86400)) || last=$(base_times | tail -n 1) || last=0
        if ((last < $(date +%s) - 86400)); then
            say "making a base backup"
            if pgbackrest backup --type=full; then
                # What fails there is done with the next base backup.
                forget || true
                say "made a base backup"
            else
                nap 60
            fi
        fi
        nap 10
    done
}

# The archives of servers that are no more go as the base backups do: when nothing in them is young enough.
forget() {
    local archive last
    for archive in $(all_archives); do
        [[ $archive != "${PGBACKREST_REPO1_PATH##*/}" ]] || continue
        # One that cannot be looked at now is not old.
        last=$(last_file "$archive") && [[ -n $last ]] || continue
        ((last < $(date +%s) - ARCHIVE_DAYS * 86400)) || continue
        # It wants to be told that nobody uses it any more.
        (
            use_archive "$archive"
            export PGBACKREST_LOCK_PATH=$SCRATCH/forget
            mkdir -p "$PGBACKREST_LOCK_PATH"
            pgbackrest stop
            pgbackrest stanza-delete --force
        ) || continue
        uses_s3 || find "$archives/$archive" -type d -empty -delete
        say "deleted the archive of the server $archive, which ended $(moment "$last")"
    done
}

# Finds the archive that has the moment $1 (seconds since 1970): this server's, or one of those before it. Of these, the
# newest that was kept then; where none was, the one that was kept until last. It is in use then, and its name in
# $chosen; this server's is in $own, and from when to when the chosen one reaches in $begins and $ends.
choose_archive() {
    local archive first last earliest= best=-1 rank all
    all=$(reaches)
    own=$(own_archive)
    # Data that cannot say any more whose it is: its server kept the archive with the newest file.
    [[ -n $own ]] || own=$(sort -n -k 3 <<< "$all" | tail -n 1 | cut -d ' ' -f 1)
    chosen=
    while read -r archive first last; do
        [[ ${first:--} != - ]] || continue
        ((${earliest:-$first} < first)) || earliest=$first
        ((first <= $1)) || continue
        rank=$((last < $1 ? last : first + 10 ** 12))
        [[ $archive != "$own" ]] || rank=$((10 ** 15))
        if ((rank > best)); then
            chosen=$archive best=$rank begins=$first ends=$last
        fi
    done <<< "$all"
    [[ -n $earliest ]] || fail "to_time: there is no base backup yet. It is made soon after postgres_archive became true."
    [[ -n $chosen ]] || fail "to_time: $(moment "$1") is before the archive begins, which is at $(moment "$earliest")."
    use_archive "$chosen"
    check_major
}
check_major() {
    local major ours
    major=$(pgbackrest info --output=json | grep -oE '"system-id":[0-9]+,"version":"[0-9]+' | tail -n 1 | grep -oE '[0-9]+$')
    ours=$(postgres --version | grep -oE '[0-9]+' | head -n 1)
    ((major == ours)) || fail "to_time: the archive of that moment, of the server $chosen, is PostgreSQL $major's, and this one is" \
        "PostgreSQL $ours. Restore a backup of that time."
}

check() {
    local wanted pushed free size
    wanted=$(date -u -d "$1" +%s 2> /dev/null) || fail "to_time: '$1' is no time. Write it as 2026-01-31 14:05:00, in UTC."
    ((wanted <= $(date +%s))) || fail "to_time: $(moment "$wanted") has not come yet; it is $(moment "$(date +%s)")."
    reach_storage
    choose_archive "$wanted"
    size=$(du -sm "$DATA" | cut -f 1)
    free=$(df -Pm "$DATA" | awk 'NR == 2 {print $4}')
    ((free > size)) || fail "storage_size: the data is kept aside until the restored data is there, which takes $size MB;" \
        "the volume has $free MB free."
    if [[ $chosen != "$own" ]]; then
        say "This moment is in the archive of a server before this one, from $(moment "$begins") to $(moment "$ends")."
        return 0
    fi
    # Whoever restores because the server is broken cannot ask it for anything.
    if ! pg_isready --quiet --host "$SOCKETS"; then
        say "The server does not answer: what it has not archived is not restored."
        return 0
    fi
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
    local new=$DATA.restoring old=$DATA.replaced wanted target log=$SCRATCH/restore.log turn
    wanted=$(date -u -d "$1" +%s)
    target=$(date -u -d "@$wanted" '+%Y-%m-%d %H:%M:%S+00')
    # A pod that was killed may still be on its way out.
    exec {turn}< "$(dirname "$DATA")"
    flock --wait 60 "$turn" || fail "another restore still works on the data: wait for its end."
    # What a run that was killed left behind: the old data is back in its place, if it was not the new one's already.
    [[ -e $DATA || ! -e $old ]] || mv "$old" "$DATA"
    rm -rf "$new"
    exec {lock}< "$DATA"
    flock --wait 60 "$lock" || fail "a server still runs on the data: stop it first."
    reach_storage
    choose_archive "$wanted"
    say "restoring the data of $target"
    mkdir "$new"
    server=
    trap 'kill -INT "$server" 2> /dev/null || true; wait || true; rm -rf "$new"' EXIT
    trap 'exit 143' INT TERM
    pgbackrest restore --pg1-path="$new" --type=time --target="$target" --target-action=promote > "$log" 2>&1 ||
        { cat "$log" >&2 && fail "to_time: the data could not be restored, and is as it was: $(last_words "$log")"; }
    if ! recover; then
        ended_with_the_archive || {
            cat "$log" >&2
            fail "to_time: $target could not be reached, and the data is as it was: $(last_words "$log")"
        }
        say "the archive ends before that time: all that it has is restored"
        recover -c recovery_target_time= || { cat "$log" >&2 && fail "to_time: the data is as it was: $(last_words "$log")"; }
    fi
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

# Reads the log up to that time, and becomes a server of its own; its own log is archived from here on. Without
# hot_standby it answers only then, and asks for no settings as large as the other's.
recover() {
    postgres -D "$new" -c hot_standby=off -c listen_addresses= -c unix_socket_directories="$SOCKETS" -c port="$PGBACKREST_PG1_PORT" \
        -c archive_mode=on -c archive_command="bash $0 push %p" "$@" > "$log" 2>&1 &
    server=$!
    until [[ $(sql --command 'select pg_is_in_recovery()' 2> /dev/null) = f ]]; do
        kill -0 "$server" 2> /dev/null || return 1
        sleep 0.3
    done
}
# Whether a recovery failed only because there is no more: nothing was written after the last file of the archive. A
# file that is missing in its midst is another matter.
ended_with_the_archive() {
    local last
    last=$(grep -oE 'restored log file "[0-9A-F]{24}"' "$log" | tail -n 1 | grep -oE '[0-9A-F]{24}') || return 1
    grep -q 'recovery ended before configured recovery target was reached' "$log" &&
        [[ $last = $(pgbackrest info --output=json | grep -oE '"max":"[0-9A-F]{24}' | tail -n 1 | grep -oE '[0-9A-F]{24}') ]]
}

list() {
    local archive first last all
    reach_storage
    all=$(reaches)
    while read -r archive first last; do
        [[ ${first:--} != - ]] || continue
        printf '{"archive": {"server": "%s", "from": "%s", "to": "%s"}}\n' "$archive" "$(date -u -d "@$first" +%FT%TZ)" \
            "$(date -u -d "@$last" +%FT%TZ)"
    done <<< "$all"
}

case $1 in
    push)
        DATA=$PWD
        find_storage
        use_archive "$(own_archive)"
        # The server's stop waits for this, and a bucket that is away for a minute is away for longer.
        export PGBACKREST_IO_TIMEOUT=20
        exec pgbackrest archive-push --pg1-path="$PWD" "$2"
        ;;
    keep)
        export PGBACKREST_PG1_PATH=$DATA
        trap 'exit 0' INT TERM
        keep
        ;;
    check) check "$2" ;;
    restore) restore "$2" ;;
    list) list ;;
    program) reach_storage ;;
esac
