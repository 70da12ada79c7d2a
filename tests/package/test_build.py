"""The package and the wheel as they are built: twice the same, by each suite's tools, and to lintian's liking."""

from __future__ import annotations

import base64
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab import package
from tests.lab.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.roots import Root

# Every tag there is, from pedantic to error.
LINTIAN = ("lintian", "--allow-root", "--pedantic", "--display-info", "--display-experimental")
# debian/control says why; and one tag that Debian 12's lintian has and we override, Debian 13's does not know any more.
EXPLAINED: dict[str, tuple[str, ...]] = {
    "bookworm": (),
    "trixie": ("--suppress-tags=out-of-date-standards-version,alien-tag",),
}
# Another time zone, language and home, and another directory, is what differs from the build that `deb` is from.
ELSEWHERE = {**package.ENVIRONMENT, "TZ": "Pacific/Kiritimati", "LANG": "C", "HOME": "/elsewhere", "USER": "nobody"}


@pytest.fixture(scope="module")
def workshop(workshop_root: Root, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine of the suite with the sources in /root/pam-totp."""
    tree = tmp_path_factory.mktemp("sources") / "pam-totp"
    package.copy(tree)
    archive = subprocess.check_output(["tar", "-C", tree.parent, "-c", "pam-totp"])
    with Machine(workshop_root) as machine:
        machine.write("/root/sources.tar", archive)
        machine.sh("tar -C /root -xf /root/sources.tar")
        yield machine


def test_a_second_build_is_the_same_to_the_byte(debs: tuple[Path, ...], tmp_path: Path) -> None:
    again = package.build(tmp_path, ELSEWHERE)
    first = (*debs, package.directory_deb())
    assert [each.name for each in again] == [each.name for each in first]
    assert [each.read_bytes() for each in again] == [each.read_bytes() for each in first]


def test_each_build_has_a_version_of_its_own(debs: tuple[Path, ...], tmp_path: Path) -> None:
    count, _, rest = package.identity(package.CHECKOUT).partition(".")
    [version] = {subprocess.check_output(["dpkg-deb", "-f", deb, "Version"], encoding="ascii").strip() for deb in debs}
    assert version == f"0.2.0~git{count}.{rest}"
    for other in ("0.1.0", "0.2.0~dev0", f"0.2.0~git{int(count) - 1}.fffffff"):
        subprocess.run(["dpkg", "--compare-versions", other, "lt", version], check=True)
    subprocess.run(["dpkg", "--compare-versions", version, "lt", "0.2.0"], check=True)
    subprocess.run(["dpkg-deb", "-x", debs[0], tmp_path], check=True)
    module = (tmp_path / "usr/lib/python3/dist-packages/pam_totp/__init__.py").read_text("utf-8")
    assert f'__version__ = "0.2.0.dev{count}+g{rest}"\n' in module


def test_what_is_changed_or_committed_is_another_build(tmp_path: Path) -> None:
    def commit() -> None:
        for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "another"]):
            subprocess.run(
                ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *words], cwd=tmp_path, check=True
            )

    def write(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="ascii")

    write("config/old", "old\n")
    commit()
    found = [package.identity(tmp_path)]
    for name, text in (("config/new", "one\n"), ("config/new", "another\n"), ("config/old", "new\n")):
        write(name, text)
        found.append(package.identity(tmp_path))
    commit()
    found.append(package.identity(tmp_path))
    assert len(set(found)) == len(found)
    assert [re.sub(r"[0-9a-f]{7}", "H", each) for each in found] == ["1.H", *["1.H.mH"] * 3, "2.H"]
    # What the package is not made of is of no consequence.
    write("tests/new", "")
    commit()
    assert package.identity(tmp_path) == found[-1]


def test_the_units_are_in_the_same_place_wherever_it_is_built(debs: tuple[Path, ...]) -> None:
    listing = subprocess.check_output(["dpkg-deb", "-c", debs[0]], encoding="utf-8")
    kinds = ("service", "socket", "path", "timer")
    units = {path.name for kind in kinds for path in (package.CHECKOUT / "debian").glob(f"pam-totp-*.{kind}")}
    assert set(re.findall(r" \./usr/lib/systemd/system/(\S+)$", listing, re.MULTILINE)) == units
    assert " ./lib/" not in listing


def test_lintian_finds_nothing(debs: tuple[Path, ...]) -> None:
    said = subprocess.run(
        [*LINTIAN, *debs, package.directory_deb()], check=False, stdout=subprocess.PIPE, encoding="utf-8"
    )
    assert (said.returncode, said.stdout) == (0, "")


def test_the_module_shows_its_hooks_alone_needs_libc_and_libpam_alone_and_is_hardened(
    debs: tuple[Path, ...], tmp_path: Path
) -> None:
    subprocess.run(["dpkg-deb", "-x", debs[1], tmp_path], check=True)
    triplet = subprocess.check_output(["dpkg-architecture", "-qDEB_HOST_MULTIARCH"], text=True).strip()
    [module] = tmp_path.rglob("*.so")
    # Beside that of another architecture: both can be installed.
    assert module.relative_to(tmp_path) == Path(f"usr/lib/{triplet}/security/pam_totp.so")
    assert subprocess.check_output(["dpkg-deb", "-f", debs[1], "Multi-Arch"], text=True) == "same\n"
    found = subprocess.check_output(["readelf", "--wide", "--dynamic", "--segments", "--dyn-syms", module], text=True)
    assert set(re.findall(r"\(NEEDED\).*\[(.*)\]", found)) == {"libpam.so.0", "libc.so.6"}
    hooks = ("authenticate", "setcred", "acct_mgmt", "open_session", "close_session", "chauthtok")
    assert set(re.findall(r"DEFAULT +\d+ (\w+)$", found, re.MULTILINE)) == {f"pam_sm_{hook}" for hook in hooks}
    assert "GNU_RELRO" in found
    assert "BIND_NOW" in found
    assert re.search(r"GNU_STACK.* RW ", found)
    # Built with a stack protector and with checked calls of libc.
    assert "__stack_chk_fail" in found
    assert re.search(r"__\w+_chk@", found)


@pytest.mark.full
def test_each_suite_builds_it_and_its_lintian_finds_nothing(workshop: Machine) -> None:
    workshop.sh("cd /root/pam-totp && dpkg-buildpackage --unsigned-source --unsigned-changes", timeout=180)
    said = workshop.sh('"$@" /root/*.changes', *LINTIAN, *EXPLAINED[workshop.suite], check=False, timeout=120)
    assert (said.returncode, said.stdout) == (0, "")


@pytest.mark.full
def test_what_is_built_here_is_upgraded_to_what_each_suite_builds_without_a_warning(
    workshop: Machine, base_root: Root, debs: tuple[Path, ...]
) -> None:
    """Debian 12 and 13 put units in different places, which are the same."""
    script = """
        set -e
        cp -r /root/pam-totp /root/newer && cd /root/newer
        sed -i '1s/(\\(.*\\))/(\\1+newer)/' debian/changelog
        DEB_BUILD_OPTIONS=noautodbgsym dpkg-buildpackage --build=binary --unsigned-source --unsigned-changes
        base64 ../pam-totp_*+newer_all.deb >/root/newer.0
        base64 ../libpam-totp_*+newer_*.deb >/root/newer.1
    """
    workshop.sh(script, timeout=180)
    with Machine(base_root) as machine:
        for number, deb in enumerate(debs):
            machine.write(f"/root/old.{number}.deb", deb.read_bytes())
            machine.write(f"/root/new.{number}.deb", base64.b64decode(workshop.read(f"/root/newer.{number}")))
        install = "apt-get -q -y --no-install-recommends -o Dpkg::Use-Pty=0 install /root/$1.0.deb /root/$1.1.deb 2>&1"
        for which in ("old", "new"):
            said = machine.sh(install, which, env={"DEBIAN_FRONTEND": "noninteractive"}, timeout=180).stdout
            assert "Setting up pam-totp" in said
            assert "dpkg: warning" not in said
        assert machine.run(["dpkg", "--verify", "pam-totp", "libpam-totp"]).stdout == ""


@pytest.mark.full
def test_run_deb_needs_no_more_than_it_installs(workshop: Machine) -> None:
    # The workshop has what `run` says is for building, and not what the lab needs: pexpect, for one.
    assert workshop.run(["/usr/bin/python3", "-c", "import pexpect"], check=False).returncode == 1
    lab = subprocess.check_output(["tar", "-C", package.CHECKOUT, "-c", "tests/__init__.py", "tests/lab"])
    workshop.write("/root/lab.tar", lab)
    workshop.sh(
        'mkdir /root/lab && tar -C /root/lab -xf /root/lab.tar && cd /root/lab && python3 -c "import tests.lab.package"'
    )


@pytest.mark.full
def test_pip_makes_the_command_from_the_checkout(workshop: Machine) -> None:
    script = """
        set -e
        python3 -m venv --system-site-packages /root/venv
        cp -r /root/pam-totp /root/wheel
        # Debian's PyNaCl needs less than its own metadata ask for.
        /root/venv/bin/pip install --no-index --no-build-isolation --no-deps -v /root/wheel 2>&1
        /root/venv/bin/python -c 'import nacl.bindings, pyotp, segno'
        /root/venv/bin/pam-totp --version
    """
    said = workshop.sh(script, timeout=120).stdout
    assert "SetuptoolsDeprecationWarning" not in said
    assert "0.2.0" in said.splitlines()[-1]
