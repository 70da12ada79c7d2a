"""Trees in directories and tar files, as on a stick that anybody may have written."""

from __future__ import annotations

import io
import os
import tarfile
from typing import TYPE_CHECKING

import pytest

from pam_totp.errors import FleetError
from pam_totp.fleet import sources, sync, tree
from tests.lab.directory import person

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.member import Member
    from tests.unit.pretend import Host

SECRET = bytes(range(20))


def packed(path: Path, members: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.type = kind
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("inner", [True, False])
def test_a_directory_is_taken_as_the_directory_s_own_server(member: Member, host: Host, inner: bool) -> None:
    member.publish([person("alice", SECRET)])
    folder = member.directory.folder / "tree"
    source = sources.FolderTree(str(folder / member.identifier if inner else folder), member.identifier)
    assert sync.run(host.paths, source, host.now(), 1).merged == ["alice"]
    assert host.login("alice", host.wrong(SECRET)).verdict == "refused"


@pytest.mark.parametrize("prefix", ["", "./", "tree/{}/", "{}/", "./{}/"])
def test_a_tar_file_is_taken_however_it_was_packed(member: Member, host: Host, tmp_path: Path, prefix: str) -> None:
    member.publish([person("alice", SECRET)])
    folder = member.directory.folder / "tree" / member.identifier
    before = prefix.format(member.identifier)
    members = {f"{before}{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    source = sources.TarTree(str(packed(tmp_path / "a.tar", members)), member.identifier)
    assert sync.run(host.paths, source, host.now(), 1).merged == ["alice"]


def test_what_is_missing_in_it_is_said(tmp_path: Path) -> None:
    source = sources.TarTree(str(packed(tmp_path / "a.tar", {"other": b""})), "a" * 32)
    for ask in (source.manifest, lambda: source.thing("b" * 64)):
        with pytest.raises(FleetError, match="does not hold"):
            ask()


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("manifest", b"x", tarfile.SYMTYPE),
        ("manifest", b"x", tarfile.FIFOTYPE),
        ("manifest", b"x", tarfile.LNKTYPE),
        ("../manifest", b"x", tarfile.REGTYPE),
        ("objects", b"x", tarfile.DIRTYPE),
    ],
)
def test_what_is_no_plain_file_of_the_tree_is_passed_over(
    tmp_path: Path, name: str, content: bytes, kind: bytes
) -> None:
    source = sources.TarTree(str(packed(tmp_path / "a.tar", {name: content}, kind)), "a" * 32)
    with pytest.raises(FleetError):
        source.manifest()


def test_a_tar_file_that_is_none_is_too_large_or_is_compressed_is_refused(tmp_path: Path) -> None:
    large = packed(tmp_path / "large.tar", {f"objects/{'a' * 64}": bytes(tree.BUNDLE_LIMIT + 1)})
    rubbish = tmp_path / "rubbish.tar"
    rubbish.write_bytes(os.urandom(5000))
    packed_small = tmp_path / "small.tar.gz"
    with tarfile.open(packed_small, "w:gz"):
        pass
    for path in (large, rubbish, packed_small, tmp_path / "nowhere.tar"):
        with pytest.raises(FleetError):
            sources.TarTree(str(path), "a" * 32)


def test_neither_links_nor_devices_nor_huge_files_of_a_directory_are_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    source = sources.FolderTree(str(tmp_path), "a" * 32)
    place = tmp_path / "manifest"
    place.symlink_to("secret")
    with pytest.raises(FleetError):
        source.manifest()
    place.unlink()
    os.mkfifo(place)
    with pytest.raises(FleetError):
        source.manifest()
    place.unlink()
    with place.open("wb") as file:
        file.truncate(tree.MANIFEST_LIMIT + 1)
    with pytest.raises(FleetError, match="larger"):
        source.manifest()


def test_the_stick_of_another_host_is_refused(member: Member, host: Host, tmp_path: Path) -> None:
    from pam_totp.fleet import membership

    other = type(host)(f"{host.root}/other")
    token = tree.parse_token(member.directory.token())
    identity = membership.join(other.paths, member.directory.url, token, "other", other.now())
    member.directory.publish([person("alice", SECRET)], host=identity.host)
    source = sources.FolderTree(str(member.directory.folder / "tree" / identity.host), member.identifier)
    with pytest.raises(FleetError) as caught:
        sync.run(host.paths, source, host.now(), 1)
    assert caught.value.reason == "fleet-host"
    assert host.login("alice").verdict == "skipped"
