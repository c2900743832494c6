#!/usr/bin/env bash
# Runs the native conformance suite on a machine that has nothing but cgroup v2, as root and as an ordinary user with a
# delegated subtree: Debian's cloud kernel in QEMU, without KVM, with the suite in its initramfs. No disk, no network.
#
#   scripts/vm-cgroup2.sh [TEST]     exit 0 only if both runs held; the machine's console goes to standard output
#
# Without KVM the machine is slow: both runs take some three minutes of CPU time. Needs what scripts/setup.sh installs, and
# once a kernel package of Debian's, which is kept in the target directory.
set -euo pipefail
cd "$(dirname "$0")/.."
test=${1:-the_native_back_end_conforms}
target=${CARGO_TARGET_DIR:-target}
kept=$target/vm
patience=${VM_SECONDS:-600}

for program in qemu-system-x86_64 busybox mkfs.ext4 setpriv cpio strip; do
    command -v "$program" >/dev/null || { 
        echo "vm-cgroup2: $program is missing: run scripts/setup.sh" >&2
        exit 1
    }
done

download() {
    local package
    package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1)
    [ -n "$package" ] && (cd "$kept.new" && apt-get download -q "$package")
}

kernel() {
    [ -d "$kept/boot" ] && return
    rm -rf "$kept.new" && mkdir -p "$kept.new"
    # A package list that is old, or not there, names a kernel that nobody has any more, or none.
    download || { apt-get update -q && download; }
    (cd "$kept.new" && dpkg -x ./*.deb . && rm ./*.deb)
    mv "$kept.new" "$kept"
}

# A program and the libraries that it is linked with.
bring() {
    local file
    for file in "$1" $(ldd "$1" 2>/dev/null | grep -o '/[^ ]*'); do
        mkdir -p "$root$(dirname "$file")"
        cp -L "$file" "$root$file"
    done
}

suite() {
    # Of the whole workspace, as scripts/test.sh has built it: by themselves they would be built with other features.
    cargo build --quiet --workspace --bins
    local built
    built=$(cargo test --workspace --test native --no-run 2>&1 | sed -n 's/.*(\(.*native-[0-9a-f]*\)).*/\1/p')
    mkdir -p "$root/t/deps"
    strip -o "$root/t/deps/native" "$built"
    for program in claw clawstaff-launcher; do
        strip -o "$root/t/$program" "$(dirname "$built")/../$program"
    done
    chmod -R a+rX "$root/t"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{bin,proc,sys,dev,tmp,new,etc,modules}
kernel
suite
cp "$(command -v busybox)" "$root/bin/busybox"
for applet in sh mount mkdir cat chown chmod poweroff insmod switch_root ls ifconfig; do ln -s busybox "$root/bin/$applet"; done
for program in setpriv mkfs.ext4 e2fsck cp; do bring "$(realpath "$(command -v $program)")"; done
mkdir -p "$root/usr/sbin" && ln -sf mke2fs "$root/usr/sbin/mkfs.ext4" && cp "$root"/sbin/* "$root/usr/sbin/" 2>/dev/null || true
cp /etc/mke2fs.conf "$root/etc/"
echo 'nobody:x:65534:65534:nobody:/:/bin/sh' >"$root/etc/passwd"
# In the order in which they need each other; what is built in is not there.
for module in crc16 crc32c_generic libcrc32c mbcache jbd2 ext4 loop; do
    find "$kept/lib/modules" -name "$module.ko" -exec cp {} "$root/modules/" \;
done

# The first root of a machine cannot be pivoted away from, so that everything moves to a second one.
cat >"$root/init" <<'END'
#!/bin/busybox sh
mount -t tmpfs -o mode=755 new /new
busybox cp -a /bin /sbin /usr /lib /lib64 /etc /t /modules /second /new/ 2>/dev/null
mkdir -p /new/proc /new/sys /new/dev /new/tmp
exec switch_root /new /second
END
cat >"$root/second" <<END
#!/bin/busybox sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin TMPDIR=/tmp RUST_BACKTRACE=0
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs -o mode=1777 tmp /tmp
mkdir /dev/shm; mount -t tmpfs -o mode=1777 shm /dev/shm; ifconfig lo up
mount -t cgroup2 cgroup2 /sys/fs/cgroup; mount -t securityfs security /sys/kernel/security
for module in crc16 crc32c_generic libcrc32c mbcache jbd2 ext4 loop; do
    [ ! -e /modules/\$module.ko ] || insmod /modules/\$module.ko
done
cd /sys/fs/cgroup
mkdir init user; echo \$\$ >init/cgroup.procs
echo "+memory +cpu +pids" >cgroup.subtree_control
echo "== controllers: \$(cat cgroup.controllers); kernel \$(cat /proc/sys/kernel/osrelease)"
echo "== as root"
/t/deps/native --exact $test --nocapture && echo "== held as root"
echo "+memory +cpu +pids" >user/cgroup.subtree_control
mkdir user/own
chown 65534:65534 user/own user/own/cgroup.procs user/own/cgroup.subtree_control user/own/cgroup.threads
echo "== as an ordinary user with a delegated subtree"
sh -c 'echo \$\$ >/sys/fs/cgroup/user/own/cgroup.procs; exec /usr/bin/setpriv --reuid=65534 --regid=65534 --clear-groups \\
    /t/deps/native --exact $test --nocapture' && echo "== held as an ordinary user"
poweroff -f
END
chmod +x "$root/init" "$root/second"
(cd "$root" && find . | cpio -o -H newc --quiet) >"$work/initramfs"
timeout "$patience" qemu-system-x86_64 -machine q35 -accel tcg,thread=multi -cpu max -smp 2 -m 2048 -nodefaults -no-reboot \
    -display none -serial stdio -kernel "$kept"/boot/vmlinuz-* -initrd "$work/initramfs" \
    -append "console=ttyS0 quiet panic=-1 cgroup_no_v1=all" </dev/null | tee "$work/console"
grep -q '^== held as root' "$work/console" && grep -q '^== held as an ordinary user' "$work/console"
