"""Package sources for a Debian root: the machine's own, with another suite's name where one is wanted."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

FIELDS = ("ORIGIN", "CODENAME", "COMPONENT", "REPO_URI", "SOURCESENTRY")


class NoSourcesError(Exception):
    """apt knows no Debian archive on this machine."""


@dataclass(frozen=True)
class Source:
    """One archive that apt knows: where it is, and the keys that sign it ("" for apt's default keys)."""

    uri: str
    suite: str
    component: str
    signed_by: str


def own_suite() -> str:
    """The code name of this machine's Debian release."""
    for line in Path("/etc/os-release").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition("=")
        if name == "VERSION_CODENAME":
            return value.strip('"')
    raise NoSourcesError("/etc/os-release names no VERSION_CODENAME")


def sources_for(suite: str) -> str:
    """The machine's Debian archives as apt's deb822 text, for `suite`."""
    found = _sources() or _sources(update=True)
    if not found:
        raise NoSourcesError("apt knows no Debian archive here: check /etc/apt/sources.list* and run `apt-get update`")
    own = own_suite()
    stanzas: dict[tuple[str, str, str], list[str]] = {}
    for source in found:
        name = suite + source.suite.removeprefix(own)
        components = stanzas.setdefault((source.uri, name, source.signed_by), [])
        if source.component not in components:
            components.append(source.component)
    return "\n".join(
        f"Types: deb\nURIs: {uri}\nSuites: {name}\nComponents: {' '.join(components)}\n"
        + (f"Signed-By: {signed_by}\n" if signed_by else "")
        for (uri, name, signed_by), components in stanzas.items()
    )


def transport_options() -> list[str]:
    """How this machine's apt reaches its archives (proxies and the like), as lines of apt.conf."""
    dump = _output(["apt-config", "dump", "Acquire"])
    wanted = ("Acquire::http", "Acquire::https", "Acquire::Check-", "Acquire::Retries", "Acquire::ForceIPv")
    return [line for line in dump.splitlines() if line.startswith(wanted) and not line.endswith('"";')]


def _sources(*, update: bool = False) -> list[Source]:
    if update:
        subprocess.run(["apt-get", "-q", "update"], check=True, stdout=subprocess.DEVNULL)
    layout = "|".join(f"$({field})" for field in FIELDS)
    listing = _output(["apt-get", "indextargets", "--format", layout, "Created-By: Packages"])
    return list(parse(listing, own_suite()))


def parse(listing: str, own: str) -> Iterable[Source]:
    """The archives in apt's list of index files that are Debian's and of the machine's own release."""
    for line in listing.splitlines():
        values = line.split("|")
        if len(values) != len(FIELDS):
            continue
        origin, codename, component, uri, entry = values
        if origin == "Debian" and codename in {own, f"{own}-updates", f"{own}-security"}:
            file, _, number = entry.rpartition(":")
            yield Source(uri, codename, component, signed_by(Path(file), int(number)))


def signed_by(file: Path, number: int) -> str:
    """The keys that sign an entry of a sources file: apt counts stanzas in .sources files and lines in .list files."""
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".sources":
        _, _, options = text.splitlines()[number - 1].partition("[")
        settings = dict(word.partition("=")[::2] for word in options.partition("]")[0].split())
        return settings.get("signed-by", "").replace(",", " ")
    stanzas = [stanza for stanza in _stanzas(text) if stanza]
    value: list[str] = []
    inside = False
    for line in stanzas[number - 1]:
        if not line.startswith((" ", "\t")):
            key, _, rest = line.partition(":")
            inside = key.lower() == "signed-by"
            if inside:
                value.append(rest.strip())
        elif inside:
            value.append(line)
    return "\n".join(value)


def _stanzas(text: str) -> list[list[str]]:
    stanzas: list[list[str]] = [[]]
    for line in text.splitlines():
        if not line.strip():
            stanzas.append([])
        elif not line.startswith("#"):
            stanzas[-1].append(line)
    return stanzas


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout
