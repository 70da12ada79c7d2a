"""The Debian packages: built from this checkout when a source of them has changed, and installed in a root."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab import cache
from tests.lab.roots import Root, root

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CHECKOUT = Path(__file__).resolve().parents[2]
DIST = CHECKOUT / "dist"
# The command and the logic; the module that PAM loads; the directory, which hosts have not.
PACKAGES = ("pam-totp_*_all.deb", "libpam-totp_*.deb", "pam-totp-directory_*_all.deb")
FOR_HOSTS = 2
SOURCES = ("LICENSE", "pyproject.toml", "README.md", "config", "debian", "docs", "pam_totp")
# Between two releases the sources have these versions, for Debian and for Python; each build has its own instead.
NEXT = re.compile(r"\b(?P<next>\d+\.\d+\.\d+)(?P<dev>~dev0|\.dev0)\b")
NAMED = ("debian/changelog", "pyproject.toml", "pam_totp/__init__.py")


# The distribution's own programs build them, whatever else is on this machine; without packages of debugging symbols.
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/nonexistent",
    "LANG": "C.UTF-8",
    "DEB_BUILD_OPTIONS": "noautodbgsym",
}


class BuildError(Exception):
    """The packages could not be built."""


def debs() -> tuple[Path, ...]:
    """The packages for hosts: pam-totp first. Raises BuildError."""
    return _built()[:FOR_HOSTS]


def directory_deb() -> Path:
    """The package of the directory. Raises BuildError."""
    return _built()[FOR_HOSTS]


def _built() -> tuple[Path, ...]:
    """Build the packages in dist/, unless they are there and made of the same sources. Raises BuildError."""
    DIST.mkdir(exist_ok=True)
    give_to_owner(DIST)
    with cache.locked(DIST / ".lock"):
        files = _files()
        key = cache.digest(identity(CHECKOUT), *(part for file in files for part in _content(file)))
        kept = DIST / ".sources"
        if (
            kept.is_file()
            and kept.read_text(encoding="ascii") == key
            and len(list(DIST.glob("*.deb"))) == len(PACKAGES)
        ):
            return _found(DIST)
        kept.unlink(missing_ok=True)
        for old in DIST.glob("*.deb"):
            old.unlink()
        with tempfile.TemporaryDirectory(prefix="pam-totp-build-") as directory:
            cache.say("building the packages")
            for package in build(Path(directory)):
                shutil.copy(package, DIST)
        kept.write_text(key, encoding="ascii")
        give_to_owner(*DIST.iterdir())
        return _found(DIST)


def installed(suite: str, packages: Sequence[Path], more: tuple[str, ...] = ()) -> Root:
    """The base root of a suite with the packages installed by its own apt, without a network.

    With `more` packages of Debian it is the root that has these too.
    """
    base = root(suite, more)
    layers = cache.home() / "layers"
    directory = (
        layers / f"{base.suite}-{cache.digest(base.layers[0].name, *(package.read_bytes() for package in packages))}"
    )
    cache.kept(directory, lambda unfinished: _install(base, packages, unfinished))
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
    """Copy what the package is made of, and give it the version of this build."""
    for file in _files():
        (tree / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(CHECKOUT / file, tree / file)
    count, _, rest = identity(CHECKOUT).partition(".")
    versions = {"~dev0": f"~git{count}.{rest}", ".dev0": f".dev{count}+g{rest}"}
    for name in NAMED:
        text = (tree / name).read_text(encoding="utf-8")
        named = NEXT.sub(lambda found: found["next"] + versions[found["dev"]], text, count=1)
        (tree / name).write_text(named, encoding="utf-8")


def identity(checkout: Path) -> str:
    """What tells this build from others: COUNT.HASH of the latest commit that changed what the package is made of.

    Then a digest, where some of that is not committed.
    """
    git = ["git", "-c", f"safe.directory={checkout}", "-C", str(checkout)]

    def ask(*words: str) -> str:
        return subprocess.run([*git, *words], check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout.strip()

    commit = ask("log", "-1", "--format=%H", "--", *SOURCES)
    found = f"{ask('rev-list', '--count', commit)}.{commit[:7]}"
    if not ask("status", "--porcelain", "--", *SOURCES):
        return found
    untracked = ask("ls-files", "--others", "--exclude-standard", "--", *SOURCES).splitlines()
    changes = [ask("diff", "HEAD", "--", *SOURCES), *(str((checkout / name).read_bytes()) for name in untracked)]
    return f"{found}.m{cache.digest(*changes)[:7]}"


def build(directory: Path, environment: Mapping[str, str] = ENVIRONMENT) -> tuple[Path, ...]:
    """Build the packages in `directory` and return them, pam-totp first. Raises BuildError."""
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
    return _found(directory)


def _found(directory: Path) -> tuple[Path, ...]:
    found = [sorted(directory.glob(pattern)) for pattern in PACKAGES]
    if any(len(each) != 1 for each in found):
        raise BuildError(f"the build left {[path.name for each in found for path in each]}")
    return tuple(path for each in found for path in each)


def _install(base: Root, packages: Sequence[Path], directory: Path) -> None:
    # Not needed, nor are the packages that it needs, for `./run deb`.
    from tests.lab.machine import Machine

    cache.say(f"installing {', '.join(package.name for package in packages)} in {base.suite} with apt")
    work = directory.with_name(directory.name + ".work")
    shutil.rmtree(work, ignore_errors=True)
    script = """
        apt-get install -q -y --no-install-recommends -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-unsafe-io "$@"
        apt-get clean
    """
    try:
        with Machine(base, upper=work) as machine:
            files = [f"/run/lab/{package.name}" for package in packages]
            for file, package in zip(files, packages, strict=True):
                machine.write(file, package.read_bytes())
            machine.sh(f"set -e\n{script}", *files, env={"DEBIAN_FRONTEND": "noninteractive"}, timeout=300)
        (work / "upper").rename(directory)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def give_to_owner(*paths: Path) -> None:
    """What root makes in somebody's checkout belongs to that somebody."""
    if os.geteuid() == 0:
        owner = CHECKOUT.stat()
        for path in paths:
            os.chown(path, owner.st_uid, owner.st_gid)


def main() -> None:
    """Build the packages and say where they are."""
    for package in _built():
        print(package.relative_to(CHECKOUT))


if __name__ == "__main__":
    main()
