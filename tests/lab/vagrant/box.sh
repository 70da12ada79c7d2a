#!/bin/sh
# Makes a box for vagrant's libvirt provider that stands in for a public one: a plain Debian with the user `vagrant`.
# Runs in the machine that vagrant runs on, as root. Says what it is at on standard output.
# Usage: box.sh SUITE BOX SCRATCH [APT-OPTION...] <SOURCES     (BOX: the directory that box.img goes to)
set -eu
suite=$1 box=$2 scratch=$3
shift 3
root=$scratch/root
mkdir -p "$box" "$scratch"

packages=linux-image-cloud-amd64,initramfs-tools,systemd-sysv,systemd-resolved,dbus,openssh-server,sudo,iproute2
packages=$packages,rsync,python3,grub-pc-bin

for option; do
    shift
    set -- "$@" "--aptopt=$option"
done
# The lists of packages stay, so that `apt-get update` in the box has little to fetch. The initramfs gets the drivers of
# the box's hardware and no others: emulated, a large one takes its time.
# shellcheck disable=SC2016 # mmdebstrap's shell expands it
modules='printf "MODULES=list\n" >"$1/etc/initramfs-tools/conf.d/box" &&
    printf "%s\n" virtio_pci virtio_blk virtio_net ext4 >"$1/etc/initramfs-tools/modules"'
echo "bootstrapping Debian ($suite)"
mmdebstrap --quiet --mode=root --variant=minbase --include="$packages" --format=directory "$@" \
    --dpkgopt=force-unsafe-io --skip=cleanup/apt/lists \
    --setup-hook="mkdir -p \"\$1/etc/initramfs-tools/conf.d\" && $modules" \
    "$suite" "$root" -

echo 'making its disk'
echo 'LABEL=root / ext4 defaults 0 1' >"$root/etc/fstab"
echo box >"$root/etc/hostname"
printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
printf '[Match]\nName=en* eth*\n[Network]\nDHCP=yes\n' >"$root/etc/systemd/network/wired.network"
chroot "$root" systemctl --quiet enable systemd-networkd systemd-resolved ssh

# As vagrant expects of a box: it replaces this key, which everybody knows, by one of its own.
chroot "$root" useradd --create-home --shell /bin/bash vagrant
install -d -m 700 "$root/home/vagrant/.ssh"
cp /usr/share/rubygems-integration/all/gems/vagrant-[0-9]*/keys/vagrant.pub "$root/home/vagrant/.ssh/authorized_keys"
chroot "$root" chown -R vagrant: /home/vagrant/.ssh
echo 'vagrant ALL=(ALL) NOPASSWD:ALL' >"$root/etc/sudoers.d/vagrant"

# The boot loader: GRUB without an installation. It says something on the serial line, as a sign of life.
mkdir -p "$root/boot/grub"
cat >"$root/boot/grub/grub.cfg" <<'CFG'
serial --unit=0
terminal_output serial
echo starting
linux /vmlinuz root=LABEL=root ro console=ttyS0 quiet mitigations=off
initrd /initrd.img
boot
CFG
chroot "$root" grub-mkimage -O i386-pc -p '(hd0,msdos1)/boot/grub' -o /core.img \
    biosdisk part_msdos ext2 linux normal serial terminal echo
mv "$root/core.img" "$scratch/"
cp "$root/usr/lib/grub/i386-pc/boot.img" "$scratch/"

# No loop device: the file system is made inside the partition of a plain file, and the boot loader put before it.
disk=$scratch/disk
truncate -s 4G "$disk"
echo 'start=2048, type=83, bootable' | sfdisk --quiet "$disk"
mke2fs -q -t ext4 -L root -d "$root" -E offset=1048576 "$disk" 4095M
dd if="$scratch/boot.img" of="$disk" bs=440 count=1 conv=notrunc status=none
dd if="$scratch/core.img" of="$disk" bs=512 seek=1 conv=notrunc status=none
qemu-img convert -c -O qcow2 -o compression_type=zstd "$disk" "$box/box.img"
