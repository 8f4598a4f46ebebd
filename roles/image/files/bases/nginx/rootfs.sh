#!/bin/sh
# The root file system of the nginx image: rootfs.sh OUT.tar
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exec "$here/../debian.sh" "$1" trixie \
    --include=nginx \
    --customize-hook='rm -rf "$1/etc/nginx" "$1/var/www" "$1/usr/share/nginx"'
