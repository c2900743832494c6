#!/bin/sh
# A root file system of ordinary software (Python, Node, git, a JVM, curl) for the tests of cages, made of this host's
# own Debian packages: no network, a few seconds, and only when a package has changed. Prints where it is.
#
# CLAWSTAFF_TEST_ROOT names another place. The packages must be installed: scripts/setup.sh does that.
set -eu

root=${CLAWSTAFF_TEST_ROOT:-/var/cache/clawstaff-test/root}
wanted="dash bash coreutils sed grep python3 nodejs git openjdk-17-jre-headless curl"

# shellcheck disable=SC2086 # a list of words
closure=$(apt-cache depends --recurse --installed --no-recommends --no-suggests --no-conflicts --no-breaks \
    --no-replaces --no-enhances $wanted | grep '^[a-z0-9]' | sort -u)
# shellcheck disable=SC2086
stamp=$(dpkg-query -W $closure 2>/dev/null | sha256sum | cut -d' ' -f1)
if [ "$(cat "$root.stamp" 2>/dev/null)" != "$stamp" ]; then
    next=$root.$$
    mkdir -p "$next/usr/bin" "$next/usr/sbin" "$next/usr/lib" "$next/usr/lib64"
    for name in bin sbin lib lib64; do ln -s "usr/$name" "$next/$name"; done
    # shellcheck disable=SC2086
    dpkg-query -L $closure 2>/dev/null | sort -u | grep -Ev '^/(usr/share/(doc|man|locale)|var|\.)(/|$)' |
        while read -r path; do [ ! -e "$path" ] || echo ".$path"; done |
        tar -C / -cf - --no-recursion -T - | tar -C "$next" -xf - --no-same-owner
    printf 'root:x:0:0:root:/root:/bin/sh\nclaw:x:65532:65532:claw:/data:/bin/sh\n' >"$next/etc/passwd"
    printf 'root:x:0:\nclaw:x:65532:\n' >"$next/etc/group"
    printf 'hosts: files dns\npasswd: files\ngroup: files\n' >"$next/etc/nsswitch.conf"
    : >"$next/etc/hosts"
    : >"$next/etc/resolv.conf"
    rm -rf "$root"
    mv "$next" "$root"
    echo "$stamp" >"$root.stamp"
fi
echo "$root"
