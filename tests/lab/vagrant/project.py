"""vagrant at work on this checkout, on a host of its own: a private home, and the box under its public name."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab import cache
from tests.lab.package import CHECKOUT
from tests.lab.vagrant.image import BOX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.lab.vagrant.host import Host

PROJECT = "/srv/pam-totp"
SSH_CONFIG = f"{PROJECT}/.vagrant/ssh-config"
BOX_VAGRANTFILE = Path(__file__).with_name("box.Vagrantfile")
METADATA = '{"provider": "libvirt", "format": "qcow2", "virtual_size": 4}\n'
# What vagrant says of each step, and what apt says of each package of ours.
TELLING = ("==> default: ", "    default: Setting up ")
# Not worth a line: lists of settings.
NOISE = ("==> default:  -- ", "==> default:   - ", "==> default: Libvirt Provider", "==> default: generating a local")
MESSAGE = "has a post `vagrant up` message"


class Project:
    """A copy of the checkout with its package, in which vagrant is called as any user calls it."""

    def __init__(self, host: Host, suite: str, *, kvm: bool) -> None:
        self.host = host
        self.box = f"debian/{suite}64"
        self._environment = {
            "PAM_TOTP_BOX": self.box,
            "BOX_ACCELERATOR": "kvm" if kvm else "tcg",
            "VAGRANT_HOME": "/srv/vagrant",
            "VAGRANT_DEFAULT_PROVIDER": "libvirt",
            "VAGRANT_CHECKPOINT_DISABLE": "1",
            "VAGRANT_BOX_UPDATE_CHECK_DISABLE": "1",
            "VAGRANT_NO_COLOR": "1",
        }

    def copy(self, packages: Sequence[Path]) -> None:
        """Bring the checkout's files to the host, with the packages where `./run deb` leaves it."""
        command = ["git", "-c", f"safe.directory={CHECKOUT}", "ls-files", "-z", "-co", "--exclude-standard"]
        listing = subprocess.run(command, cwd=CHECKOUT, check=True, stdout=subprocess.PIPE).stdout
        files = [CHECKOUT / name for name in sorted(set(os.fsdecode(listing).split("\0")) - {""})]
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as archive:
            for path in [*filter(Path.is_file, files), *packages]:
                archive.add(path, path.relative_to(CHECKOUT))
        self.host.write(f"{PROJECT}.tar", content.getvalue())
        self.host.sh('mkdir "$1" && tar -C "$1" -xf "$1.tar" && rm "$1.tar"', PROJECT)

    def add_box(self) -> None:
        """Make the box file, and add it under the public box's name. Raises MachineError."""
        self.host.write(f"{BOX}/metadata.json", METADATA)
        self.host.write(f"{BOX}/Vagrantfile", BOX_VAGRANTFILE.read_bytes())
        self.host.sh('tar -C "$1" -cf /srv/made.box box.img metadata.json Vagrantfile', BOX)
        self.vagrant("box", "add", "--name", self.box, "/srv/made.box", quiet=True)

    def vagrant(self, *arguments: str, timeout: float = 120, quiet: bool = False) -> str:
        """Call vagrant, show what it is at unless `quiet`, and return all that it says. Raises MachineError."""

        def tell(line: str) -> None:
            if line.startswith(TELLING) and not line.startswith(NOISE) and not message:
                cache.say("  " + line.partition("default: ")[2])
            if MESSAGE in line:
                message.append(line)

        message: list[str] = []
        return self.host.follow(
            ["vagrant", *arguments],
            cwd=PROJECT,
            env=self._environment,
            timeout=timeout,
            each=(lambda _: None) if quiet else tell,
        )

    def up(self) -> str:
        """`vagrant up`, and the file for ssh that its last words tell to make; return all that it says."""
        said = self.vagrant("up", timeout=1500)
        self.host.write(SSH_CONFIG, self.vagrant("ssh-config", quiet=True) + "\n", mode=0o600)
        return said
