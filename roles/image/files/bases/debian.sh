#!/bin/sh
# Makes the root file system of a base image from Debian packages: for where no container registry answers.
#
#   debian.sh OUT.tar RELEASE [mmdebstrap options…]
#
# DEBIAN_MIRROR and DEBIAN_SECURITY_MIRROR name the mirrors; empty: those that this host's own apt uses.
# Needs root, mmdebstrap and apt. OUT.tar appears under its name only when it is complete.
set -eu
out=$1 release=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)

mirror_labelled() {
    apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' | sed -n "s/^$1 //p" | head -n 1
}
# Labels are known only where apt's lists are, and minimal systems delete those.
[ -n "${DEBIAN_MIRROR:-$(mirror_labelled Debian)}" ] || apt-get update -qq
mirror=${DEBIAN_MIRROR:-$(mirror_labelled Debian)}
# A given mirror without a security mirror means: there is none.
security=${DEBIAN_SECURITY_MIRROR:-${DEBIAN_MIRROR:+-}}
security=${security:-$(mirror_labelled Debian-Security)}
if [ -z "$mirror" ]; then
    echo "debian.sh: this host's apt knows no Debian mirror: set image_debian_mirror" >&2
    exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work" "$out.part"' EXIT
trap 'exit 130' INT TERM

{
    echo "deb $mirror $release main"
    echo "deb $mirror $release-updates main"
    [ -z "$security" ] || [ "$security" = - ] || echo "deb $security $release-security main"
} > "$work/sources.list"

# mmdebstrap reads none of the host's apt settings: its proxies, certificates and tolerances come along here.
# "IndexTargets" are apt's own tables, and lines with an empty value only open a group.
apt-config dump Acquire | sed -e '/^Acquire::IndexTargets/d' -e '/ "";$/d' > "$work/apt.conf"
echo 'Acquire::Retries "3";' >> "$work/apt.conf"

cat > "$work/dpkg.cfg" << 'CFG'
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-exclude=/usr/share/info/*
path-exclude=/usr/share/lintian/*
path-exclude=/usr/share/locale/*
path-include=/usr/share/locale/locale.alias
path-exclude=/usr/share/man/*
force-unsafe-io
CFG

mmdebstrap --mode=root --variant=essential --format=tar --skip=cleanup/apt,cleanup/mmdebstrap,cleanup/run \
    --aptopt="$work/apt.conf" --dpkgopt="$work/dpkg.cfg" \
    --setup-hook='[ ! -d /etc/apt/auth.conf.d ] || cp -R /etc/apt/auth.conf.d "$1/etc/apt/"' \
    --setup-hook='[ ! -e /etc/apt/auth.conf ] || cp /etc/apt/auth.conf "$1/etc/apt/"' \
    "$@" \
    --customize-hook="$here/strip.sh \"\$1\" ${KEPT-}" \
    "$release" "$out.part" "$work/sources.list"
mv "$out.part" "$out"
