#!/bin/sh
# The root file system of the PostgreSQL image: rootfs.sh OUT.tar MAJOR
set -eu
here=$(cd "$(dirname "$0")" && pwd)
major=$2
case $major in
    15) release=bookworm ;;
    17) release=trixie ;;
    *) echo "rootfs.sh: no Debian release with PostgreSQL $major is known here" >&2; exit 1 ;;
esac
# It signs backups.
export KEPT=openssl
exec "$here/../debian.sh" "$1" "$release" \
    --include="age,ca-certificates,locales,netbase,openssl,pgbackrest,postgresql-$major,prometheus-postgres-exporter,rclone,tzdata" \
    --essential-hook="$here/before.sh \"\$1\"" \
    --customize-hook="$here/after.sh \"\$1\" $major"
