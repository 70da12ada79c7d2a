"""The Debian package: built from this checkout when a source of it has changed, and installed in a root."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab import cache
from tests.lab.roots import Root, root

if TYPE_CHECKING:
    from collections.abc import Mapping

CHECKOUT = Path(__file__).resolve().parents[2]
DIST = CHECKOUT / "dist"
SOURCES = ("LICENSE", "pyproject.toml", "README.md", "config", "debian", "docs", "pam_totp")


# The distribution's own programs build it, whatever else is on this machine.
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8"}


class BuildError(Exception):
    """The package could not be built."""


def deb() -> Path:
    """Build dist/pam-totp_VERSION_all.deb, unless it is there and made of the same sources. Raises BuildError."""
    DIST.mkdir(exist_ok=True)
    _give_to_owner(DIST)
    with cache.locked(DIST / ".lock"):
        files = _files()
        key = cache.digest(*(part for file in files for part in _content(file)))
        kept = DIST / ".sources"
        found = sorted(DIST.glob("pam-totp_*_all.deb"))
        if len(found) == 1 and kept.is_file() and kept.read_text(encoding="ascii") == key:
            return found[0]
        kept.unlink(missing_ok=True)
        for old in DIST.glob("*.deb"):
            old.unlink()
        with tempfile.TemporaryDirectory(prefix="pam-totp-build-") as directory:
            cache.say("building the package")
            package = DIST / build(Path(directory)).name
            shutil.copy(Path(directory, package.name), DIST)
        kept.write_text(key, encoding="ascii")
        _give_to_owner(*DIST.iterdir())
        return package


def installed(suite: str, package: Path) -> Root:
    """The base root of a suite with the package installed by its own apt, without a network."""
    base = root(suite)
    layers = cache.home() / "layers"
    directory = layers / f"{base.suite}-{cache.digest(base.layers[0].name, package.read_bytes())}"
    cache.kept(directory, lambda unfinished: _install(base, package, unfinished))
    cache.forget(layers, f"{base.suite}-*", keep=4)
    return Root(base.suite, (directory, *base.layers))


def _files() -> list[Path]:
    """The files of the checkout that the package is made of: those that git tracks or does not ignore."""
    command = ["git", "-c", f"safe.directory={CHECKOUT}", "ls-files", "-z", "-co", "--exclude-standard", *SOURCES]
    listing = subprocess.run(command, cwd=CHECKOUT, check=True, stdout=subprocess.PIPE).stdout
    names = sorted(set(os.fsdecode(listing).split("\0")) - {""})
    return [Path(name) for name in names if (CHECKOUT / name).exists()]


def _content(file: Path) -> tuple[str, bytes]:
    path = CHECKOUT / file
    return f"{file} {path.stat().st_mode:o}", path.read_bytes()


def copy(tree: Path) -> None:
    """Copy what the package is made of."""
    for file in _files():
        (tree / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(CHECKOUT / file, tree / file)


def build(directory: Path, environment: Mapping[str, str] = ENVIRONMENT) -> Path:
    """Build the package in `directory` and return it. Raises BuildError."""
    tree = directory / "pam-totp"
    copy(tree)
    command = ["dpkg-buildpackage", "--build=binary", "--unsigned-source", "--unsigned-changes"]
    done = subprocess.run(
        command,
        cwd=tree,
        env=environment,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode:
        raise BuildError(f"dpkg-buildpackage failed ({done.returncode}):\n{done.stdout.decode(errors='replace')}")
    found = sorted(directory.glob("pam-totp_*_all.deb"))
    if len(found) != 1:
        raise BuildError(f"the build left {len(found)} packages named pam-totp")
    return found[0]


def _install(base: Root, package: Path, directory: Path) -> None:
    # Not needed, nor are the packages that it needs, for `./run deb`.
    from tests.lab.machine import Machine

    cache.say(f"installing {package.name} in {base.suite} with apt")
    work = directory.with_name(directory.name + ".work")
    shutil.rmtree(work, ignore_errors=True)
    script = """
        apt-get install -q -y --no-install-recommends -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-unsafe-io "$1"
        apt-get clean
    """
    try:
        with Machine(base, upper=work) as machine:
            file = f"/run/lab/{package.name}"
            machine.write(file, package.read_bytes())
            machine.sh(f"set -e\n{script}", file, env={"DEBIAN_FRONTEND": "noninteractive"}, timeout=300)
        (work / "upper").rename(directory)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _give_to_owner(*paths: Path) -> None:
    """What root makes in somebody's checkout belongs to that somebody."""
    if os.geteuid() == 0:
        owner = CHECKOUT.stat()
        for path in paths:
            os.chown(path, owner.st_uid, owner.st_gid)


def main() -> None:
    """Build the package and say where it is."""
    print(deb().relative_to(CHECKOUT))


if __name__ == "__main__":
    main()
