"""FreeRADIUS 3.2: a virtual server that checks the password as the site does and asks the verify service for the code.

A NAS comes to it by lines of its own in ``clients.conf``; every other one stays with the site's servers.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from pam_totp.errors import UsageError
from pam_totp.host import programs, systemd
from pam_totp.host.pinned import SetupError
from pam_totp.host.rewrite import State
from pam_totp.verify import clients
from pam_totp.verify.clients import Client
from pam_totp.verify.setup import Program

PLACE = "/etc/freeradius/3.0"
# The module that asks over HTTP, of the package freeradius-rest.
REST = "/usr/lib/freeradius/rlm_rest.so"
UNIT = "freeradius.service"
# How the site checks a password: what its virtual server has in "authorize", and in "authenticate".
MODULES = {
    "pam": ((), "pam"),
    "ldap": (("ldap",), "ldap"),
    "sql": (("sql", "pap"), "pap"),
    "files": (("files", "pap"), "pap"),
}
# Whether a NAS asks for codes: not, of who is enrolled, or of everybody.
MODES = ("off", "enrolled", "required")
# How a NAS brings the code: in a step of its own, behind the password, or so in an EAP tunnel.
WAYS = ("challenge", "one-field", "eap")
# A NAS that sends no Message-Authenticator.
UNSIGNED = "unsigned"
ENROLLED, REQUIRED = "freeradius-enrolled", "freeradius-required"
SERVICE = "radius"
# What is typed behind a password: a code, or a recovery code exactly as it is shown.
_CODE = "[0-9]{6}|[A-Za-z2-9]{5}-[A-Za-z2-9]{5}"
_MARK = "# pam-totp verify setup"
_SECTION = re.compile(r'^[ \t]*client[ \t]+"?([^\s"{]+)"?[ \t]*\{[ \t]*(?:#.*)?$')
_OURS = re.compile(rf"^\s*(\w+) = (\S+)\s+{_MARK}$")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_totp.host.arrange import Changes
    from pam_totp.host.paths import Paths

    NasTable = dict[str, "Nas"]


class Nas(NamedTuple):
    """A NAS: one of ``MODES``, one of ``WAYS``, and whether its packets have to be signed."""

    mode: str
    way: str = "challenge"
    signed: bool = True

    def __str__(self) -> str:
        return ", ".join((self.mode, self.way, *(() if self.signed else (UNSIGNED,))))

    @property
    def items(self) -> tuple[str, ...]:
        """Its items in ``clients.conf``."""
        if self.mode == "off":
            return ()
        signed = "yes" if self.signed else "no"
        return (
            *("virtual_server = pam-totp", f"require_message_authenticator = {signed}"),
            *(f"pam_totp = {self.mode}", f"pam_totp_code = {self.way}"),
        )


class FreeRadius(Program):
    """FreeRADIUS as it is to be. What is not given stays as it was set up before, or has its default.

    module     one of ``MODULES``
    wishes     NAME, or NAME=MODE with words after a comma, each for a client of ``clients.conf``
    address    where the verify service listens, on loopback
    """

    name = "freeradius"

    def __init__(
        self,
        module: str | None,
        wishes: list[str],
        address: str | None,
        identity: str | None,
        services: list[str] | None,
    ) -> None:
        self._module = module
        self._wishes = dict(map(_wish, wishes))
        self._address = address
        self._identity = identity
        self._services = services
        self._nas: NasTable = {}
        self._runs = False
        self.place = PLACE
        try:
            status = os.stat(self.place)
        except FileNotFoundError:
            self._there = False
        else:
            self._there = True
            self.owner, self._group = status.st_uid, status.st_gid

    def _path(self, name: str) -> str:
        return f"{self.place}/{name}"

    def hidden(self, path: str) -> str:
        """The tokens are FreeRADIUS's alone; of a client of the verify service there is nothing to see."""
        if path == self._path("mods-config/pam-totp"):
            return "the tokens, for FreeRADIUS alone"
        return f"a client of the verify service, {os.path.basename(path)[:-5]}" if path.endswith(".json") else ""

    def without(self, path: str, text: str) -> str | None:
        """Of the files, ``clients.conf`` is the site's, too."""
        return without(text) if path == self._path("clients.conf") else None

    def changes(self, paths: Paths) -> Changes:
        """What has to be written, in an order in which each file finds those that it names."""
        if not self._there:
            raise SetupError(f"{self.place} is missing: apt install freeradius freeradius-rest")
        if not os.path.exists(REST):
            raise SetupError("FreeRADIUS has no module to ask over HTTP with: apt install freeradius-rest")
        names = ("mods-config/pam-totp", "mods-available/pam-totp", "sites-available/pam-totp", "clients.conf")
        links = {f"{kind}-enabled/pam-totp": f"../{kind}-available/pam-totp" for kind in ("mods", "sites")}
        olds = {name: self.look(self._path(name), paths) for name in (*names, *links)}
        if olds["clients.conf"].content is None:
            raise SetupError(f"{self._path('clients.conf')} is missing: FreeRADIUS has to be installed first")
        found = self._clients(olds["mods-config/pam-totp"].text, paths)
        text = with_nas(olds["clients.conf"].text, self._wishes)
        self._nas = nas_of(text)
        module = self._module_of(olds["sites-available/pam-totp"].text)
        with_eap = any(nas.way == "eap" for nas in self._nas.values())
        if with_eap:
            self._check_eap(paths)
        texts = {
            "mods-available/pam-totp": mod(self._address_of(olds["mods-available/pam-totp"].text)),
            "sites-available/pam-totp": site(module, with_eap=with_eap),
        }
        tokens = "".join(f'{name} = "{token}"\n' for name, (_, token) in found.items())
        news = {"mods-config/pam-totp": self._file(tokens, 0o400 if self.owner else 0o440)}
        news |= {name: self._file(text, 0o640) for name, text in texts.items()}
        changes = {self._path(name): (olds[name], new) for name, new in news.items()}
        for name, (content, _) in found.items():
            path = clients.path_of(_NAMES[name], paths)
            changes[path] = (self.look(path, paths), State(content, 0o600, paths.owner, os.getegid()))
        for name, target in links.items():
            changes[self._path(name)] = (olds[name], State(link=target))
        changes[self._path("clients.conf")] = (olds["clients.conf"], olds["clients.conf"].with_text(text))
        return {path: (old, new) for path, (old, new) in changes.items() if old != new}

    def _file(self, text: str, mode: int) -> State:
        return State(text.encode("utf-8"), mode, self.owner, self._group)

    def _clients(self, tokens: str, paths: Paths) -> dict[str, tuple[bytes, str]]:
        """For each mode the file of its client in the verify service, and the token; both stay where they fit."""
        kept = dict(re.findall(r'^(\w+) = "(\S+)"$', tokens, re.MULTILINE))
        found = {}
        for mode, name in _NAMES.items():
            old = clients.load(name, paths)
            services = self._services or (old.services if old else [SERVICE])
            identity = self._identity or (old.identity if old else "nss")
            client = Client(name, services, identity, may_know=name == ENROLLED)
            clients.check(name, services)
            token = kept.get(mode, "")
            if old is not None and clients.with_token(token, paths) is not None and token.startswith(f"{name}."):
                client.digest = old.digest
            else:
                token = clients.give_token(client)
            found[mode] = (clients.content(client), token)
        return found

    def _module_of(self, former: str) -> str:
        said = re.search(r"^# The password is checked by (\w+)\.$", former, re.MULTILINE)
        module = self._module or (said[1] if said else None)
        if module is None:
            raise UsageError("say how the site checks a password: add --module pam, ldap, sql or files")
        lookups, check = MODULES[module]
        for name in dict.fromkeys((*lookups, check)):
            if not os.path.exists(self._path(f"mods-enabled/{name}")):
                raise SetupError(
                    f"FreeRADIUS's module {name} is not enabled: set it up in {self._path(f'mods-available/{name}')}, "
                    f"and run ln -s ../mods-available/{name} {self._path('mods-enabled/')}"
                )
        return module

    def _address_of(self, former: str) -> str:
        said = re.search(r'connect_uri = "http://(\S+)"', former)
        address = self._address or (said[1] if said else None)
        if address is None:
            raise SetupError(
                "the verify service is not on, or not where FreeRADIUS can ask it: "
                "run pam-totp verify enable --listen 127.0.0.1:722"
            )
        return address

    def _check_eap(self, paths: Paths) -> None:
        """Refuse what cannot carry a code. Raises SetupError."""
        path = self._path("mods-enabled/eap")
        state = self.look(os.path.realpath(path), paths)
        if state.content is None:
            raise SetupError("EAP is not enabled: set up mods-available/eap, and link it in mods-enabled")
        kind = item(state.text, "eap", "peap", "default_eap_type") or "mschapv2"
        if kind != "gtc":
            raise SetupError(
                f"PEAP proposes {kind} here, which never sends what the user types, so it has no code to check: "
                f"write default_eap_type = gtc into the section peap of {path}, and have the devices use PEAP with "
                "GTC, or EAP-TTLS with PAP"
            )

    def notes(self) -> list[str]:
        """Who comes to it, and what cannot."""
        found = [f"{name}: {nas}" for name, nas in self._nas.items()]
        notes = ["NAS with codes:\n  " + "\n  ".join(found)] if found else []
        if not found:
            notes.append("No NAS asks for codes yet: add --nas NAME=required, with a name of clients.conf.")
        if os.path.exists(self._path("mods-enabled/mschap")):
            notes.append(
                "MS-CHAPv2 never sends what the user types, so it can carry no code. Where a NAS above uses it,\n"
                "logins are refused: have it use PAP, best in a tunnel, or EAP-TTLS with PAP, or PEAP with GTC."
            )
        return notes

    def check(self) -> None:
        """``freeradius -XC``, as its own user: who can change its settings can have it load anything."""
        if not self._there:
            return
        itself = ("setpriv", f"--reuid={self.owner}", f"--regid={self._group}", "--init-groups", "--")
        code, said = programs.answered("", *(itself if self.owner else ()), "freeradius", "-XC")
        if code:
            lines = [line for line in said.splitlines() if line.strip()]
            wrong = [line for line in lines if line.startswith(self.place) or "rror" in line or "Failed" in line]
            raise SetupError(f"freeradius -XC says: {'; '.join((wrong or lines)[-4:])}")

    def restart(self) -> str:
        """It takes new modules at a start only."""
        # One that has not come up with settings that are now taken back is to run again, whatever state it is in.
        self._runs = systemd.running() and (self._runs or systemd.active(UNIT))
        if not self._runs:
            return ""
        programs.run("systemctl", "restart", UNIT)
        return "it was restarted"


_NAMES = {"enrolled": ENROLLED, "required": REQUIRED}


# -- clients.conf


def _wish(text: str) -> tuple[str, Nas]:
    """The name of a NAS, and what is wanted of it. Raises UsageError."""
    name, _, said = text.partition("=")
    mode, *words = (said or "required").split(",")
    ways = [word for word in words if word != UNSIGNED]
    if not name or mode not in MODES or len(ways) > 1 or not set(ways) <= set(WAYS) or len(words) > len(ways) + 1:
        raise UsageError(
            f"--nas {text!r}: write NAME=MODE, with a mode of {', '.join(MODES)}, and if need be after a comma "
            f"{', '.join(WAYS)} or {UNSIGNED}"
        )
    return name, Nas(mode, ways[0] if ways else WAYS[0], UNSIGNED not in words)


def nas_of(text: str) -> NasTable:
    """Each client that ``with_nas`` has written lines for."""
    found: dict[str, dict[str, str]] = {}
    name = ""
    for line in text.split("\n"):
        if section := _SECTION.match(line):
            name = section[1]
        elif ours := _OURS.match(line):
            found.setdefault(name, {})[ours[1]] = ours[2]
    return {
        name: Nas(
            items.get("pam_totp", ""), items.get("pam_totp_code", ""), items["require_message_authenticator"] != "no"
        )
        for name, items in found.items()
        if "require_message_authenticator" in items
    }


def without(text: str) -> str:
    """``clients.conf`` without lines of ours."""
    return "\n".join(line for line in text.split("\n") if not _OURS.match(line))


def with_nas(text: str, wishes: NasTable) -> str:
    """``clients.conf`` with lines for each client: those of before, but for what is wished. Raises UsageError.

    They are the first in its section: FreeRADIUS takes the first of two items of one name.
    """
    wanted = {**nas_of(text), **wishes}
    lines = []
    names = set()
    for line in without(text).split("\n"):
        lines.append(line)
        section = _SECTION.match(line)
        if section is None:
            continue
        names.add(section[1])
        nas = wanted.get(section[1])
        lines += [f"\t{each} {_MARK}" for each in nas.items] if nas else []
    if unknown := wishes.keys() - names:
        raise UsageError(
            f"clients.conf has no section client {min(unknown)} {{ with its items on lines of their own; "
            f"there is {', '.join(sorted(names)) or 'none'}"
        )
    return "\n".join(lines)


def item(text: str, *names: str) -> str | None:
    """The value of an item in nested sections of a file of FreeRADIUS's; None where it has none."""
    sections: list[str] = []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if words[-1:] == ["{"]:
            sections.append(words[0])
        elif words[:1] == ["}"]:
            del sections[-1:]
        elif [*sections, *words[:1]] == list(names) and words[1:2] == ["="]:
            return " ".join(words[2:]).strip("\"'")
    return None


# -- what is written

_HEAD = """\
# Written by pam-totp verify setup freeradius, which writes it anew whenever it is run.
"""
_INSTANCE = """
rest pam_totp_{name} {{
	$INCLUDE ${{confdir}}/mods-config/pam-totp
	connect_uri = "http://{address}"
	connect_timeout = 2.0
	authorize {{
		uri = "${{..connect_uri}}/v1/{path}"
		method = 'post'
		body = 'json'
		data = '{data}'
		# The answer is not taken for attributes.
		force_to = 'plain'
		auth = 'basic'
		username = 'pam-totp'
		password = "${{..{token}}}"
		timeout = 5.0
	}}
	pool {{
		# It begins without the service, and refuses while that is down.
		start = 0
		min = 0
		max = ${{thread[pool].max_servers}}
		spare = 1
		uses = 0
		retry_delay = 1
		idle_timeout = 50
	}}
}}
"""
_USER = '"user":"%{jsonquote:%{User-Name}}","source":"%{jsonquote:%{control:Tmp-String-3}}"'
_VERIFIED = "{" + _USER + ',"code":"%{jsonquote:%{control:Tmp-String-1}}"}'


def mod(address: str) -> str:
    """``mods-available/pam-totp``: how the verify service is asked. The tokens are in a file that it takes in."""
    instances = (
        # Not their sections "authenticate": those would show the user's password in the place of the token.
        ("start", "start", "{" + _USER + "}", "enrolled"),
        ("enrolled", "verify", _VERIFIED, "enrolled"),
        ("required", "verify", _VERIFIED, "required"),
    )
    return _HEAD + "".join(
        _INSTANCE.format(name=name, address=address, path=path, data=data, token=token)
        for name, path, data, token in instances
    )


_SITE = """\
# The password is checked by {module}.
# A NAS comes here by "virtual_server = pam-totp" in clients.conf, where pam_totp says of whom a code is wanted
# (enrolled; all else is required), and pam_totp_code how it comes (one-field, eap; all else is challenge).
# Attributes that decide are in the lists control and session-state, where no packet can put any.

server pam-totp {{
	authorize {{
		if (!&User-Name) {{
			reject
		}}
		update control {{
			&Tmp-String-3 := "%{{Calling-Station-Id}}"
		}}
{eap}if (!&User-Password) {{
			update request {{
				&Module-Failure-Message += 'pam-totp: no PAP: CHAP, MS-CHAP and EAP outside of a tunnel carry no code'
			}}
			reject
		}}
		elsif ("%{{client:pam_totp_code}}" == 'eap') {{
			reject
		}}
		elsif ("%{{client:pam_totp_code}}" != 'one-field' && &State) {{
			# The second step: the password has passed, and what comes in its place is the code.
			if (!&session-state:Tmp-String-0 || (&session-state:Tmp-String-0 != &User-Name)) {{
				reject
			}}
{lookup}			update control {{
				&Tmp-String-1 := "%{{User-Password}}"
				&Auth-Type := pam_totp_code
			}}
		}}
		else {{
{lookup}			if ("%{{client:pam_totp_code}}" == 'one-field') {{
				update control {{
					&Auth-Type := pam_totp_field
				}}
			}}
			else {{
				update control {{
					&Auth-Type := pam_totp_password
				}}
			}}
		}}
	}}
	authenticate {{
		Auth-Type pam_totp_password {{
			{check}
			if (!ok) {{
				reject
			}}
			elsif ("%{{client:pam_totp}}" == 'enrolled') {{
				pam_totp_start.authorize
				if (&reply:REST-HTTP-Status-Code != 200) {{
					reject
				}}
				elsif (&reply:REST-HTTP-Body =~ /^\\{{"action": "skip"/) {{
					update control {{
						&Tmp-String-9 := 'passed'
					}}
					ok
				}}
				else {{
{ask}				}}
			}}
			else {{
{ask_required}			}}
		}}
		Auth-Type pam_totp_code {{
{verify}		}}
		Auth-Type pam_totp_field {{
{field}		}}
{eap_type}	}}
	post-auth {{
		# Whatever lets somebody in above: only with the answer of pam-totp.
		if (&control:Tmp-String-9) {{
			ok
		}}
{eap_passed}		else {{
			reject
		}}
	}}
	preacct {{
		acct_unique
	}}
	accounting {{
		-detail
		-sql
		ok
	}}
}}
"""
_LOOKUP = """\
{modules}# What the site says of an account.
-expiration
-logintime
if (&control:Auth-Type == Reject) {{
	reject
}}
"""
_ASK = """\
update session-state {
	&Tmp-String-0 := &User-Name
}
# What the site replies goes with the second step.
update {
	&reply: !* ANY
}
update reply {
	&Reply-Message := "Verification code: "
}
challenge
"""
_VERIFY = """\
if ("%{client:pam_totp}" == 'enrolled') {
	pam_totp_enrolled.authorize
}
else {
	pam_totp_required.authorize
}
if (&reply:REST-HTTP-Status-Code == 200) {
	update control {
		&Tmp-String-9 := 'passed'
	}
	ok
}
else {
	reject
}
"""
# A password that itself ends in digits, of somebody who needs no code, is tried as it is when the part of it was wrong.
_FIELD = """\
update control {{
	&Tmp-String-1 := ''
}}
if (&User-Password =~ /^(.+)({code})$/) {{
	update control {{
		&Tmp-String-1 := "%{{2}}"
		&Tmp-String-2 := "%{{User-Password}}"
	}}
	update request {{
		&User-Password := "%{{1}}"
	}}
}}
{check} {{
	reject = 1
	fail = 1
	invalid = 1
	notfound = 1
	userlock = 1
}}
if (ok) {{
{verify}}}
elsif (&control:Tmp-String-2 && "%{{client:pam_totp}}" == 'enrolled') {{
	# It may be the whole password, of somebody who needs no code.
	update request {{
		&User-Password := "%{{control:Tmp-String-2}}"
	}}
	update control {{
		&Tmp-String-1 := ''
	}}
	{check}
	if (ok) {{
{verify_deeper}	}}
	else {{
		reject
	}}
}}
else {{
	reject
}}
"""
_EAP = """\
		if (&EAP-Message) {
			if ("%{client:pam_totp_code}" != 'eap') {
				reject
			}
			update control {
				&Virtual-Server := 'pam-totp-tunnel'
			}
			eap {
				ok = return
			}
		}
		els"""
_EAP_TYPE = """\
		eap
"""
_EAP_PASSED = """\
		elsif (&session-state:Tmp-String-9) {
			# The name is that of the tunnel, in the place of the anonymous one.
			update reply {
				&User-Name !* ANY
			}
			update {
				&reply: += &session-state:
			}
			ok
		}
"""
_TUNNEL = """
# Inside the tunnel: EAP-TTLS with PAP, or PEAP with GTC, with the code behind the password.
server pam-totp-tunnel {{
	authorize {{
		if (!&User-Name) {{
			reject
		}}
		update control {{
			&Tmp-String-3 := "%{{outer.request:Calling-Station-Id}}"
		}}
		if (&EAP-Message) {{
			eap {{
				ok = return
			}}
		}}
		elsif (!&User-Password) {{
			update request {{
				&Module-Failure-Message += 'pam-totp: MS-CHAPv2 and CHAP carry no code: TTLS with PAP does'
			}}
			reject
		}}
{lookup}		if (&User-Password) {{
			update control {{
				&Auth-Type := PAP
			}}
		}}
	}}
	authenticate {{
		Auth-Type PAP {{
{field}		}}
		eap
	}}
	post-auth {{
		# EAP has other types, which ask for a password alone.
		if (&control:Tmp-String-9) {{
			# What the site replies belongs to the answer outside.
			update {{
				&outer.session-state: += &reply:
			}}
			update outer.session-state {{
				&EAP-Message !* ANY
				&Message-Authenticator !* ANY
				&MS-MPPE-Encryption-Policy !* ANY
				&MS-MPPE-Encryption-Types !* ANY
				&MS-MPPE-Send-Key !* ANY
				&MS-MPPE-Recv-Key !* ANY
				&Proxy-State !* ANY
				&User-Name := &User-Name
				&Tmp-String-9 := 'passed'
			}}
		}}
		else {{
			reject
		}}
	}}
}}
"""


def site(module: str, *, with_eap: bool) -> str:
    """``sites-available/pam-totp``: the virtual server, and with EAP the one inside its tunnels."""
    lookups, check = MODULES[module]
    lookup = _LOOKUP.format(modules="".join(f"{each}\n" for each in lookups))
    field = _FIELD.format(code=_CODE, check=check, verify=_deeper(_VERIFY, 1), verify_deeper=_deeper(_VERIFY, 2))
    parts = {"module": module, "check": check, "verify": _deeper(_VERIFY, 3), "field": _deeper(field, 3)}
    text = _HEAD + _SITE.format(
        **parts,
        lookup=_deeper(lookup, 3),
        ask=_deeper(_ASK, 5),
        ask_required=_deeper(_ASK, 4),
        eap=_EAP if with_eap else "\t\t",
        eap_type=_EAP_TYPE if with_eap else "",
        eap_passed=_EAP_PASSED if with_eap else "",
    )
    return text + (_TUNNEL.format(**parts, lookup=_deeper(lookup, 2)) if with_eap else "")


def _deeper(text: str, levels: int) -> str:
    return "".join("\t" * levels + line for line in text.splitlines(keepends=True))
