"""A throw-away virtual machine: a kernel of its own, and a TPM 2.0 that can be exchanged. Emulated, so it is slow."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Self

from tests.lab.machine import ENVIRONMENT, Machine, MachineError
from tests.lab.process import end
from tests.lab.ssh import Result, Session

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.lab.roots import Root

# Packages of the distribution: what boots, and what systemd talks to a TPM with.
KERNEL = ("systemd-sysv", "dbus", "linux-image-cloud-amd64", "initramfs-tools", "e2fsprogs")
TPM = {
    "bookworm": ("libtss2-esys-3.0.2-0", "libtss2-rc0", "libtss2-mu0", "libtss2-tcti-device0"),
    "trixie": ("libtss2-esys-3.0.2-0t64", "libtss2-rc0t64", "libtss2-mu-4.0.1-0t64", "libtss2-tcti-device0t64"),
}
# An emulated boot beside other jobs.
BOOT_PATIENCE = 600
COMMAND_PATIENCE = 180

# Root's way in is an sshd of its own, which asks PAM nothing: it works whatever the other one does.
CONTROL = """\
Port 2222
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
AuthorizedKeysFile /root/control.pub
"""
CONTROL_UNIT = """\
[Unit]
Description=Root's way in for the lab
[Service]
ExecStartPre=/bin/mkdir -p -m 755 /run/sshd
ExecStart=/usr/sbin/sshd -D -f /etc/ssh/control
[Install]
WantedBy=multi-user.target
"""
NETWORK = """\
[Match]
Type=ether
[Network]
Address=10.0.2.15/24
"""
PREPARE = """
set -e
rm -f /usr/sbin/policy-rc.d
systemctl enable -q control.service systemd-networkd.service
systemctl mask -q systemd-networkd-wait-online.service
# Emulated, and beside other jobs, what takes a second takes a minute.
mkdir -p /etc/systemd/system/pam-totp-unseal.service.d
printf '[Service]\nTimeoutStartSec=600\n' >/etc/systemd/system/pam-totp-unseal.service.d/lab.conf
echo '/dev/vda / ext4 rw 0 1' >/etc/fstab
# The root as it is, without what is mounted in it; the image comes to be in /srv.
mount --bind / /mnt
mount -t tmpfs none /mnt/srv
truncate -s 4G /srv/disk
mke2fs -q -t ext4 -d /mnt /srv/disk
umount /mnt/srv /mnt
"""


class Virtual:
    """A virtual machine of a root, below a directory of its own. A context manager; `start` and `stop` it in there.

    alice is a user of it, with the key that `login` uses.
    """

    def __init__(self, root: Root, directory: Path) -> None:
        self._root = root
        self._directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ports = {22: _free_port(), 2222: _free_port()}

    def __enter__(self) -> Self:
        upper = self._directory / "upper"
        for name in ("root", "alice"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self._directory / name], check=True)
        with Machine(self._root, upper=upper) as machine:
            machine.write("/root/control.pub", (self._directory / "root.pub").read_bytes(), mode=0o600)
            machine.write("/etc/ssh/control", CONTROL)
            machine.write("/etc/systemd/system/control.service", CONTROL_UNIT)
            machine.write("/etc/systemd/network/lab.network", NETWORK)
            machine.user("alice")
            machine.write("/home/alice/.ssh/authorized_keys", (self._directory / "alice.pub").read_bytes())
            machine.sh(PREPARE, timeout=300)
        shutil.move(upper / "upper" / "srv/disk", self._directory / "disk")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(orderly=False)

    def start(self, tpm: str = "") -> None:
        """Boot with the TPM of this name, which is made where it is new; without one where there is no name."""
        command: list[str | Path] = ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi"]
        command += ["-cpu", "Nehalem", "-smp", "2", "-m", "1024", "-nodefaults", "-display", "none"]
        command += ["-serial", f"file:{self._directory / 'console'}", *self._kernel()]
        command += ["-drive", f"file={self._directory / 'disk'},format=raw,if=virtio,cache=unsafe"]
        forwards = ",".join(f"hostfwd=tcp:127.0.0.1:{port}-:{inner}" for inner, port in self._ports.items())
        command += ["-netdev", f"user,id=net,restrict=on,{forwards}", "-device", "virtio-net-pci,netdev=net"]
        if tpm:
            path = self._start_tpm(tpm)
            command += ["-chardev", f"socket,id=tpm,path={path}", "-tpmdev", "emulator,id=tpm0,chardev=tpm"]
            command += ["-device", "tpm-tis,tpmdev=tpm0"]
        self._start(command)
        self._wait_for_boot("")

    def stop(self, *, orderly: bool = True) -> None:
        """Turn it off; its TPM too."""
        if orderly:
            self.run("systemctl --no-block poweroff")
            self._processes[-1].wait(BOOT_PATIENCE)
        for process in reversed(self._processes):
            end(process.pid, lambda process=process: process.poll() is not None)  # type: ignore[misc]  # its default
        self._processes.clear()

    def reboot(self) -> None:
        """Reboot, with the same TPM. Raises MachineError."""
        former = self.run("cat /proc/sys/kernel/random/boot_id")
        self.run("systemctl --no-block reboot")
        self._wait_for_boot(former)

    def run(self, script: str, *, check: bool = True, given: str = "") -> str:
        """What a shell script of root's prints, also as errors. Raises MachineError."""
        try:
            done = subprocess.run(
                [*self._ssh(2222, "root"), script],
                input=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                timeout=COMMAND_PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise MachineError(f"not finished after {COMMAND_PATIENCE} s: {script}\n{self._console()}") from None
        if done.returncode == 255 or (check and done.returncode):
            raise MachineError(f"exit status {done.returncode}: {script}\n{done.stdout}")
        return done.stdout

    def login(self, code: str) -> Result:
        """A login of alice with her key and this code."""
        with Session([*map(str, self._ssh(22, "alice")), "true"], ENVIRONMENT, COMMAND_PATIENCE) as session:
            return session.authenticate(code=code)

    def _start_tpm(self, name: str) -> Path:
        state = self._directory / f"tpm-{name}"
        state.mkdir(exist_ok=True)
        path = self._directory / "tpm.sock"
        path.unlink(missing_ok=True)
        self._start(["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--ctrl", f"type=unixio,path={path}"])
        limit = time.monotonic() + 10
        while not path.exists():
            if time.monotonic() > limit:
                raise MachineError("swtpm does not start")
            time.sleep(0.05)
        return path

    def _start(self, command: Sequence[str | Path]) -> None:
        # It ends with this process, however that ends.
        guarded = ["setpriv", "--pdeathsig", "KILL", "--", *command]
        self._processes.append(
            subprocess.Popen(
                guarded,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        )

    def _kernel(self) -> list[str | Path]:
        boot = next(layer / "boot" for layer in self._root.layers if list(layer.glob("boot/vmlinuz-*")))
        (kernel,), (initrd,) = boot.glob("vmlinuz-*"), boot.glob("initrd.img-*")
        return ["-kernel", kernel, "-initrd", initrd, "-append", "root=/dev/vda rw console=ttyS0 net.ifnames=0"]

    def _wait_for_boot(self, former: str) -> None:
        limit = time.monotonic() + BOOT_PATIENCE
        while time.monotonic() < limit:
            if self._processes[-1].poll() is not None:
                raise MachineError(f"qemu has ended:\n{self._console()}")
            try:
                if self.run("cat /proc/sys/kernel/random/boot_id") != former:
                    self.run("systemctl is-system-running --wait", check=False)
                    return
            except MachineError:
                time.sleep(1)
        raise MachineError(f"the virtual machine does not boot:\n{self._console()}")

    def _console(self) -> str:
        return (self._directory / "console").read_text("utf-8", "replace")[-3000:]

    def _ssh(self, port: int, user: str) -> list[str]:
        options = ["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        options += ["-o", "LogLevel=ERROR", "-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=20"]
        options += ["-o", "IdentitiesOnly=yes", "-i", str(self._directory / user)]
        return ["ssh", *options, "-p", str(self._ports[port]), f"{user}@127.0.0.1"]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
