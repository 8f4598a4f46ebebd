#!/bin/bash
# Starts PostgreSQL, and makes the database first where PGDATA is empty. It honours the official image's variables
# (POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB, POSTGRES_INITDB_ARGS, each also as …_FILE; POSTGRES_HOST_AUTH_METHOD;
# PGDATA) and /docker-entrypoint-initdb.d. It differs in this: a database is made beside its place, and moved there when
# all is done. So whatever ends the making, the next start never takes a half-made database for a good one.
set -Eeuo pipefail

say() { printf 'entrypoint: %s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}

# Sets the variable $1 from the file that ${1}_FILE names, or else to its own value, or else to $2. It is exported, but for
# a password from a file: the environment of every program here would show it.
setting() {
    local name=$1 file_name=${1}_FILE
    local value=${!name-$2} file=${!file_name-}
    if [[ -n $file ]]; then
        [[ -z ${!name-} ]] || fail "$name and $file_name are both set: leave one out"
        [[ -r $file ]] || fail "$file_name: $file cannot be read by uid $(id -u)"
        value=$(< "$file")
    fi
    unset "$name"
    printf -v "$name" %s "$value"
    [[ -n $file && $name == POSTGRES_PASSWORD ]] || export "${name?}"
    unset "$file_name"
}

# PGDATA, and each directory above it, as the person who has to mend it would look at them.
show_path() {
    local path=$1
    while [[ $path != / ]]; do
        stat -c '  %A %u:%g %n' "$path" >&2 2> /dev/null || true
        path=$(dirname "$path")
    done
}

# The names in PGDATA, less what is not data.
entries() { find "$PGDATA" -mindepth 1 -maxdepth 1 ! -name lost+found; }

run_sql() { psql --no-psqlrc --no-password --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" "$@"; }

run_init_scripts() {
    local file
    for file in /docker-entrypoint-initdb.d/*; do
        case $file in
            *.sh)
                say "running $file"
                # shellcheck source=/dev/null  # the user's own
                if [[ -x $file ]]; then "$file"; else . "$file"; fi
                ;;
            *.sql)
                say "running $file"
                run_sql --dbname "$POSTGRES_DB" --file "$file"
                ;;
            *.sql.gz)
                say "running $file"
                gzip -dc "$file" | run_sql --dbname "$POSTGRES_DB"
                ;;
            *) [[ ! -e $file ]] || say "ignoring $file: neither *.sh nor *.sql nor *.sql.gz" ;;
        esac
    done
}

# Makes the database in $1, a directory that does not exist. Further arguments go to the server.
make_database() {
    local place=$1 args=() server
    shift
    say "making the database in $PGDATA"
    # xargs takes quotes as a shell would, and executes nothing.
    mapfile -t args < <(xargs -r -n1 printf '%s\n' <<< "$POSTGRES_INITDB_ARGS")
    [[ -z $POSTGRES_PASSWORD ]] || args+=("--pwfile=/dev/fd/3")
    initdb --no-instructions --pgdata="$place" --username="$POSTGRES_USER" "${args[@]}" 3<<< "$POSTGRES_PASSWORD"
    printf '\nhost all all all %s\n' "$POSTGRES_HOST_AUTH_METHOD" >> "$place/pg_hba.conf"

    # A server that only this container reaches. Whoever can open its socket is trusted, so that scripts get in as any
    # role, whatever the authentication will be.
    echo 'local all all trust' > "$place/init_hba.conf"
    export PGDATA=$place PGPORT=5432
    unset PGHOST PGHOSTADDR PGUSER PGPASSWORD PGDATABASE
    postgres "$@" -c hba_file="$place/init_hba.conf" -c listen_addresses= -c port="$PGPORT" \
        -c unix_socket_directories=/var/run/postgresql &
    server=$!
    until run_sql --dbname postgres --command 'select 1' > /dev/null 2>&1; do
        kill -0 "$server" 2> /dev/null || fail "the server did not start, see its messages above"
        sleep 0.1
    done

    if [[ $(run_sql --dbname postgres --tuples-only --no-align --set db="$POSTGRES_DB" \
        <<< "select count(*) from pg_database where datname = :'db'") == 0 ]]; then
        run_sql --dbname postgres --set db="$POSTGRES_DB" <<< 'create database :"db"'
    fi
    run_init_scripts

    kill -INT "$server"
    wait "$server"
    rm "$place/init_hba.conf"
    sync --file-system "$place"
}

# Moves a finished database from $1 up into PGDATA. PG_VERSION comes last: its presence says that all is there.
move_into_place() {
    local entry
    while read -r entry; do
        mv -T "$entry" "$PGDATA/${entry##*/}"
    done < <(find "$1" -mindepth 1 -maxdepth 1 ! -name PG_VERSION -print)
    [[ ! -e $1/PG_VERSION ]] || mv -T "$1/PG_VERSION" "$PGDATA/PG_VERSION"
    rmdir "$1"
    sync --file-system "$PGDATA"
}

free_kilobytes() { df --output=avail --block-size=1K "$PGDATA" | tail -n 1; }

# Puts 64 MB of a volume with much room aside, for the start of a server that has filled it: with them it recovers, and
# what filled it can be deleted.
keep_reserve() {
    [[ -e $reserve ]] || (($(free_kilobytes) < 256 * 1024)) || fallocate --length 64M "$reserve" 2> /dev/null || rm -f "$reserve"
}

# After a crash a server without room for the next segment of its log stops at each start, and its container is started
# again after a longer and longer time. One that waits is there as soon as there is room.
wait_for_room() {
    local needed=$((32 * 1024)) free said=
    [[ $(LC_ALL=C pg_controldata "$PGDATA") != *'cluster state: '*' shut down'* ]] || return 0
    trap 'exit 143' INT TERM
    while free=$(free_kilobytes) && ((free < needed)); do
        if [[ -e $reserve ]]; then
            say "giving up the reserve, 64 MB, so that the server can recover: delete something, or make the volume larger"
            rm -f "$reserve"
            continue
        fi
        [[ $said ]] || say "No space left on device: $PGDATA has $((free / 1024)) MB free, the server recovers when there" \
            "are $((needed / 1024)). Free space on its volume, or make it larger"
        said=true
        sleep 1
    done
    trap - INT TERM
}

# Waits until nobody else holds the lock of the open file $1. It stays open, and so locked, to the server's end.
lock() {
    flock --nonblock "$1" && return
    say "another server or a restore still uses $PGDATA, waiting up to 60 s for its end"
    flock --wait 60 "$1" || fail "another server or a restore uses $PGDATA: stop it first"
}

# Two servers on one volume would destroy the data, and PostgreSQL itself cannot see into another pod. A restore moves
# PGDATA, so the lock is on a file beside it. Where nobody may write there, nobody moves PGDATA, and its own lock is enough;
# a full volume, which takes no new file, is no such place.
take_volume() {
    local volume file
    file=$(dirname "$PGDATA")/.$(basename "$PGDATA").lock
    mkdir -p "$(dirname "$file")" 2> /dev/null || true
    if ! { exec {volume}>> "$file"; } 2> /dev/null; then
        [[ -w $(dirname "$file") ]] || return 0
        df "$(dirname "$file")" >&2
        df --inodes "$(dirname "$file")" >&2
        fail "$file cannot be written, and without that lock another server could use the data too. Where its volume is" \
            "full, free space on it, or make it larger"
    fi
    lock "$volume"
    [[ -d $PGDATA.restoring ]] || return 0
    # A restore that was ended before it had moved the new data into its place has not happened.
    if [[ -d $PGDATA.replaced ]] && { [[ ! -e $PGDATA ]] || rmdir "$PGDATA" 2> /dev/null; }; then
        say "putting $PGDATA.replaced back: a restore was ended between its renames"
        mv -T "$PGDATA.replaced" "$PGDATA"
    fi
    say "removing the remains of a restore that did not finish"
    rm -rf "$PGDATA.restoring"
}

# PGDATA is a directory of this user's, and nobody else works on it from here on.
take_data() {
    local data
    mkdir -p "$PGDATA" 2> /dev/null || true
    if [[ ! -d $PGDATA || ! -O $PGDATA || ! -w $PGDATA ]]; then
        show_path "$PGDATA"
        fail "PGDATA=$PGDATA must be a directory of uid $(id -u), or its parent writable for it. Where a volume" \
            "belongs to another user, let PGDATA name a directory below the mount point"
    fi
    chmod 700 "$PGDATA"
    exec {data}< "$PGDATA"
    lock "$data"
}

# A database is made where there was none, and with a password.
check_making() {
    if [[ -n $(entries) ]]; then
        entries | head -n 20 >&2
        fail "$PGDATA is neither empty nor PostgreSQL's: it is left alone"
    fi
    # Somebody took the data away, and not what restores have kept beside it: that is no new site.
    [[ ! -e $PGDATA.original && ! -e $PGDATA.replaced ]] || fail "$PGDATA is empty, and $PGDATA.original or .replaced has" \
        "the data of before a restore: move it to $PGDATA, or away"
    [[ $POSTGRES_PASSWORD != *$'\n'* ]] || fail "POSTGRES_PASSWORD has more than one line"
    if [[ -z $POSTGRES_PASSWORD && $POSTGRES_HOST_AUTH_METHOD != trust ]]; then
        fail "set POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE: a database without a password is made only with" \
            "POSTGRES_HOST_AUTH_METHOD=trust"
    fi
}

# Finds the database in PGDATA, or makes it. The arguments go to the server that makes it.
prepare_data() {
    local making=$PGDATA/.making finished=$PGDATA/.finished reserve version init
    reserve=$(dirname "$PGDATA")/.$(basename "$PGDATA").reserve
    (($(id -u) != 0)) || fail "PostgreSQL refuses to run as root: run this image as uid 999"
    take_volume
    take_data
    if [[ -d $finished ]]; then
        move_into_place "$finished"
    fi
    if [[ -d $making ]]; then
        say "removing the remains of a making that did not finish"
        rm -rf "$making"
    fi
    if [[ -s $PGDATA/PG_VERSION ]]; then
        version=$(< "$PGDATA/PG_VERSION")
        [[ $version == "$PG_MAJOR" ]] || fail "$PGDATA holds data of PostgreSQL $version, this image is $PG_MAJOR"
        wait_for_room
        keep_reserve
        return
    fi
    check_making
    # In the background, so that a signal ends it at once: what is half-made is thrown away by the next start.
    make_database "$making" "$@" &
    init=$!
    trap 'say "stopped while making the database; the next start begins anew"; exit 143' INT TERM
    wait "$init" || fail "making the database failed; nothing of it is kept, the next start begins anew"
    trap - INT TERM
    mv -T "$making" "$finished"
    move_into_place "$finished"
    say "the database is made"
}

if [[ ${1-} == -* || $# == 0 ]]; then
    set -- postgres "$@"
fi
if [[ $1 == postgres && ! " $* " =~ ' '(-\?|--help|-V|--version|--describe-config|-C)' ' ]]; then
    umask 077
    setting POSTGRES_USER postgres
    setting POSTGRES_DB "$POSTGRES_USER"
    setting POSTGRES_PASSWORD ''
    setting POSTGRES_INITDB_ARGS ''
    export POSTGRES_HOST_AUTH_METHOD=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
    prepare_data "${@:2}"
    # The server has no use for it, and its environment can be read.
    unset POSTGRES_PASSWORD
fi
exec "$@"
