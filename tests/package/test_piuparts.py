"""piuparts: install, upgrade, remove and purge, in a Debian that reaches no archive but one with an older version."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.lab import cache
from tests.lab.machine import ENVIRONMENT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.roots import Root

pytestmark = pytest.mark.full

OLDER = "0.0.1"
# apt of Debian 13 makes it when it looks for questions of any package, and this piuparts does not know it.
NOT_OURS = "/var/cache/debconf/tmp.ci/"


def archive(debs: tuple[Path, ...], directory: Path) -> Path:
    """An archive for apt with the same packages under an older version."""
    here = directory / "archive"
    here.mkdir()
    for deb in debs:
        tree = directory / "tree"
        subprocess.run(["dpkg-deb", "-R", deb, tree], check=True)
        control = tree / "DEBIAN/control"
        text = re.sub(r"^Version: (.*)$", f"Version: {OLDER}", control.read_text(encoding="utf-8"), flags=re.MULTILINE)
        control.write_text(re.sub(r"\(= .*?\)", f"(= {OLDER})", text), encoding="utf-8")
        name, _, architecture = deb.stem.split("_")
        built = here / f"{name}_{OLDER}_{architecture}.deb"
        subprocess.run(["dpkg-deb", "-b", "--root-owner-group", tree, built], check=True)
        shutil.rmtree(tree)
    index = subprocess.check_output(["apt-ftparchive", "packages", "."], cwd=here)
    (here / "Packages").write_bytes(index)
    return here


# In namespaces of its own, so that no mount and no process is left. $1 is the root, $2 the archive, $3 an empty
# directory; the rest are piuparts' arguments. Nothing is mounted in what piuparts copies, or it would copy that too,
# /proc/kcore among it; and the copy has a limit, so that it cannot fill the disk.
SCRIPT = """
set -e
root=$1 archive=$2 work=$3
shift 3
mount -t tmpfs -o size=3g work "$work"
mkdir "$work/upper" "$work/work" "$work/root" "$work/tmp"
mount -t overlay -o "lowerdir=$root,upperdir=$work/upper,workdir=$work/work" root "$work/root"
rm -rf "$work/root"/etc/apt/sources.list.d/*
echo "deb [trusted=yes] file:$archive ./" >"$work/root/etc/apt/sources.list"
exec piuparts --existing-chroot="$work/root" --keep-sources-list --bindmount="$archive" --tmpdir="$work/tmp" "$@"
"""
NAMESPACES = ("--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private")


@pytest.mark.parametrize("extra", [[], ["--install-remove-install"]], ids=["upgrade", "again"])
def test_it_comes_and_goes_without_a_trace(
    base_root: Root, debs: tuple[Path, ...], tmp_path: Path, extra: list[str]
) -> None:
    here = archive(debs, tmp_path)
    work = tmp_path / "work"
    work.mkdir()
    [layer] = base_root.layers
    with cache.locked(cache.lock_of(layer), shared=True):
        done = subprocess.run(
            [
                *("unshare", *NAMESPACES, "--", "sh", "-c", SCRIPT, "sh"),
                *map(str, (layer, here, work)),
                *(f"--ignore={NOT_OURS}", "--no-eatmydata", *extra, *map(str, debs)),
            ],
            env=ENVIRONMENT,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=300,
        )
    assert done.returncode == 0, done.stdout[-8000:]
    assert "PASS: All tests" in done.stdout
    assert extra or f"Setting up pam-totp ({OLDER})" in done.stdout
