#!/bin/sh
# Takes out of the root file system $1 what no running container needs, and what differs from build to build. The package $2
# stays all the same.
set -eu
root=$1
kept=${2:-}

# Package managers, the Perl they are written in, and what only served to install the rest. JIT compilation in
# PostgreSQL is an option that costs 150 MB (LLVM); without it the server plans as if `jit` were off.
# The host's dpkg removes them, for the one inside is among them; the list of installed packages stays, for scanners.
unwanted='adduser|apt|debconf|dpkg|init-system-helpers|libc-l10n|libdebconfclient0|libllvm[0-9.]+|libperl[0-9.]+|libz3-4|lib[a-z-]+-perl|locales
|openssl|openssl-provider-legacy|perl|perl-base|perl-modules-[0-9.]+|postgresql-client-common|postgresql-common|postgresql-common-dev
|procps|sensible-utils|ucf'
info=$root/var/lib/dpkg/info
packages=$(dpkg-query --admindir="$root/var/lib/dpkg" -W -f '${Package}\n' | grep -xE "$(echo "$unwanted" | tr -d '\n')" | grep -vx "$kept")
for package in $packages; do
    # Their removal scripts would call programs that are being removed.
    rm -f "$info/$package".prerm "$info/$package".postrm "$info/$package":*.prerm "$info/$package":*.postrm
done
# shellcheck disable=SC2086  # a list of package names
dpkg --root="$root" --purge --force-all $packages > /dev/null

# hostname and resolv.conf are this host's.
rm -rf "$root"/etc/apt "$root"/etc/dpkg "$root"/etc/hostname "$root"/etc/machine-id "$root"/etc/resolv.conf "$root"/etc/*- \
    "$root"/var/lib/apt "$root"/var/lib/dpkg/*-old "$info" "$root"/usr/lib/postgresql/*/lib/bitcode "$root"/usr/lib/postgresql/*/lib/llvmjit*
find "$root"/var/cache "$root"/var/log "$root"/tmp -mindepth 1 -delete

# Nothing here has a reason to become root.
find "$root" -xdev -type f -perm /6000 -exec chmod a-s {} +
