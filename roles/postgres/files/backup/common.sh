# What the scripts of the backups share; each of them sources it. They run in the image of PostgreSQL, the official one
# too, so they use bash, coreutils and PostgreSQL's programs alone, and rclone where backups go to S3 as well.
#
#   PGHOST PGPORT …         where the server is, as libpq reads it
#   DATABASE                the database that is backed up
#   BACKUPS                 the backups' volume; a backup is a directory in it: database.dump, with .age after it where
#                           it is encrypted, and backup.json
#   LOGIN LOGIN_USER        directory with the files user and password; where there is no file user, its name
#   OWNER                   directory with the login of the database's owner, where that above is the superuser; else empty
#   EXTENSIONS              those that a superuser makes, with commas between them
#   SIGNING                 directory with the file key, by which backups are signed; where there is no file they are not
#   TRUSTED UNSIGNED        other sites' public keys, with commas between them; true: signatures are not looked at
#   RECIPIENTS              age's public keys that dumps are encrypted for, with commas between them; none: they are not
#   IDENTITY                directory with the file identity, age's private keys, one a line; it may have no file
#   KEEP KEEP_DAYS          how many backups stay, and for how many days (0: for ever)
#   KEEP_MINIMUM            how many stay whatever their age
#   SITE_ID                 the site's own id: another site's backups, on the same volume or in the same bucket, are not
#                           counted. Those from before sites had ids have none
#   RELEASE SCHEDULED       what runs now, and whether a schedule asks for backups; both are noted
#   S3_ENDPOINT S3_BUCKET S3_PREFIX S3_REGION S3_LOGIN    where backups are copied to; no endpoint: nowhere
#   S3_CA                   the certificate to trust there; empty: those of the image
#
# A backup's name is its time and its kind: 20260131T020000Z-manual, -scheduled or -before-restore.
# shellcheck shell=bash
set -euo pipefail
umask 077

DUMP=database.dump TOLD=backup.json SIGNATURE=backup.json.sig SCRATCH=${TMPDIR:-/tmp}
# A dump cannot wait for ever for a table that a migration has locked.
LOCK_SECONDS=120

say() { printf '%s\n' "$*"; }
# The last line that a failed Job wrote is what the playbook shows as its cause.
fail() {
    printf '%s\n' "$*" >&2
    printf '%s' "$*" 2> /dev/null > "$SCRATCH/cause" || true
    exit 1
}

# Runs a program so that a signal ends it at once: bash alone would wait for its end first.
run() {
    "$@" &
    child=$!
    wait "$child"
}
trap 'kill "${child:-}" 2> /dev/null || true; exit 143' INT TERM
# shellcheck source=pace.sh
. "$(dirname "${BASH_SOURCE[0]}")/pace.sh"

# The password goes by a file in memory: the environment of a process can be read, and crash reports print it.
login() {
    rm -f "$SCRATCH/cause"
    PGUSER=${LOGIN_USER:-$(< "$LOGIN/user")} PGPASSFILE=$SCRATCH/pgpass
    password_file "$LOGIN" > "$PGPASSFILE"
    export PGUSER PGPASSFILE PGOPTIONS=${PGOPTIONS-}
    # A role or database may have settings of its own.
    PGOPTIONS+=" -c default_transaction_read_only=off -c statement_timeout=0 -c lock_timeout=${LOCK_SECONDS}s"
    if [[ -n ${OWNER-} ]]; then
        password_file "$OWNER" > "$PGPASSFILE-owner"
        # What the owner calls as a function or operator of PostgreSQL is none for a superuser.
        owner_options="$PGOPTIONS -c role=none"
        PGOPTIONS+=" -c search_path=pg_catalog"
    fi
    # Where NetworkPolicies are enforced a new pod is let through some seconds after its start; and a server restarts.
    wait_for_server || fail "the database at $PGHOST, port ${PGPORT:-5432}, does not answer. playbooks/status.yml says more."
}
# Its fields end at a colon.
password_file() { printf '*:*:*:*:%s\n' "$(sed 's/[\\:]/\\&/g' "$1/password")"; }
# Runs a command, or a function, as the database's owner. All that a dump says, and all that reads what people made in a
# database, runs so: as a superuser it could do anything.
as_owner() {
    if [[ -n ${OWNER-} ]]; then
        PGUSER=$(< "$OWNER/user") PGPASSFILE=$PGPASSFILE-owner PGOPTIONS=$owner_options "$@"
    else
        "$@"
    fi
}
wait_for_server() {
    for _ in {1..30}; do
        ! pg_isready --quiet || return 0
        sleep 1
    done
    return 1
}

# Runs the SQL of standard input in the database $1, further arguments are psql's; prints bare values.
sql() {
    psql --no-psqlrc --no-password --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 \
        --set db="$DATABASE" --dbname "$1" "${@:2}"
}

# Of the server; asked in the database $1.
server_major() { sql "$1" <<< "select current_setting('server_version_num')::int / 10000"; }
program_major() { "$1" --version | grep -oE '[0-9]+' | head -n 1; }

# What a restore needs that a superuser has, and the owner of a database elsewhere may not: $1 is `restore` or `drill`.
check_rights() {
    local missing
    missing=$(sql postgres --set verb="$1" << 'SQL'
        select concat_ws(' ', case when not rolcreatedb then format('ALTER ROLE %I CREATEDB;', rolname) end,
            case when :'verb' = 'restore' and not pg_has_role('pg_signal_backend', 'usage')
                then format('GRANT pg_signal_backend TO %I;', rolname) end)
        from pg_roles where rolname = current_user and not rolsuper
SQL
    )
    [[ -z $missing ]] || fail "$PGUSER lacks rights for a $1 at $PGHOST: it makes a database beside the site's, and a restore" \
        "ends the site's sessions. As the administrator run there: $missing"
}

# A line for each table of the database $1: its name, |, and how many rows it has.
count_rows() {
    sql "$1" << 'SQL'
        select format('select %L, count(*) from %I.%I', table_schema || '.' || table_name, table_schema, table_name)
        from information_schema.tables
        where table_type = 'BASE TABLE' and table_schema not in ('pg_catalog', 'information_schema')
        order by 1 \gexec
SQL
}

# One script at a time works on the volume; the lock goes with the process, however that ends.
take_volume() {
    [[ -w $BACKUPS && -x $BACKUPS ]] || fail "postgres_backup_path: user $(id -u) may not write to the volume of the" \
        "backups, which belongs to $(stat -c '%u:%g, mode %a' "$BACKUPS"). On its node: chown $(id -u):$(id -g) on its directory."
    exec {lock}> "$BACKUPS/.lock" || fail "the volume of the backups takes no file ($(free_space))."
    if ! flock -n "$lock"; then
        say "another backup or restore is under way: waiting for its end"
        flock "$lock"
    fi
    # What a killed one left behind.
    rm -rf "$BACKUPS"/.*.part
}

free_space() { df -Pm "$BACKUPS" | awk 'NR == 2 {print $4 " MB of " $2 " MB free"}'; }

# The names of the site's backups on the volume, oldest first.
names() {
    local told
    for told in "$BACKUPS"/*/"$TOLD"; do
        [[ ! -e $told ]] || ! is_ours "$told" || basename "$(dirname "$told")"
    done
}
is_ours() { grep -qF "\"site_id\": \"${SITE_ID-}\"" "$1" || ! grep -q '"site_id": "[^"]' "$1"; }

# --- a copy elsewhere ---------------------------------------------------------------------------------------------

uses_s3() { [[ -n ${S3_ENDPOINT-} ]]; }

# rclone, set up by a file in memory: no password in a process list, nor in an environment.
s3() {
    local out
    command -v rclone > /dev/null || fail "postgres_backup_s3_endpoint: this image has no rclone. Name one that has in" \
        "postgres_backup_s3_image, such as docker.io/rclone/rclone:1.71."
    printf '%s\n' '[s3]' 'type = s3' 'provider = Other' "endpoint = $S3_ENDPOINT" "region = $S3_REGION" \
        "access_key_id = $(< "$S3_LOGIN/access-key")" "secret_access_key = $(< "$S3_LOGIN/secret-key")" > "$SCRATCH/rclone.conf"
    out=$(rclone --config "$SCRATCH/rclone.conf" --quiet --s3-no-check-bucket --retries 2 --low-level-retries 2 \
        --contimeout 10s --timeout 60s ${S3_CA:+--ca-cert="$S3_CA"} "$@" 2>&1) ||
        fail "postgres_backup_s3_endpoint: $S3_ENDPOINT, bucket $S3_BUCKET refused:" \
            "$(grep -v 'status code:' <<< "$out" | tail -n 1 | sed -E 's/^.*(ERROR|Failed to [a-z]+|last error was) ?: //' | cut -c -300)." \
            "Check its address, the bucket's name and the login in the vault."
    [[ -z $out ]] || printf '%s\n' "$out"
}
# Each site's backups are below its id; below none, those from before sites had ids.
anywhere() { printf 's3:%s' "$S3_BUCKET${S3_PREFIX:+/$S3_PREFIX}${1:+/$1}"; }
remote() { anywhere "${SITE_ID:+$SITE_ID${1:+/}}${1-}"; }

# The names of the site's backups in the bucket. One without its JSON is not complete.
remote_names() { names_below "$(remote)"; }
# Of those there that have no site's id.
remote_names_before() { [[ -z $SITE_ID ]] || names_below "$(anywhere)"; }
names_below() { s3 lsf --recursive --max-depth 2 --files-only --include "/*/$TOLD" "$1" | sed 's,/.*,,' | sort; }

# The names of the site's backups, oldest first, wherever they are.
all_names() {
    { names; ! uses_s3 || remote_names; } | sort -u
}

# --- signatures ---------------------------------------------------------------------------------------------------
#
# Ed25519 over backup.json, which has the checksum of the dump. The key is in no bucket: who writes there signs nothing.

has_key() { [[ -s ${SIGNING:-/nowhere}/key ]]; }
# The site's private key, DER: its 32 bytes are the checksum of the secret, before them what says that it is one.
private_key() {
    local bytes
    command -v openssl > /dev/null || fail "secrets_backup_signing_key: this image has no openssl, which signs backups. The" \
        "one that is built here has (image_source: debian), and the official one."
    bytes=302e020100300506032b657004220420$(sha256sum < "$SIGNING/key" | cut -d ' ' -f 1)
    # shellcheck disable=SC2059  # the bytes themselves, which are no text
    printf "$(sed 's/../\\x&/g' <<< "$bytes")"
}
# As postgres_backup_trusted_keys has it.
public_key() { private_key | openssl pkey -inform DER -pubout | sed '/-----/d'; }

sign() {
    has_key || { say "the backup is not signed: the vault has no vault_backup_signing_key" && return 0; }
    private_key | openssl pkey -inform DER -out "$SCRATCH/signing.pem"
    openssl pkeyutl -sign -rawin -inkey "$SCRATCH/signing.pem" -in "$1/$TOLD" -out "$1/$SIGNATURE"
    rm "$SCRATCH/signing.pem"
    say "signed it; the public key of this site is $(public_key)"
}

# Refuses a backup $1 whose backup.json nobody has signed who is trusted here, or that has another one's name.
check_signature() {
    local key name site
    [[ ${UNSIGNED-} != true ]] || return 0
    [[ -f $BACKUPS/$1/$SIGNATURE ]] || fail "backup: $1 is not signed. If you trust it, as one that was made before backups were" \
        "signed, say -e postgres_backup_unsigned=true."
    for key in $(! has_key || public_key) $(tr ',' ' ' <<< "${TRUSTED-}"); do
        printf '%s\n' '-----BEGIN PUBLIC KEY-----' "$key" '-----END PUBLIC KEY-----' > "$SCRATCH/public.pem"
        if openssl pkeyutl -verify -rawin -pubin -inkey "$SCRATCH/public.pem" -sigfile "$BACKUPS/$1/$SIGNATURE" \
            -in "$BACKUPS/$1/$TOLD" > /dev/null 2>&1; then
            name=$(told "$1" "told ->> 'name'") site=$(told "$1" "told ->> 'site_id'")
            [[ $1 = "$name" || $1 = "$site-$name" ]] || fail "backup: $1 is the backup $name under another name. Choose another one."
            return 0
        fi
    done
    fail "backup: the signature of $1 is neither this site's nor of one in postgres_backup_trusted_keys, or its $TOLD was altered." \
        "Choose another one."
}

# --- encryption ---------------------------------------------------------------------------------------------------
#
# By age, for public keys: who makes backups needs nothing that can read them. In the clear a dump is in no file.

# The dump of the backup in the directory $1.
dump_of() { if [[ -e $1/$DUMP.age ]]; then printf '%s' "$1/$DUMP.age"; else printf '%s' "$1/$DUMP"; fi; }
need_age() {
    command -v age > /dev/null || fail "postgres_backup_recipients: this image has no age, which encrypts backups. The one" \
        "that a deploy builds has (image_source: debian)."
}

# Its reader may have had enough before the end, which is a SIGPIPE.
decrypt() { age --decrypt --identity "$IDENTITY/identity" "$1" || (($? == 141)); }
# pg_restore of the dump $1, which may be a pipe, with the options that follow.
read_dump() {
    if [[ $1 = *.age ]]; then
        decrypt "$1" | pg_restore "${@:2}"
    elif [[ -p $1 ]]; then
        pg_restore "${@:2}" < "$1"
    else
        pg_restore "${@:2}" "$1"
    fi
}

# Refuses an encrypted backup $1 that no key here opens.
check_identity() {
    local dump recipients cause="is not set"
    dump=$(dump_of "$BACKUPS/$1")
    [[ $dump = *.age ]] || return 0
    need_age
    if [[ -s ${IDENTITY:-/nowhere}/identity ]]; then
        if decrypt "$dump" 2> "$SCRATCH/age.log" | head -c 1 > /dev/null; then return 0; fi
        cause="opens nothing of it ($(sed -n 's/^age: error: //p' "$SCRATCH/age.log" | head -n 1))"
    fi
    recipients=$(told "$1" "(select string_agg(value, ', ') from jsonb_array_elements_text(told -> 'recipients'))")
    fail "vault_backup_identity: $cause, and the backup $1 is encrypted for $recipients. Add the private key of one of these" \
        "to the vault, or say it with -e. The data is as it was."
}

# --- making one ---------------------------------------------------------------------------------------------------

# What pg_restore makes of a dump: every table's data is read to its end, nothing is restored. Once, for $1 may be a pipe.
check_dump() {
    local out
    [[ -p $1 || -s $1 ]] || fail "the dump is empty."
    out=$(LC_ALL=C read_dump "$1" --verbose --file=/dev/null 2>&1) || fail "the dump is damaged or cut off: $(tail -n 1 <<< "$out")"
    grep -q 'processing data for table' <<< "$out" || fail "the dump holds no table: the database $DATABASE is empty."
}

# Dumps the database into the file $1; further arguments are pg_dump's. What is encrypted is checked on its way: there may
# be no key here to read it.
make_dump() {
    local options=(--no-password --format=custom "${@:2}" --lock-wait-timeout="${LOCK_SECONDS}s" --dbname="$DATABASE") to code=0
    # A signal is for it, not for a shell around it.
    [[ $1 = *.age ]] || exec pg_dump "${options[@]}" --file="$1"
    IFS=, read -ra to <<< "$RECIPIENTS"
    rm -f "$SCRATCH/clear"
    mkfifo "$SCRATCH/clear"
    (check_dump "$SCRATCH/clear") 2> "$SCRATCH/check.log" &
    # The check's end is not the dump's: tee goes on.
    pg_dump "${options[@]}" | tee -p "$SCRATCH/clear" | age "${to[@]/#/--recipient=}" --output "$1" || code=1
    # Of a dump that failed the check says no more than that it was cut off.
    wait $! || ((code)) || { cat "$SCRATCH/check.log" >&2 && code=1; }
    return "$code"
}

# Some times as fast as gzip, and smaller: from PostgreSQL 16 on, where its programs were built with it. They say so before
# they connect.
knows_zstd() { [[ $(pg_dump --compress=zstd --format=custom --dbname=host=/nowhere 2>&1) != *compress* ]]; }
# How large a dump will be: as small beside its database as the last one was; before there is one, a quarter of it.
expected_size() {
    local last told='{}'
    last=$(names | tail -n 1)
    [[ -z $last ]] || told=$(< "$BACKUPS/$last/$TOLD")
    sql "$DATABASE" --set told="$told" << 'SQL'
        select (pg_database_size(current_database())
            * coalesce((told ->> 'size_bytes')::numeric / nullif((told ->> 'database_bytes')::numeric, 0), 0.25))::bigint
        from (select :'told'::jsonb as told) as it
SQL
}

# Dumps the database into the directory $1, which goes where that fails.
dump_database() {
    local dump=$1/$DUMP${RECIPIENTS:+.age} method=() bytes expected failed=""
    ! knows_zstd || method=(--compress=zstd)
    bytes=$(sql "$DATABASE" <<< 'select pg_database_size(current_database())') expected=$(expected_size)
    say "dumping the database $DATABASE, $(megabytes "$bytes")"
    watch "$bytes" "$expected" stat -c %s "$dump"
    # Its messages are few: they are needed for the cause.
    run make_dump "$dump" "${method[@]}" 2> "$SCRATCH/dump.log" || failed=yes
    end_watch
    if [[ -n $failed ]]; then
        cat "$SCRATCH/dump.log" >&2
        rm -rf "$1"
        if grep -qi 'no space left' "$SCRATCH/dump.log"; then
            fail "postgres_backup_size: the volume of the backups is full ($(free_space)); nothing is kept of this" \
                "backup. Make room: a smaller postgres_backup_keep, or a larger volume."
        fi
        fail "the dump failed: $(grep -v '^age: report' "$SCRATCH/dump.log" | tail -n 1)"
    fi
    [[ $dump = *.age ]] || (check_dump "$dump") || { rm -rf "$1" && exit 1; }
}
# Writes into the directory $2, beside the dump, what the backup $made of the kind $1 is; with it, what a dump of the
# database does not hold: its own rights and settings, and how it was made.
describe_backup() {
    local dump sha size migration="" system
    dump=$(dump_of "$2")
    sha=$(sha256sum "$dump" | cut -d ' ' -f 1)
    size=$(stat -c %s "$dump")
    # A database that is closed for an upgrade lets no owner in.
    if [[ $(as_owner sql "$DATABASE" 2> /dev/null <<< "select to_regclass('django_migrations') is not null") = t ]]; then
        migration=$(as_owner sql "$DATABASE" <<< "select app || '.' || name from django_migrations order by id desc limit 1")
    fi
    # Of another kind of server the owner may not ask.
    system=$(sql "$DATABASE" <<< 'select system_identifier from pg_control_system()' 2> /dev/null) || true
    sql "$DATABASE" --set name="$made" --set kind="$1" --set size="$size" --set sha="$sha" \
        --set recipients="${RECIPIENTS-}" --set release="${RELEASE-}" --set site="${SITE_ID-}" --set system="$system" --set migration="$migration" > "$2/$TOLD" << 'SQL' || fail "no room for $TOLD."
        select jsonb_build_object('name', :'name', 'kind', :'kind',
            'finished_at', to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
            'size_bytes', :size, 'sha256', :'sha', 'recipients', string_to_array(:'recipients', ','), 'database', datname,
            'site_id', :'site', 'system_identifier', :'system',
            'server_version', current_setting('server_version'), 'release', :'release', 'migration', :'migration',
            'owner', pg_get_userbyid(datdba), 'encoding', pg_encoding_to_char(encoding),
            'collate', datcollate, 'ctype', datctype, 'database_bytes', pg_database_size(oid),
            'connection_limit', datconnlimit,
            'locale_provider', to_jsonb(pg_database) -> 'datlocprovider', 'icu_rules', to_jsonb(pg_database) -> 'daticurules',
            'locale', coalesce(to_jsonb(pg_database) -> 'datlocale', to_jsonb(pg_database) -> 'daticulocale'),
            'rights', (select coalesce(jsonb_agg(jsonb_build_object('role', case grantee when 0 then 'public'
                    else quote_ident(pg_get_userbyid(grantee)) end, 'right', privilege_type, 'grantable', is_grantable)), '[]')
                from aclexplode(coalesce(datacl, acldefault('d', datdba)))),
            'settings', (select coalesce(jsonb_agg(jsonb_build_object('role', pg_get_userbyid(nullif(setrole, 0)),
                    'name', split_part(setting, '=', 1), 'value', substr(setting, strpos(setting, '=') + 1))), '[]')
                from pg_db_role_setting, unnest(setconfig) as setting where setdatabase = pg_database.oid))
        from pg_database where datname = current_database()
SQL
    [[ -s $2/$TOLD ]] || fail "the volume of the backups is full ($(free_space)); nothing is kept of this backup."
}

# Makes a backup of the kind $1, as the role that is logged in; its name is then in $made.
make_backup() {
    local began=$SECONDS part programs server dump
    [[ -z ${RECIPIENTS-} ]] || need_age
    programs=$(program_major pg_dump) server=$(server_major "$DATABASE")
    ((programs >= server)) || fail "image_postgres_major: the programs that make a backup are PostgreSQL $programs's, and the" \
        "server at $PGHOST is $server: set it to $server."
    made=$(date -u +%Y%m%dT%H%M%SZ)-$1
    part=$BACKUPS/.$made.part
    mkdir "$part" 2> /dev/null || fail "the volume of the backups takes no file ($(free_space))."
    dump_database "$part"
    describe_backup "$1" "$part"
    sign "$part"
    dump=$(dump_of "$part")
    sync -f "$dump" "$part/$TOLD"
    mv "$part" "$BACKUPS/$made"
    sync -f "$BACKUPS"
    say "made the backup $made: $(($(stat -c %s "$BACKUPS/$made/${dump##*/}") / 1000)) kB in $((SECONDS - began)) s"
}

# Copies the backup $1 to the bucket; its JSON comes last, and says that all is there.
copy_to_s3() {
    local dump
    dump=$(dump_of "$BACKUPS/$1")
    # Asked for a list, S3 says what it has against a login or a bucket; refusing an object, often no more than a number.
    s3 lsf --max-depth 1 "s3:$S3_BUCKET" > /dev/null
    s3 copyto "$dump" "$(remote "$1/${dump##*/}")"
    [[ ! -e $BACKUPS/$1/$SIGNATURE ]] || s3 copyto "$BACKUPS/$1/$SIGNATURE" "$(remote "$1/$SIGNATURE")"
    s3 copyto "$BACKUPS/$1/$TOLD" "$(remote "$1/$TOLD")"
    say "copied it to $S3_ENDPOINT, bucket $S3_BUCKET"
}

# Of the backups on standard input, a line each with its name and its size in bytes, the names of those that retention
# leaves out: all but the newest $KEEP, and of these the ones older than $KEEP_DAYS days. Age alone leaves $KEEP_MINIMUM.
# As many stay as well of those more than twice as large as all that stay: perhaps the database lost what they have.
# Backups from before a restore are counted by themselves, so that they push out no other.
superfluous() {
    local oldest=0
    ((KEEP_DAYS == 0)) || oldest=$(date -u -d "@$(($(date +%s) - KEEP_DAYS * 86400))" +%Y%m%dT%H%M%SZ)
    sort -r | awk -v keep="$KEEP" -v minimum="$KEEP_MINIMUM" -v oldest="$oldest" '
        BEGIN {minimum = minimum < keep ? minimum : keep}
        {
            kind = $1 ~ /-before-restore$/
            counted[kind]++
            if (counted[kind] <= minimum || counted[kind] <= keep && $1 > oldest) {
                largest[kind] = $2 > largest[kind] ? $2 : largest[kind]
            } else if ($2 <= 2 * largest[kind] || ++large[kind] > minimum) print $1
        }'
}

# To be run only after a backup that is good: so the newest, which stays, is one.
delete_superfluous() {
    local name old
    old=$(for name in $(names); do printf '%s %s\n' "$name" "$(stat -c %s "$(dump_of "$BACKUPS/$name")" || echo 0)"; done | superfluous)
    for name in $old; do
        # Under another name first: what is half-deleted is no backup.
        mv "$BACKUPS/$name" "$BACKUPS/.$name.part" && rm -rf "$BACKUPS/.$name.part"
        say "deleted the backup $name"
    done
}
delete_superfluous_in_s3() {
    local name old files
    files=$(s3 lsf --recursive --max-depth 2 --files-only --format sp --separator ' ' --include "/*/$TOLD" \
        --include "/*/$DUMP" --include "/*/$DUMP.age" "$(remote)")
    old=$(awk -F '[ /]' -v told="$TOLD" '$3 == told {complete[$2]} $3 != told {size[$2] = $1}
        END {for (name in complete) print name, size[name] + 0}' <<< "$files" | superfluous)
    for name in $old; do
        s3 deletefile "$(remote "$name/$TOLD")"
        s3 delete "$(remote "$name")"
        say "deleted the backup $name from the bucket"
    done
}

# Notes $2, JSON, as the last $1 (backup or drill) where the site and playbooks/status.yml read it: in the comment on
# the database. Every role may read it, it needs no table, and it stays out of dumps. A comment of somebody else is left.
note() {
    as_owner sql "$DATABASE" --set what="$1" --set told="$2" << 'SQL'
        with comment as (select shobj_description(oid, 'pg_database') as text from pg_database where datname = :'db')
        select format('comment on database %I is %L', :'db', jsonb_build_object('kubernetes_django',
            case when text is null then '{}' else (text::jsonb -> 'kubernetes_django') - ('failed_' || :'what') end
            || jsonb_build_object(:'what', :'told'::jsonb)))
        from comment where text is null or text like '{"kubernetes_django": %'
        \gexec
SQL
}

# Notes that a backup or drill ($1) failed, until the next one succeeds.
note_failure() {
    local cause="see the log of its Job"
    [[ ! -s $SCRATCH/cause ]] || cause=$(head -c 1000 "$SCRATCH/cause")
    note "failed_$1" "$(as_owner sql "$DATABASE" --set cause="$cause" << 'SQL'
        select jsonb_build_object('finished_at', to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
            'cause', left(:'cause', 300))
SQL
    )"
}

note_backup() {
    local volume
    volume=$(df -Pk "$BACKUPS" | awk 'NR == 2 {printf "{\"size_bytes\": %.0f, \"used_bytes\": %.0f}", $2 * 1024, $3 * 1024}')
    note backup "$(as_owner sql "$DATABASE" --set told="$(< "$BACKUPS/$1/$TOLD")" --set volume="$volume" \
        --set scheduled="${SCHEDULED:-false}" << 'SQL'
        select jsonb_build_object('name', told -> 'name', 'finished_at', told -> 'finished_at',
            'size_bytes', told -> 'size_bytes', 'scheduled', :'scheduled'::boolean, 'volume', :'volume'::jsonb)
        from (select :'told'::jsonb as told) as it
SQL
    )"
}

# --- reading one --------------------------------------------------------------------------------------------------

# Finds the backup $1 (a name, or `latest`; with SITE_ID/ before it, another site's) and fetches it from the bucket where the
# volume does not have it. The name of its directory there is in $found.
find_backup() {
    local all before="" name=${1##*/}
    # Whosever it is.
    found=${1/\//-}
    [[ $name = latest || ! -e $BACKUPS/$found/$TOLD ]] || return 0
    [[ $1 != */* ]] || local SITE_ID=${1%/*}
    all=$(all_names)
    ! uses_s3 || before=$(remote_names_before)
    [[ -n $all$before ]] || fail "backup: there is no backup yet; playbooks/backup.yml makes one."
    if [[ $name = latest ]]; then
        [[ -n $all ]] || fail "backup: there is no backup with the id of this site, $SITE_ID. These have no site's id, and" \
            "may be another site's. Name one: $(tail -n 20 <<< "$before" | paste -s -d ' ')"
        name=$(grep -v -- -before-restore <<< "$all" | tail -n 1) || fail "backup: there is no backup but those from" \
            "before a restore. Name one: $(tail -n 20 <<< "$all" | paste -s -d ' ')"
    fi
    all=$(printf '%s\n' "$all" "$before" | sed '/^$/d' | sort -u)
    found=${1%"${1##*/}"}$name found=${found/\//-}
    [[ ! -e $BACKUPS/$found/$TOLD ]] || return 0
    grep -qxF -- "$name" <<< "$all" || fail "backup: there is no backup $1. There are: $(tail -n 20 <<< "$all" | paste -s -d ' ')"
    fetch_backup "$name" "$found"
}

# Fetches the backup $1 from the bucket, as the directory $2 of the volume.
fetch_backup() {
    local place
    say "fetching the backup $1 from $S3_ENDPOINT"
    mkdir "$BACKUPS/.$2.part"
    place=$(remote "$1")
    grep -qxF -- "$1" <<< "$(remote_names)" || place=$(anywhere "$1")
    s3 copy --include "/$DUMP" --include "/$DUMP.age" --include "/$TOLD" --include "/$SIGNATURE" "$place" "$BACKUPS/.$2.part"
    mv "$BACKUPS/.$2.part" "$BACKUPS/$2"
}

# Evaluates an SQL expression over `told`, the JSON of the backup $1.
told() {
    sql postgres --set told="$(< "$BACKUPS/$1/$TOLD")" <<< "select $2 from (select :'told'::jsonb as told) as it"
}

# Refuses a backup that is not what it was when it was made, or that this server is too old for.
verify_backup() {
    local dump sha now major server
    check_signature "$1"
    dump=$(dump_of "$BACKUPS/$1")
    [[ -f $dump ]] || fail "backup: $1 has lost its $DUMP. Choose another one."
    sha=$(told "$1" "told ->> 'sha256'")
    now=$(sha256sum < "$dump" | cut -d ' ' -f 1)
    [[ $now = "$sha" ]] || fail "backup: $1 is not what it was: its checksum is ${now:0:12}…, and was ${sha:0:12}… when" \
        "it was made. Choose another one."
    major=$(told "$1" "split_part(told ->> 'server_version', '.', 1)")
    server=$(server_major postgres)
    ((major <= server)) || fail "backup: $1 was made by PostgreSQL $major, and the server is PostgreSQL $server: a newer" \
        "one's backup cannot be restored into an older one. Upgrade the server first (playbooks/upgrade_postgres.yml)."
    check_identity "$1"
    (check_dump "$dump")
}

# Refuses a backup $1 that the server's volume has no room for: for what it restores, and for the log of that. Only a
# superuser can ask a server; of one elsewhere nobody knows.
check_room() {
    local needed free kept stalled
    IFS='|' read -r needed free kept stalled < <(sql postgres --set bytes="$(database_bytes "$1")" << 'SQL'
        select rolsuper from pg_roles where rolname = current_user \gset
        \if :rolsuper
            create temporary table room (megabytes bigint);
            copy room from program $$df -Pm . | awk 'NR == 2 {print $4}'$$;
            -- What an archive does not take stays, however much it is: the log is as large as the data then.
            select current_setting('archive_mode') <> 'off'
                and coalesce(last_failed_time > last_archived_time, last_failed_time is not null) as stalled
            from pg_stat_archiver \gset
            select (:bytes + case when :'stalled' then :bytes else least(:bytes, pg_size_bytes(current_setting('max_wal_size'))) end)
                    / 1000000 + 32, megabytes,
                (select string_agg(datname, ', ') from pg_database
                    where datname like left(:'db', 50) || '\_replaced' or datname like left(:'db', 40) || '\_kept\_%'),
                case when :'stalled' then 'yes' end
            from room;
        \endif
SQL
    ) || return 0
    ((free > needed)) || fail "storage_size: the restored database needs $needed MB beside what is there, and the server's" \
        "volume has $free MB free.${stalled:+ The archive does not take the log, which stays there: playbooks/status.yml says" \
        "more.} Make it larger${kept:+, or drop what restores have kept: $kept}."
}

# Makes the database $2 of the backup $1; without the rights on the database itself. The login makes the database and
# $EXTENSIONS, the owner all that the dump says.
load_backup() {
    local dump bytes failed=""
    sql postgres --set target="$2" --set owner="$(owner)" --set told="$(< "$BACKUPS/$1/$TOLD")" << 'SQL'
        select format('create database %I owner %I template template0 encoding %L lc_collate %L lc_ctype %L', :'target',
            :'owner', told ->> 'encoding', told ->> 'collate', told ->> 'ctype')
            || case told ->> 'locale_provider' when 'i' then format(' locale_provider icu icu_locale %L', told ->> 'locale')
                when 'b' then format(' locale_provider builtin builtin_locale %L', told ->> 'locale') else '' end
            || case when told ->> 'icu_rules' <> '' then format(' icu_rules %L', told ->> 'icu_rules') else '' end
        from (select :'told'::jsonb as told) as it
        \gexec
        select format('revoke all on database %I from public', :'target')
        \gexec
SQL
    dump=$(dump_of "$BACKUPS/$1")
    read_dump "$dump" --list > "$SCRATCH/list"
    make_extensions "$dump" "$2" "the backup $1"
    [[ ! -s $SCRATCH/others ]] || say "left out, for they are not the owner's: $(cut -d ' ' -f 4- "$SCRATCH/others" | paste -s -d ',')"
    # In tables of an extension, rows of people: the owner loads them, and has no other right on them.
    extension_tables "$2" grant to
    bytes=$(database_bytes "$1")
    watch "$bytes" "$bytes" size_of "$2"
    run as_owner load_dump "$dump" "$2" 2> "$SCRATCH/restore.log" || failed=yes
    end_watch
    if [[ -n $failed ]]; then
        cat "$SCRATCH/restore.log" >&2
        fail "the backup $1 could not be restored, and the data is as it was:" \
            "$(grep -E -m 1 'error:|ERROR:' "$SCRATCH/restore.log" || tail -n 1 "$SCRATCH/restore.log")"
    fi
    extension_tables "$2" revoke from
}
# How large the database of the backup $1 was. One from before that was noted is taken for five times its dump.
database_bytes() { told "$1" "coalesce((told ->> 'database_bytes')::bigint, (told ->> 'size_bytes')::bigint * 5)"; }

owner() { if [[ -n ${OWNER-} ]]; then cat "$OWNER/user"; else printf '%s' "$PGUSER"; fi; }
extension_tables() {
    [[ -n ${OWNER-} ]] || return 0
    sql "$1" --set verb="$2" --set direction="$3" --set owner="$(owner)" << 'SQL'
        select format('%s select, insert on %s %s %I', :'verb', config::regclass, :'direction', :'owner')
        from pg_extension, unnest(extconfig) as config \gexec
SQL
}

# Those that the database has were made by somebody who may.
add_extensions_that_are_there() {
    EXTENSIONS+=,$(sql "$DATABASE" <<< "select string_agg(extname, ',') from pg_extension")
}

# Makes in the database $2 the $EXTENSIONS that the dump $1, of $3, has, and takes them out of the dump's list. The owner
# makes the others, which PostgreSQL must trust.
make_extensions() {
    local name schema made="" schemas="" missing=""
    for name in $(awk '$4 == "EXTENSION" && $5 == "-" {print $6}' "$SCRATCH/list"); do
        if [[ -z ${OWNER-} ]]; then
            continue
        elif [[ ,${EXTENSIONS-}, = *",$name,"* ]]; then
            awk -v name="$name" '$4 == "EXTENSION" && $6 == name' "$SCRATCH/list" > "$SCRATCH/extension"
            schema=$(read_dump "$1" --use-list="$SCRATCH/extension" --file=- |
                sed -nE 's/^CREATE EXTENSION IF NOT EXISTS .* WITH SCHEMA (.*);$/\1/p')
            schema=$(sql "$2" --set name="$name" --set schema="${schema:-public}" --set owner="$(owner)" << 'SQL'
                select (parse_ident(:'schema'))[1] as schema \gset
                select format('create schema %I authorization %I', :'schema', :'owner') where to_regnamespace(quote_ident(:'schema')) is null \gexec
                select format('create extension if not exists %I schema %I', :'name', :'schema') \gexec
                select :'schema';
SQL
            )
            made+=" $name" schemas+=" $schema"
        elif [[ $(sql "$2" --set name="$name" <<< "select count(*) from pg_available_extension_versions where name = :'name' and trusted") = 0 ]]; then
            missing+=" $name"
        fi
    done
    [[ -z $missing ]] || fail "postgres_extensions: $3 needs$missing, which only a superuser may make. If that is what" \
        "you want, add it there. The data is as it was."
    awk -v made=" $made " -v schemas=" $schemas " '
        !($4 == "EXTENSION" && index(made, " " $6 " ") || $4 == "COMMENT" && $6 == "EXTENSION" && index(made, " " $7 " ") ||
          $4 == "SCHEMA" && index(schemas, " " $6 " "))' "$SCRATCH/list" | leave_out_others "$(owner)" > "$SCRATCH/wanted"
}
# Nobody but a superuser sets the default privileges of another role than $1; those lines of the list are in $SCRATCH/others.
leave_out_others() {
    true > "$SCRATCH/others"
    OWNER_NAME=$1 OTHERS=$SCRATCH/others awk '
        $4 == "DEFAULT" && $5 == "ACL" && substr($0, length($0) - length(ENVIRON["OWNER_NAME"])) != " " ENVIRON["OWNER_NAME"] {
            print > ENVIRON["OTHERS"]
            next
        }
        {print}'
}

# Loads the dump $1 into the database $2, as whoever is logged in, to whom all of it belongs then.
load_dump() {
    local options=(--exit-on-error --no-owner --use-list="$SCRATCH/wanted") jobs=(--jobs="$JOBS")
    # Of a stream there is no second reader.
    [[ $1 != *.age ]] || jobs=()
    if (($(program_major pg_restore) <= $(server_major "$2"))); then
        read_dump "$1" --no-password "${jobs[@]}" "${options[@]}" --dbname="$2"
    else
        # Such as a server elsewhere. From 17 on the program begins with a setting that older servers do not know; only
        # its first line of that kind is left out, for rows may read like it.
        read_dump "$1" "${options[@]}" --file=- | sed '0,/^SET transaction_timeout = 0;$/{//d}' |
            sql "$2" --output=/dev/null
    fi
}
