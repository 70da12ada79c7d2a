"""The machine that vagrant runs on: a throw-away Debian with libvirt, and a way out through this computer's network.

vagrant is in Debian 12 only, so this is one, whatever this computer runs. Nothing but slirp4netns runs outside of it.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.machine import Machine, MachineError
from tests.lab.roots import Root, root

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

SUITE = "bookworm"
PACKAGES = (
    *("vagrant", "vagrant-libvirt", "rsync"),
    *("libvirt-daemon", "libvirt-daemon-driver-qemu", "dnsmasq-base", "iptables"),
    *("qemu-system-x86", "qemu-utils", "fdisk", "mmdebstrap"),
)
# libvirt without an init, control groups or a user of its own; a machine of namespaces is the confinement.
QEMU_CONF = """\
user = "root"
group = "root"
security_driver = "none"
remember_owner = 0
stdio_handler = "file"
namespaces = []
cgroup_controllers = []
"""
LIBVIRTD_LOG = "/var/log/libvirtd.log"
PATIENCE = 60


class Host(Machine):
    """A running host, as a context manager. `layers` are put over its root; `upper` takes what is written to it."""

    def __init__(self, upper: Path, *layers: Path) -> None:
        plain = root(SUITE, PACKAGES)
        super().__init__(Root(SUITE, (*layers, *plain.layers)), upper=upper)
        self._slirp: subprocess.Popen[bytes] | None = None
        self._rope = -1

    def _boot(self, stack: ExitStack) -> None:
        super()._boot(stack)
        stack.callback(self.disconnect)
        # Every root of the lab knows its own sshd, as that of any host; there are others here.
        self.run(["rm", "/etc/ssh/ssh_known_hosts"])
        # What slirp4netns answers as a name server.
        self.write("/etc/resolv.conf", "nameserver 10.0.2.3\n")
        self.connect()

    def connect(self) -> None:
        """Give the machine a way out. Raises MachineError."""
        held, self._rope = os.pipe()
        ready, told = os.pipe()
        with open(held, "rb"), open(ready, "rb") as answer:
            with open(told, "wb"):
                self._slirp = subprocess.Popen(
                    [
                        *("slirp4netns", "--configure", "--mtu=1400", "--disable-host-loopback"),
                        # It ends when nobody holds the other end, however this process ends.
                        *(f"--exit-fd={held}", f"--ready-fd={told}", str(self._pid), "tap0"),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=(held, told),
                    start_new_session=True,
                )
            if answer.read(1) != b"1":
                raise MachineError("slirp4netns did not give the machine a network")

    def disconnect(self) -> None:
        """Take the way out away: the interface to it is gone."""
        if self._slirp is not None:
            os.close(self._rope)
            self._slirp.wait()
            self._slirp = None

    def start_libvirt(self, stack: ExitStack, *, kvm: bool) -> None:
        """Start libvirtd. Raises MachineError."""
        self.write("/etc/libvirt/qemu.conf", QEMU_CONF)
        script = """
            set -e
            mount -o remount,rw /sys
            mkdir /dev/net
            mknod /dev/net/tun c 10 200
            # libvirt looks the user up, though it is told not to use it.
            useradd --system --no-create-home --shell /usr/sbin/nologin libvirt-qemu
        """
        self.sh(script)
        if kvm:
            self.sh("test -c /dev/kvm || mknod /dev/kvm c 10 232")
        daemon = self.popen(["sh", "-c", f"exec libvirtd >{LIBVIRTD_LOG} 2>&1"])
        stack.callback(self.end, daemon)
        end = time.monotonic() + PATIENCE
        while self.run(["test", "-S", "/run/libvirt/libvirt-sock"], check=False).returncode:
            if daemon.poll() is not None or time.monotonic() > end:
                raise MachineError(f"libvirtd did not start:\n{self.read(LIBVIRTD_LOG)}")
            time.sleep(0.05)

    def kvm_works(self, image: str) -> bool:
        """Whether KVM really runs a guest: a device that is there, and accepts one, is no proof."""
        if not Path("/dev/kvm").exists():
            return False
        self.sh("mknod /dev/kvm c 10 232")
        command = ["qemu-system-x86_64", "-machine", "q35", "-accel", "kvm", "-cpu", "host", "-smp", "2", "-m", "1024"]
        command += ["-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio"]
        command += ["-drive", f"file={image},if=virtio,snapshot=on"]
        process = self.popen(["sh", "-c", 'exec "$@" 2>/dev/null', "sh", *command])
        screen = ""
        # A sign of life soon, from the boot loader, and a whole boot in reasonable time.
        timers = [threading.Timer(seconds, self.end, [process]) for seconds in (10, 90)]
        for timer in timers:
            timer.start()
        try:
            while process.stdout is not None and "login:" not in screen:
                character = process.stdout.read(1)
                if not character:
                    break
                screen += character
                timers[0].cancel()
        finally:
            for timer in timers:
                timer.cancel()
                timer.join()
            self.end(process)
        return "login:" in screen

    def follow(
        self, argv: list[str], *, cwd: str, env: dict[str, str], timeout: float, each: Callable[[str], None]
    ) -> str:
        """Run a command, hand each line of its output on as it comes, and return it all. Raises MachineError."""
        process = self.popen(["sh", "-c", 'cd "$1" && shift && exec "$@" </dev/null 2>&1', "sh", cwd, *argv], env=env)
        late = threading.Timer(timeout, self.end, [process])
        late.start()
        lines: list[str] = []
        try:
            for raw in process.stdout or ():
                # Progress bars draw over their own line.
                line = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", raw).rstrip().rpartition("\r")[2]
                lines.append(line)
                each(line)
            process.wait()
        finally:
            late.cancel()
            late.join()
            self.end(process)
        if process.returncode:
            tail = "\n".join(lines[-40:])
            raise MachineError(f"exit status {process.returncode}: {shlex.join(argv)}\n{tail}")
        return "\n".join(lines)
