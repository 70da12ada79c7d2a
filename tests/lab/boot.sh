#!/bin/sh
# First process of a machine, in namespaces of its own: lays out the file systems and becomes the machine's pid 1.
# Usage: boot.sh STAGE LOWER UPPER INIT LOG ROPE     (UPPER empty: in memory; LOG and ROPE: open file descriptors)
set -eu
stage=$1 lower=$2 upper=$3 init=$4 log=$5 rope=$6

# /proc is still the host's here, so this is the pid that the host knows.
read -r pid _ </proc/self/stat

mount -t tmpfs -o mode=755 stage "$stage"
mkdir "$stage/root"
upper=${upper:-$stage}
mkdir -p "$upper/upper" "$upper/work"
mount -t overlay -o "lowerdir=$lower,upperdir=$upper/upper,workdir=$upper/work" root "$stage/root"
cd "$stage/root"

mount -t proc -o nosuid,nodev,noexec proc proc
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
mount -t tmpfs -o mode=755,nosuid,nodev run run
mkdir -m 755 run/sshd run/lab
mkdir -m 1777 run/lock
cp "$init" run/lab/init.py

mount -t tmpfs -o mode=755,nosuid,noexec dev dev
while read -r name major minor; do
    mknod -m 666 "dev/$name" c "$major" "$minor"
done <<EOF
null 1 3
zero 1 5
full 1 7
random 1 8
urandom 1 9
tty 5 0
EOF
mkdir dev/pts
mkdir -m 1777 dev/shm
mount -t devpts -o newinstance,nosuid,noexec,gid=5,mode=620,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr

# Any address of 127.0.0.0/8 is a source by itself; with these two, so is any of fd00::/16.
echo 1 >proc/sys/net/ipv6/ip_nonlocal_bind || true
PATH=/usr/sbin:/usr/bin:/sbin:/bin
chroot . ip link set lo up
chroot . ip -6 route add local fd00::/16 dev lo || true
hostname lab

pivot_root . mnt
cd /
umount -l /mnt
echo "$pid"
exec env -i PATH="$PATH" /usr/bin/python3 -I -S /run/lab/init.py "$log" "$rope" </dev/null
