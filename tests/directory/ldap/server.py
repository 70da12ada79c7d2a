"""A real slapd with TLS, in the machine where these tests run: people, groups, and some of Active Directory's marks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pam_totp.directory import certificates, config

if TYPE_CHECKING:
    from pathlib import Path

NAME = "ldap.example.org"
SUFFIX = "dc=example,dc=org"
PEOPLE, GROUPS = f"ou=people,{SUFFIX}", f"ou=groups,{SUFFIX}"
SEARCHER, SEARCHER_PASSWORD = f"cn=totp,{SUFFIX}", "the searcher's own"
# Allowed to see three entries, also in pages.
LIMITED = f"cn=limited,{SUFFIX}"
PASSWORD = "their own ldap password"
DISABLED = "(userAccountControl:1.2.840.113556.1.4.803:=2)"
# Names and numbers are our own; what they hold is what Active Directory's hold.
SCHEMA = """
attributetype ( 1.3.6.1.4.1.99999.1.1 NAME 'sAMAccountName' EQUALITY caseIgnoreMatch SUBSTR caseIgnoreSubstringsMatch
    SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.99999.1.2 NAME 'userAccountControl' EQUALITY integerMatch
    SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
objectclass ( 1.3.6.1.4.1.99999.2.1 NAME 'activeDirectoryLike' AUXILIARY MAY ( sAMAccountName $ userAccountControl ) )
"""
CONF = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include /etc/ldap/schema/nis.schema
include {place}/ad.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {place}/pid
TLSCertificateFile {place}/server.crt
TLSCertificateKeyFile {place}/server.key
# Nothing is said without TLS.
security tls=128
database mdb
suffix "{suffix}"
rootdn "cn=root,{suffix}"
directory {place}/data
limits dn.exact="{searcher}" size.prtotal=unlimited
limits dn.exact="{limited}" size.prtotal=3
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{searcher}" read by dn.exact="{limited}" read by anonymous auth by * none
"""


@dataclass(frozen=True)
class Someone:
    """An entry of a person."""

    uid: str
    number: int = 0
    more: str = ""
    password: str = PASSWORD
    mail: str = ""


def ldif(people: list[Someone], groups: str = "") -> str:
    """Everything that the server has."""
    text = f"""
dn: {SUFFIX}
objectClass: organization
objectClass: dcObject
o: Example
dc: example
"""
    for dn in (SEARCHER, LIMITED):
        text += f"""
dn: {dn}
objectClass: organizationalRole
objectClass: simpleSecurityObject
userPassword: {SEARCHER_PASSWORD}
"""
    for ou in ("people", "groups", "nothing"):
        text += f"\ndn: ou={ou},{SUFFIX}\nobjectClass: organizationalUnit\n"
    for each in people:
        text += f"""
dn: uid={each.uid},{PEOPLE}
objectClass: inetOrgPerson
objectClass: activeDirectoryLike
{"objectClass: posixAccount" if each.number else "objectClass: extensibleObject"}
uid: {each.uid}
cn: {each.uid.capitalize()} of Example
sn: {each.uid}
mail: {each.mail or each.uid + "@example.org"}
userPassword: {each.password}
"""
        if each.number:
            text += f"uidNumber: {each.number}\ngidNumber: 1\nhomeDirectory: /\n"
        text += each.more
    return text + groups


def group(name: str, *, uids: list[str] | None = None, members: list[str] | None = None) -> str:
    """The entry of a group of login names, or of DNs."""
    if members is not None:
        lines = "".join(f"member: {dn}\n" for dn in members)
        return f"\ndn: cn={name},{GROUPS}\nobjectClass: groupOfNames\n{lines}"
    lines = "".join(f"memberUid: {uid}\n" for uid in uids or [])
    return f"\ndn: cn={name},{GROUPS}\nobjectClass: posixGroup\ngidNumber: 7\n{lines}"


def dn(uid: str) -> str:
    """Whose entry is where."""
    return f"uid={uid},{PEOPLE}"


class Slapd:
    """The server. ``certified`` is the name that its certificate has."""

    def __init__(self, place: Path, certified: str = NAME) -> None:
        self.place = place
        self._process: subprocess.Popen[bytes] | None = None
        self._ids: dict[str, str] = {}
        (place / "data").mkdir()
        now = datetime.now(UTC)
        authority, authority_key = certificates.authority(certified, now)
        certificate, key = certificates.server(certified, authority, authority_key, now)
        words = {"place": place, "suffix": SUFFIX, "searcher": SEARCHER, "limited": LIMITED}
        for name, content in (
            ("ca.crt", authority),
            ("server.crt", certificate),
            ("server.key", key),
            ("ad.schema", SCHEMA.encode()),
            ("slapd.conf", CONF.format(**words).encode()),
        ):
            (place / name).write_bytes(content)
        self.port, self.tls_port = _free_port(), _free_port()
        with open("/etc/hosts", "r+", encoding="ascii") as hosts:
            if NAME not in hosts.read():
                hosts.write(f"127.0.0.1 {NAME}\n")

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._process is not None
        return self._process.pid

    def have(self, people: list[Someone], groups: str = "") -> None:
        """Have these and nobody else; an entry that comes back has the id that it had."""
        text = ldif(people, groups)
        self.stop()
        for file in (self.place / "data").iterdir():
            file.unlink()
        blocks = []
        for block in text.strip().split("\n\n"):
            ident = self._ids.setdefault(block.strip().partition("\n")[0], str(uuid.uuid4()))
            blocks.append(f"{block.strip()}\nentryUUID: {ident}")
        command = ["slapadd", "-q", "-f", f"{self.place}/slapd.conf"]
        done = subprocess.run(command, input="\n\n".join(blocks).encode(), check=False, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        self.start()

    def forget(self) -> None:
        """Have other ids for what comes next, as where it was made anew."""
        self._ids.clear()

    def start(self) -> None:
        """Run it, until it answers."""
        urls = f"ldap://127.0.0.1:{self.port} ldaps://127.0.0.1:{self.tls_port}"
        command = ["slapd", "-f", f"{self.place}/slapd.conf", "-h", urls, "-d", "0"]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5):
                return
            time.sleep(0.05)
        raise AssertionError("slapd does not start")

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            self._process.wait()
            self._process = None

    def hang(self) -> None:
        """Have it take connections and say nothing."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)  # until all of its threads have stopped, one of which may be answering

    def settings(self, *, tls: bool = True, **more: Any) -> config.Ldap:
        """What directory.toml says of it."""
        url = f"ldaps://{NAME}:{self.tls_port}" if tls else f"ldap://{NAME}:{self.port}"
        told = {"url": url, "ca": f"{self.place}/ca.crt", "people": PEOPLE}
        told |= {"bind_dn": SEARCHER, "bind_password": SEARCHER_PASSWORD}
        return config.of({"name": "dir.example.org", "ldap": told | more}).ldap


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
