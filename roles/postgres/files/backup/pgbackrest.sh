#!/bin/bash
# The archive of the write-ahead log, kept by pgBackRest, from which the data of any moment can be restored. Runs beside
# the server, in its image and on its volume:
#
#   pgbackrest.sh push FILE      archive_command: keeps one file of the log
#   pgbackrest.sh keep           makes base backups, one a day and one after each restore, and forgets what is older than
#                                $ARCHIVE_DAYS days
#   pgbackrest.sh check TIME     says whether the data of this time can be restored; changes nothing
#   pgbackrest.sh flush TIME     waits until all that was written is in the archive
#   pgbackrest.sh restore TIME   restores the data of this time, where the server is stopped
#   pgbackrest.sh list           prints from when to when there are moments to restore, JSON, a line each
#   pgbackrest.sh program        says whether this image has the program, and whether it gets to the bucket
#
# Each database cluster has an archive of its own, called by its system identifier: one that is made anew never meets the
# log of the one before, and the archive of one whose data is lost is still there. They are below $BACKUPS, or in the
# bucket that the S3_ variables of common.sh name, where $ARCHIVE_STORAGE is s3; there below $SITE_ID, so that nobody meets
# another site's. One that began before sites had ids stays where it is; its server notes the site's id in it.
# shellcheck shell=bash
set -euo pipefail
umask 077

DATA=${PGDATA:-/data/pgdata}
new=$DATA.restoring replaced=$DATA.replaced original=$DATA.original
SOCKETS=${SOCKETS:-/var/run/postgresql}
SCRATCH=${TMPDIR:-/tmp}
# How long an archive that takes none of the log is waited for.
STALLED_SECONDS=${STALLED_SECONDS:-30}
export PGBACKREST_STANZA=main PGBACKREST_LOG_LEVEL_FILE=off PGBACKREST_LOG_LEVEL_CONSOLE=warn \
    PGBACKREST_LOCK_PATH=$SCRATCH/pgbackrest PGBACKREST_PG1_SOCKET_PATH=$SOCKETS PGBACKREST_PG1_PORT=${PGPORT:-5432} \
    PGBACKREST_START_FAST=y PGBACKREST_COMPRESS_TYPE=zst PGBACKREST_COMPRESS_LEVEL=3 \
    PGBACKREST_REPO1_RETENTION_FULL_TYPE=time PGBACKREST_REPO1_RETENTION_FULL=${ARCHIVE_DAYS:-7} \
    PGBACKREST_ARCHIVE_TIMEOUT=120 PGBACKREST_CONFIG=/dev/null

say() { printf '%s\n' "$*"; }
fail() {
    printf '%s\n' "$*" >&2
    exit 1
}
# shellcheck source=pace.sh
. "$(dirname "$0")/pace.sh"
export PGBACKREST_PROCESS_MAX=$JOBS
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
# The archive of the server whose data this is, a path below $archives; nothing where that cannot be read.
own_archive() {
    local server found
    server=$(control 'Database system identifier' "$DATA")
    [[ -n $server ]] || return 0
    # Asked once: a bucket counts what it is asked.
    if [[ ! -s $SCRATCH/archive-$server ]]; then
        found=$(archives_below "") || return 1
        grep -qxF "$server" <<< "$found" || server=${SITE_ID:+$SITE_ID/}$server
        printf '%s' "$server" > "$SCRATCH/archive-${server##*/}"
    fi
    printf '%s' "$(< "$SCRATCH/archive-${server##*/}")"
}
# The timeline of the data in the directory $1, 8 hex digits.
timeline_of() { printf '%08X' "$(control "Latest checkpoint's TimeLineID" "$1")"; }
control() { LC_ALL=C pg_controldata "$2" 2> /dev/null | sed -n "s/^$1: *//p" || true; }
use_archive() { export PGBACKREST_REPO1_PATH=$archives/$1; }
# The archives of all servers that the site had, and those of no site.
all_archives() {
    local archive
    [[ -z ${SITE_ID-} ]] || archives_below "/$SITE_ID" | sed "s,^,$SITE_ID/,"
    for archive in $(archives_below ""); do
        [[ $(site_of "$archive") =~ ^("${SITE_ID-}")?$ ]] && printf '%s\n' "$archive"
    done || true
}
archives_below() {
    local found
    found=$(PGBACKREST_REPO1_PATH=$archives$1 pgbackrest repo-ls) || return 1
    grep -xE '[0-9]+' <<< "$found" || true
}
# What the archive $1, which is below no site, says whose it is.
site_of() { PGBACKREST_REPO1_PATH=$archives/$1 pgbackrest repo-get --ignore-missing site-id 2> /dev/null || true; }
# A line for each base backup of the archive in use, oldest first: its label; its timeline, 8 hex digits; its end, in the
# log and in seconds since 1970; how many bytes it restores.
base_backups() {
    pgbackrest info --output=json 2> /dev/null | tr ',{}[]' '\n' | awk -F '[":]+' '
        $2 != "" && $3 == "" {section = $2}
        $2 == "size" {size = $3}
        $2 == "label" {label = $3}
        $2 == "stop" {stop[section] = $3}
        $2 == "stop" && section == "timestamp" {print label, substr(stop["archive"], 1, 8), stop["lsn"], $3, size}'
}
# When the last file of the archive $1 came.
last_file() {
    PGBACKREST_REPO1_PATH=$archives/$1 pgbackrest repo-ls --recurse --output=json | grep -oE '"time":[0-9]+' | cut -d : -f 2 | sort -n |
        tail -n 1
}
sql() { psql --no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 --host "$SOCKETS" --username postgres "$@"; }
moment() { date -u -d "@$1" '+%Y-%m-%d %H:%M:%S UTC'; }

# A signal ends it at once: bash alone would wait for its end first.
nap() {
    sleep "$1" &
    wait $!
}
keep() {
    local own known="" timeline last=0
    until [[ -s $DATA/PG_VERSION ]] && sql --command 'select 1' > /dev/null 2>&1; do nap 1; done
    while :; do
        find_storage
        own=$(own_archive) timeline=$(timeline_of "$DATA")
        # It is another one where the data was lost and the server began anew, or where a moment was restored.
        if [[ -n $own && "$own $timeline" != "$known" ]]; then
            use_archive "$own"
            until pgbackrest stanza-create; do nap 10; done
            [[ $own = */* || -z ${SITE_ID-} || -n $(site_of "$own") ]] || pgbackrest repo-put site-id <<< "$SITE_ID" || true
            bring_histories
            say "archiving to $PGBACKREST_REPO1_PATH"
            known="$own $timeline" last=0
        fi
        # Asked again only when one is due: a bucket counts what it is asked.
        ((last >= $(date +%s) - 86400)) || last=$(base_backups | awk -v timeline="$timeline" '$2 == timeline {last = $4} END {print last + 0}')
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

# Without its history no timeline can be restored, and the server archives each once: in the place that was then the archive's.
bring_histories() {
    local file there
    there=$(pgbackrest repo-ls --recurse archive) || return 0
    for file in "$DATA"/pg_wal/*.history; do
        [[ ! -e $file ]] || grep -q "/${file##*/}$" <<< "$there" || pgbackrest archive-push "$file" || true
    done
}

# The archives of servers that are no more go as the base backups do: when nothing in them is young enough.
forget() {
    local archive last
    for archive in $(all_archives); do
        [[ $archive != "${PGBACKREST_REPO1_PATH#"$archives"/}" ]] || continue
        # It may be another site's.
        [[ $archive = */* || -n $(site_of "$archive") ]] || ! uses_s3 || continue
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
            [[ $archive = */* ]] || pgbackrest repo-rm site-id
        ) || continue
        uses_s3 || find "$archives/$archive" -type d -empty -delete
        say "deleted the archive of the server ${archive##*/}, which ended $(moment "$last")"
    done
}

# --- which base backup and which timeline have a moment -------------------------------------------------------------
#
# The rule. Each restore to a moment begins a new timeline, which is a branch of the log. A moment belongs to the server
# and the timeline that ran then: of those that began before it, the one that began last. Where the server of today did
# not run at the moment, it is another server's, and then, of all, of the one that began last.
#   A server began when its system identifier says, whose first 32 bits are that time. A timeline began when its history
# file in the archive says, into which the restore wrote it before the server started: a line `# TIMELINE began SECONDS`;
# where there is no such line, when the file came. A restore that did not come to its end is not among them, for only the
# server that runs on a timeline archives its history.
#   The restore begins with the newest base backup that ended before the moment and from which the log leads to that
# timeline: one that was made on it, or on a timeline that it goes back to, before the fork. From there the log is read
# along that timeline. Where there is no such base backup, the moment cannot be restored.

# Looks into the archive $1. What it finds: $files, a line for each, its name and when it came; $bases; of each
# timeline, when it $began, and its $forks, a line for each timeline that it goes back to: which, and where it left it.
look_into() {
    local file came timeline history
    use_archive "$1"
    bases=$(base_backups)
    files=$(pgbackrest repo-ls --recurse --output=json) || fail "postgres_archive: the archive $1 cannot be read."
    files=$(grep -oE '"[^"]+":\{"type":"file","size":[0-9]+,"time":[0-9]+' <<< "$files" | sed -E 's/^"([^"]+)".*:/\1 /') || true
    unset began forks
    declare -gA began=([00000001]=$((${1##*/} >> 32))) forks=()
    while read -r file came; do
        [[ $file = *.history ]] || continue
        timeline=$(basename "$file" .history)
        history=$(pgbackrest repo-get "$file") || fail "postgres_archive: $file cannot be read in the archive $1."
        began[$timeline]=$(sed -n "s/^# $timeline began //p" <<< "$history")
        began[$timeline]=${began[$timeline]:-$came}
        forks[$timeline]=$(sed -nE 's,^([0-9]+)\t([0-9A-F/]+)\t.*,\1 \2,p' <<< "$history")
    done <<< "$files"
}
# A place in the log, such as 1/A0, as a number.
place() { printf '%d' "$((16#${1%/*} << 32 | 16#${1#*/}))"; }
# Of the base backups in $bases those from which the log leads to the timeline $1.
bases_towards() {
    local base timeline ended other fork
    while read -r base; do
        read -r _ timeline ended _ <<< "$base"
        if [[ $timeline = "$1" ]]; then
            printf '%s\n' "$base"
            continue
        fi
        while read -r other fork; do
            # A timeline that goes back to none has one empty line.
            [[ -n $other ]] || continue
            ((other != 16#$timeline || $(place "$ended") > $(place "$fork"))) || printf '%s\n' "$base"
        done <<< "${forks[$1]-}"
    done <<< "$bases"
}
# A line for each timeline of each archive, by when it began: the archive, the timeline, when it began, and from when to
# when moments of it can be restored; these two are `-` where none can.
timelines() {
    local archive timeline first last
    for archive in $(all_archives); do
        look_into "$archive"
        for timeline in "${!began[@]}"; do
            first=$(bases_towards "$timeline" | awk 'NR == 1 {print $4}')
            last=$(grep -E "/${timeline}[0-9A-F]{16}-" <<< "$files" | sort -n -k 2 | tail -n 1 | cut -d ' ' -f 2) || true
            if [[ -z $first ]]; then
                first=-
            elif ((++first < began[$timeline])); then
                first=${began[$timeline]}
            fi
            printf '%s %s %s %s %s\n' "$archive" "$timeline" "${began[$timeline]}" "$first" "${last:-${began[$timeline]}}"
        done
    done | sort -n -k 3
}
# From when to when there are moments to restore, a line each: archive, from, to. $1 is what `timelines` said. A timeline
# that goes on where another one of its archive ended goes on with its line.
spans() {
    awk '{
        if ($1 == archive && $4 == $3 && to != "") to = $5
        else {
            if (to != "") print archive, from, to
            archive = $1; from = $4; to = $4 == "-" ? "" : $5
        }
    } END {if (to != "") print archive, from, to}' <<< "$1"
}
say_spans() {
    local archive from to
    spans "$1" | while read -r archive from to; do printf '%s to %s\n' "$(moment "$from")" "$(moment "$to")"; done | paste -s -d ';' | sed 's/;/; /g'
}

# Finds what has the moment $1 (seconds since 1970), by the rule above: its $archive, in use then, its $timeline, the label
# of its base backup in $base and how many bytes that restores in $bytes. This server's own archive is in $own, from when
# to when the timeline reaches in $begins and $ends.
find_moment() {
    local all found
    all=$(timelines)
    own=$(own_archive)
    # Data that cannot say any more whose it is: its server kept the archive with the newest file.
    [[ -n $own ]] || own=$(sort -n -k 5 <<< "$all" | tail -n 1 | cut -d ' ' -f 1)
    found=$(awk -v own="$own" -v moment="$1" '
        $1 == own {newest = $3}
        $3 <= moment {latest = $0}
        $3 <= moment && $1 == own {ours = $0; began = $3; ended = $5}
        END {print ours != "" && (began == newest || moment <= ended) ? ours : latest}' <<< "$all")
    read -r archive timeline _ begins ends <<< "$found"
    [[ -n $(spans "$all") ]] || fail "to_time: there is no base backup yet. It is made soon after postgres_archive became true."
    if [[ ${begins:--} = - ]] || ((begins > $1)); then
        fail "to_time: $(moment "$1") cannot be restored. These moments can: $(say_spans "$all")."
    fi
    look_into "$archive"
    read -r base _ _ _ bytes < <(bases_towards "$timeline" | awk -v moment="$1" '$4 < moment' | tail -n 1)
    check_major
}
check_major() {
    local major ours
    major=$(pgbackrest info --output=json | grep -oE '"system-id":[0-9]+,"version":"[0-9]+' | tail -n 1 | grep -oE '[0-9]+$')
    ours=$(postgres --version | grep -oE '[0-9]+' | head -n 1)
    ((major == ours)) || fail "to_time: the archive of that moment, of the server ${archive##*/}, is PostgreSQL $major's, and this one is" \
        "PostgreSQL $ours. Restore a backup of that time."
}

check() {
    local wanted
    wanted=$(date -u -d "$1" +%s 2> /dev/null) || fail "to_time: '$1' is no time. Write it as 2026-01-31 14:05:00, in UTC."
    ((wanted <= $(date +%s))) || fail "to_time: $(moment "$wanted") has not come yet; it is $(moment "$(date +%s)")."
    reach_storage
    find_moment "$wanted"
    check_room
    [[ $archive = "$own" ]] || say "This moment is in the archive of a server before this one, from $(moment "$begins") to" \
        "$(moment "$ends")."
}

bytes_in() { du -sb "$1" | cut -f 1; }
free_megabytes() { df -Pm "$(dirname "$DATA")" | awk 'NR == 2 {print $4}'; }
# What is there stays where it is until the restored data is.
check_room() {
    local needed free now aside=0
    now=$(du -sm --exclude=pg_wal "$DATA" | cut -f 1) needed=$((bytes / 1000000))
    # The log that is read after the base backup makes it as large as the data is, or was.
    needed=$(((needed > now ? needed : now) + 64))
    free=$(free_megabytes)
    [[ ! -e $original ]] || aside=$(du -sm "$original" | cut -f 1)
    # What the restore deletes first.
    [[ ! -e $original || ! -e $replaced ]] || free=$((free + $(du -sm "$replaced" | cut -f 1)))
    if [[ ${FORGET_ORIGINAL-} = true ]]; then
        free=$((free + aside)) aside=0
    fi
    ((free > needed)) || fail "storage_size: the data of that moment takes $needed MB beside the data that is there, and the" \
        "volume has $free MB free. Make it larger$( ((aside == 0)) ||
            printf ', or delete what was there before the first restore, %s MB: -e forget_original=true' "$aside")."
}

# All that was written is in the archive: for the moment $1, and for whoever wants to come back from it.
flush() {
    local pushed refused
    # Whoever restores because the server is broken cannot ask it for anything.
    if ! pg_isready --quiet --host "$SOCKETS"; then
        say "The server does not answer: what it has not archived is not restored."
        return 0
    fi
    # A recovery ends only at a commit after the wanted time: here is one, in a file that is archived at once.
    sql --command 'select txid_current()' > /dev/null
    pushed=$(sql --command 'select pg_walfile_name(pg_switch_wal())')
    ! wait_for_archive "$pushed" || return 0
    refused="the archive does not take the log: $(sql --command 'select last_failed_wal from pg_stat_archiver')."
    reach_storage
    find_moment "$(date -u -d "$1" +%s)"
    [[ $archive != "$own" ]] || fail "to_time: $refused"
    say "What was written last will not come back with another restore: $refused"
}
# Waits until the archive has the file $1 of the log, as long as it takes others before it: after an outage of the bucket
# there may be many. Gives up when it has taken none for a while.
wait_for_archive() {
    local taken before="" since=$SECONDS left said=0
    while [[ $(sql --command "select last_archived_wal >= '$1' from pg_stat_archiver") != t ]]; do
        taken=$(sql --command 'select archived_count from pg_stat_archiver')
        [[ $taken = "$before" ]] || before=$taken since=$SECONDS
        ((SECONDS - since < STALLED_SECONDS)) || return 1
        if ((SECONDS - said >= LOOK_SECONDS)); then
            said=$SECONDS left=$(sql --command "select count(*) from pg_ls_archive_statusdir() where name like '%.ready'")
            say "the archive takes the log: $left files are still to come"
        fi
        sleep 0.5
    done
}

# Nobody else works on the data from here on: no server, and no other restore. The lock is on a file that no restore
# moves; docker-entrypoint.sh holds it for the server's life.
take_data() {
    exec {data_lock}> "$(dirname "$DATA")/.$(basename "$DATA").lock"
    flock --wait 60 "$data_lock" || fail "a server or another restore still works on the data: stop it first."
    # Between two renames of a restore that was killed the data is under the other name.
    rmdir "$DATA" 2> /dev/null || true
    [[ -e $DATA || ! -e $replaced ]] || mv -T "$replaced" "$DATA"
    mkdir -p "$DATA"
    # A server of an image from before that file locks this one.
    exec {lock}< "$DATA"
    flock --wait 60 "$lock" || fail "a server still runs on the data: stop it first."
}

# Finds what has the data of the moment $1 (seconds since 1970), and makes room for it.
make_room() {
    take_data
    # Killed before the last of its renames.
    [[ -e $original || ! -e $replaced ]] || mv -T "$replaced" "$original"
    rm -rf "$new"
    reach_storage
    find_moment "$1"
    check_room
    # A restore that is refused has deleted nothing.
    [[ ${FORGET_ORIGINAL-} != true ]] || rm -rf "$original"
    rm -rf "$replaced"
}
# Restores the base backup beside the data's place, to be brought to the time $1 then. Until $new is whole it goes with
# the script.
restore_base() {
    mkdir "$new"
    server=
    watch "$bytes" "$bytes" bytes_in "$new"
    trap 'kill -INT "$server" "${child:-$server}" 2> /dev/null || true; end_watch; wait || true; rm -rf "$new"' EXIT
    trap 'exit 143' INT TERM
    pgbackrest restore --pg1-path="$new" --set="$base" --type=time --target="$1" --target-timeline="$((16#$timeline))" \
        --target-action=promote > "$log" 2>&1 &
    child=$!
    wait "$child" || give_up "the data could not be restored"
    # How long the log takes depends on what was written, and not on the size.
    end_watch
}
# Brings what was restored to the time $1, on a timeline of its own.
read_log() {
    say "reading the log"
    if ! recover; then
        ended_with_the_archive || give_up "$1 could not be reached"
        say "the archive ends before that time: all that it has is restored"
        recover -c recovery_target_time= || give_up "the data could not be recovered"
    fi
    grep -E 'recovery stopping|last completed transaction' "$log" || true
    kill -INT "$server"
    wait "$server"
    timeline=$(timeline_of "$new")
    printf '# %s began %s\n' "$timeline" "$(date +%s)" >> "$new/pg_wal/$timeline.history"
    sync -f "$new"
}
# The data is restored beside its place, and then takes that of the data that is there, which stays: as $original where
# this is the first restore since that was deleted, else as $replaced, until the next one.
restore() {
    local wanted target log=$SCRATCH/restore.log
    wanted=$(date -u -d "$1" +%s)
    target=$(date -u -d "@$wanted" '+%Y-%m-%d %H:%M:%S+00')
    make_room "$wanted"
    say "restoring the data of $target, timeline $((16#$timeline)), from the base backup $base, $(megabytes "$bytes")"
    restore_base "$target"
    read_log "$target"
    trap - EXIT
    mv -T "$DATA" "$replaced"
    mv -T "$new" "$DATA"
    [[ -e $original ]] || mv -T "$replaced" "$original"
    sync -f "$DATA"
    say "restored the data of $target; what was there before the first restore is kept in $original"
}

give_up() {
    cat "$log" >&2
    fail "to_time: $1, and the data is as it was: $(last_words "$log") (the volume has $(free_megabytes) MB free)"
}

# Reads the log up to that time, and becomes a server of its own. What it writes from here on waits for the archive until
# it is in its place. Without hot_standby it answers only then, and asks for no settings as large as the other's.
recover() {
    postgres -D "$new" -c hot_standby=off -c listen_addresses= -c unix_socket_directories="$SOCKETS" -c port="$PGBACKREST_PG1_PORT" \
        -c archive_mode=on -c archive_command= "$@" > "$log" 2>&1 &
    server=$!
    until [[ $(sql --command 'select pg_is_in_recovery()' 2> /dev/null) = f ]]; do
        kill -0 "$server" 2> /dev/null || return 1
        sleep 0.3
    done
}
# Whether a recovery failed only because there is no more: nothing was written after the last file of its timeline. A
# file that is missing in its midst is another matter.
ended_with_the_archive() {
    local last
    last=$(grep -oE 'restored log file "[0-9A-F]{24}"' "$log" | tail -n 1 | grep -oE '[0-9A-F]{24}') || return 1
    grep -q 'recovery ended before configured recovery target was reached' "$log" &&
        [[ $last = $(grep -oE "/${timeline}[0-9A-F]{16}-" <<< "$files" | tr -d '/-' | sort | tail -n 1) ]]
}

list() {
    local archive from to
    reach_storage
    spans "$(timelines)" | while read -r archive from to; do
        printf '{"archive": {"server": "%s", "from": "%s", "to": "%s"}}\n' "${archive##*/}" "$(date -u -d "@$from" +%FT%TZ)" \
            "$(date -u -d "@$to" +%FT%TZ)"
    done
}

case $1 in
    push)
        DATA=$PWD
        find_storage
        own=$(own_archive)
        use_archive "$own"
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
    flush) flush "$2" ;;
    restore) restore "$2" ;;
    list) list ;;
    program) reach_storage ;;
esac
