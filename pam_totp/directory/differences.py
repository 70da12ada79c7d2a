"""What a host's folder of the tree lacks, and what it is to have instead.

What a change costs follows from what has changed, and not from how many people there are: the database says with which
edition of its content a host was published for, and only what differs is read, sealed and written. Where the folder is
not as the database says, everything is made anew.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pam_totp.directory.keeper import client
from pam_totp.errors import FleetError
from pam_totp.fleet import tree

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pam_totp.directory.models import Host

    Fields = dict[str, Any]

MANIFEST = "manifest"
OBJECTS = "objects"
# So many records in files of their own after a bundle, and dropped ones, make a new bundle; and up to as many again, so
# that not all hosts get theirs with the same change.
APART = 64


@dataclass(frozen=True)
class Content:
    """What the hosts of one group are to have. ``digests`` are of each person's, by number, and of the policy ("")."""

    records: dict[int, Fields]
    policy: Fields
    digests: dict[str, str]


@dataclass(frozen=True)
class Differing:
    """For whom content differs from an edition of it; ``before``: how many of them are in the edition."""

    people: frozenset[int]
    before: int
    policy: bool


@dataclass(frozen=True)
class Sealed:
    """What is to be written for a host, in this order.

    ``rows`` of Published go, all of the host's where that is None, and ``made`` are the files in their place.
    """

    host: Host
    folder: str
    files: dict[str, bytes]
    manifest: bytes
    rows: list[int] | None
    made: dict[int, str]
    ceased: set[str]
    unneeded: set[str]


def differing(before: Mapping[str, str], now: Mapping[str, str]) -> Differing:
    """How content differs from an edition; both are digests."""
    names = {each for each in before.keys() | now.keys() if before.get(each) != now.get(each)}
    people = names - {""}
    return Differing(frozenset(map(int, people)), len(people & before.keys()), "" in names)


def in_place(host: Host, folder: str, there: set[str] | None = None) -> tree.Manifest | None:
    """The manifest in a host's folder, if it is the one that the database says, and its files are ``there``.

    No two manifests of a host have one number. The signature is not looked at: who can write here can write the
    database as well.
    """
    try:
        with open(os.path.join(folder, MANIFEST), "rb") as file:
            found = tree.read_manifest(file.read())
    except (OSError, FleetError):
        return None
    known = (found.epoch, found.sequence) == (host.epoch, host.sequence)
    return found if known and (_names(folder) if there is None else there).issuperset(found.files) else None


class Lack:
    """What one host lacks. ``weight``: how many records have to be handled for it, at most.

    ``differing`` is None where everything is to be made anew; ``fresh`` are the people whose records are to be sealed.
    """

    fresh: list[int]
    _keep: set[str]
    _dropped: set[str]
    _bundle: str | None
    _policy: str | None
    _rows: list[int] | None
    _carried: dict[str, bytes] | None

    def __init__(self, host: Host, folder: str, content: Content, differing: Differing | None) -> None:
        self.host = host
        self._folder = folder
        self._people = content.records
        self._there = _names(folder)
        self._before = None if differing is None else in_place(host, folder, self._there)
        self.differing = None if self._before is None else differing
        self._most = APART + int(host.ident[:2], 16) % APART
        self.weight = max(1, len(self._people))
        if self._before is not None and differing is not None:
            apart = len(self._before.records) + len(self._before.dropped) + 2 * len(differing.people)
            self.weight = min(self.weight, max(1, apart)) if apart <= self._most else self.weight

    def take(self, rows: list[tuple[int, str]]) -> None:
        """Decide what is to be done. ``rows`` are those of Published, number and file, of all for whom it differs."""
        before, differing, files = self._before, self.differing, {file for _, file in rows}
        self._begin_anew()
        if before is not None and differing is not None and len(rows) == differing.before:
            dropped = files.union(before.dropped).difference(before.records)
            if not dropped or before.bundle is not None:
                self.fresh = [person for person in self._people if person in differing.people]
                self._keep, self._dropped, self._bundle = set(before.records) - files, dropped, before.bundle
                self._policy = None if differing.policy else before.policy
                self._rows = [row for row, _ in rows]
        if self._rows is None:
            self.weight = max(1, len(self._people))
        self._carried = None  # of what was before, what goes into a new bundle
        # Where everything is made anew, one file is made in place of many.
        most = 1 if self._rows is None else self._most
        if len(self.fresh) + len(self._keep) + len(self._dropped) > most:
            try:
                self._carried = self._all()
            except (OSError, FleetError):  # what was there is damaged
                self._begin_anew()
                self._carried = {}

    def _begin_anew(self) -> None:
        """Use nothing of what is there."""
        self.fresh = list(self._people)
        self._keep, self._dropped = set(), set()
        self._bundle = self._policy = self._rows = None

    def _all(self) -> dict[str, bytes]:
        """What stays in force, wherever it is."""
        found = {} if self._bundle is None else tree.unbundle(self._object(self._bundle), self._bundle)
        for name in self._keep:
            found[name] = self._object(name)
            tree.check_object(found[name], name)
        return {name: each for name, each in found.items() if name not in self._dropped}

    def _object(self, name: str) -> bytes:
        with open(os.path.join(self._folder, OBJECTS, name), "rb") as file:
            return file.read()

    def asked(self, numbers: Mapping[int, int]) -> Fields:
        """What the keeper is asked to do; ``numbers`` are those of the people's records in the request."""
        asked = {
            "host": self.host.ident,
            "fresh": [numbers[person] for person in self.fresh],
            "keep_policy": self._policy,
        }
        if self._carried is not None:
            return asked | {"keep": sorted(self._carried), "bundle": True, "dropped": []}
        return asked | {"keep": sorted(self._keep), "bundle": self._bundle, "dropped": sorted(self._dropped)}

    def done(self, answer: Fields) -> Sealed:
        """What is to be written, with the keeper's answer. Raises FleetError where no host would take it."""
        contents = [client.content(each) for each in answer["records"]]
        made = dict(zip(self.fresh, map(tree.digest, contents), strict=True))
        files = dict(zip(made.values(), contents, strict=True))
        if self._carried is None:
            kept = self._keep | ({self._bundle} if self._bundle is not None else set())
        else:
            files |= self._carried
            bundle, kept = tree.bundle(files), set[str]()
            if len(bundle) > tree.BUNDLE_LIMIT:
                most = f"{tree.BUNDLE_LIMIT >> 20} MiB"
                raise FleetError(f"its people's records are more than {most}: let fewer groups use it", "fleet-size")
            files = {tree.bundle_name(files): bundle} if files else {}
        if answer["policy"] is not None:
            policy = client.content(answer["policy"])
            files[tree.digest(policy)] = policy
        elif self._policy is not None:
            kept = kept | {self._policy}
        needed = kept | files.keys()
        # Where everything is made anew, whatever is there may have been in force.
        ceased = (self._there if self._rows is None or self._before is None else set(self._before.files)) - needed
        manifest = client.content(answer["manifest"])
        return Sealed(self.host, self._folder, files, manifest, self._rows, made, ceased, self._there - needed)


def _names(folder: str) -> set[str]:
    try:
        return set(os.listdir(os.path.join(folder, OBJECTS)))
    except FileNotFoundError:
        return set()
