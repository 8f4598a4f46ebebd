#!/bin/sh
# Runs on the root file system $1 when PostgreSQL $2 is installed.
set -eu
sample=$1/usr/share/postgresql/$2/postgresql.conf.sample
# Like the official image: a server that listens on localhost alone is of no use in a pod.
sed -i "s/^#listen_addresses = 'localhost'/listen_addresses = '*'/" "$sample"
grep -q "^listen_addresses = '\*'" "$sample"
# The locale that data directories of the official image were made with.
chroot "$1" localedef -i en_US -c -f UTF-8 -A /usr/share/locale/locale.alias en_US.UTF-8
rm -rf "$1/etc/postgresql" "$1/etc/postgresql-common"
# It made a key pair for this one machine, and takes it away again. Its group stays behind.
chroot "$1" dpkg --purge --force-depends ssl-cert
sed -i '/^ssl-cert:/d' "$1/etc/group" "$1/etc/gshadow"
mkdir -p "$1/docker-entrypoint-initdb.d" "$1/var/lib/postgresql/data" "$1/run/postgresql"
chroot "$1" chown 999:999 /var/lib/postgresql /var/lib/postgresql/data /run/postgresql
chmod 700 "$1/var/lib/postgresql/data"
