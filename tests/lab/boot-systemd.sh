#!/bin/sh
# A machine with systemd as its pid 1, in a mount namespace of its own. Gone when this process is killed.
# Usage: boot-systemd.sh STAGE LOWER GROUP UPPER     (GROUP: the control group to make, in every hierarchy that systemd
# uses; UPPER empty: in memory)
set -eu
stage=$1 lower=$2 group=$3 upper=$4

mount -t tmpfs -o mode=755 stage "$stage"
mkdir "$stage/root"
upper=${upper:-$stage}
mkdir -p "$upper/upper" "$upper/work"
mount -t overlay -o "lowerdir=$lower,upperdir=$upper/upper,workdir=$upper/work" root "$stage/root"
# Here daemons are started, by systemd.
rm -f "$stage/root/usr/sbin/policy-rc.d"

for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
    if [ -e "$hierarchy/cgroup.procs" ]; then
        mkdir "$hierarchy/$group"
        echo "$$" >"$hierarchy/$group/cgroup.procs"
    fi
done
# 133 is how it says that the machine wants to be rebooted.
status=133
while [ "$status" = 133 ]; do
    status=0
    systemd-nspawn --quiet --directory="$stage/root" --machine=lab --register=no --keep-unit --private-network \
        --boot --console=read-only || status=$?
done
exit "$status"
