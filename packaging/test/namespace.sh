#!/usr/bin/env bash
# Starts systemd on a copy of the file system, as the first process of new namespaces. For test-package.sh.
set -euo pipefail
root=$1 package=$2 here=$3

mount --make-rprivate /
mount -t tmpfs tmpfs "$root"
mkdir "$root"/{changes,work,new}
mount -t overlay overlay -o "lowerdir=/,upperdir=$root/changes,workdir=$root/work" "$root/new"
cd "$root/new"
mount -t proc proc proc
# Settings of the kernel are those of the machine.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
  touch "dev/$device"
  mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=755 tmpfs run
ip link set lo up

# Only what the test needs is started. Images of containers forbid packages to start services.
rm -rf etc/systemd/system/*.wants usr/sbin/policy-rc.d
rm -rf etc/tapis var/lib/tapis var/log/tapis
for unit in sysctl modules-load remount-fs; do
  ln -sf /dev/null "etc/systemd/system/systemd-$unit.service"
done
tr -d - </proc/sys/kernel/random/uuid >etc/machine-id
rm -f etc/resolv.conf
echo 'nameserver 127.0.0.9' >etc/resolv.conf
cp "$package" "root/package.${package##*.}"
cp -r "$here/test" root/test

mkdir -p old
pivot_root . old
umount -l /old
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=basic.target --show-status=no
