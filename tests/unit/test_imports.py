"""Which module may import which, who may touch the world, and what a login loads."""

from __future__ import annotations

import ast
import socket
import subprocess
import sys
import time
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pam_totp
from pam_totp.host.users import User
from tests.unit.module import Wire
from tests.unit.module import request as asked
from tests.unit.pretend import Host, code

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(pam_totp.__file__).parent
CHECKOUT = PACKAGE.parent
MODULES = {
    ".".join(path.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__"): ast.parse(
        path.read_text("utf-8")
    )
    for path in PACKAGE.rglob("*.py")
}
PURE = ["pam_totp.factors.otp", "pam_totp.login.policy", "pam_totp.cache.ledger", "pam_totp.factors.publickeys"]


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that runs: what only a type checker reads is left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from statements(node)


def imports(module: str) -> set[str]:
    """The full names of all modules that a module imports, sooner or later."""
    found = set()
    for node in statements(MODULES[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are written out"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else str(node.module) for name in names}
    return found


def ours(module: str) -> set[str]:
    return imports(module) & set(MODULES) - {"pam_totp"}


def top(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def below(module: str) -> set[str]:
    """Everything of ours that a module reaches."""
    found: set[str] = set()
    queue = [module]
    while queue:
        for each in ours(queue.pop()) - found:
            found.add(each)
            queue.append(each)
    return found


# Direction


def test_the_modules_can_be_put_in_an_order() -> None:
    list(TopologicalSorter({module: ours(module) for module in MODULES}).static_order())


# The rooms, the lowest first: a module imports from its own and from those before it.
ROOMS = (
    *("errors", "host", "cache", "factors", "login", "moving", "selfservice", "verify", "fleet"),
    *("engine", "doctor", "directory", "cli"),
)


def room(module: str) -> str:
    return module.split(".")[1]


def test_every_module_is_in_a_room_and_imports_point_down_between_rooms() -> None:
    assert {room(module) for module in MODULES if module != "pam_totp"} == set(ROOMS)
    up = {
        (module, other)
        for module in MODULES
        for other in ours(module)
        if ROOMS.index(room(other)) > ROOMS.index(room(module))
    }
    assert up == set()


def test_entering_a_room_loads_nothing() -> None:
    assert {module: found for module in MODULES if module.count(".") == 1 and (found := imports(module))}.keys() <= {
        "pam_totp.cli",
        "pam_totp.errors",
    }


def test_errors_stand_at_the_bottom() -> None:
    assert ours("pam_totp.errors") == ours("pam_totp.factors.otp") == ours("pam_totp.host.paths") == set()


def test_nothing_but_the_two_adapters_imports_the_hooks() -> None:
    users = {module for module in MODULES if "pam_totp.engine.pam_entry" in imports(module)}
    assert users == {"pam_totp.engine.helper", "pam_totp.engine.pam_python"}
    # The one forks into the other.
    assert [module for module in MODULES if imports(module) & users] == ["pam_totp.engine.warm"]


DIRECTORY = {module for module in MODULES if module.startswith("pam_totp.directory")}


def test_the_directory_stands_alone() -> None:
    assert {module for module in MODULES for each in ours(module) & DIRECTORY if module not in DIRECTORY} == set()
    shared = {each for module in DIRECTORY for each in ours(module)} - DIRECTORY
    assert shared <= {"pam_totp.errors", "pam_totp.cache.ledger", "pam_totp.cache.seal"} | {
        "pam_totp.host.clock",
        "pam_totp.host.programs",
    } | {each for each in MODULES if each.startswith(("pam_totp.factors.", "pam_totp.fleet.tree"))}
    assert {module for module in MODULES if top(imports(module)) & {"django", "whitenoise"}} <= DIRECTORY


def test_nothing_but_the_command_imports_the_command() -> None:
    users = {module for module in MODULES for each in imports(module) if each.startswith("pam_totp.cli")}
    assert {user for user in users if not user.startswith("pam_totp.cli")} == set()


def test_a_login_goes_down_through_its_layers() -> None:
    assert "pam_totp.login.login" in ours("pam_totp.engine.pam_entry")
    reached = below("pam_totp.login.login")
    for part in ("login.policy", "cache.accounts", "factors.otp", "cache.store", "cache.seal", "errors"):
        assert f"pam_totp.{part}" in reached
    for lower in reached:
        assert "pam_totp.login.login" not in below(lower), lower


def test_the_formats_of_the_fleet_need_nothing_else_of_ours_and_read_and_write_nothing() -> None:
    assert below("pam_totp.fleet.tree") == {"pam_totp.errors"}
    calls = {ast.unparse(node.func) for node in ast.walk(MODULES["pam_totp.fleet.tree"]) if isinstance(node, ast.Call)}
    assert not calls & {"open", "print", "input", "exec", "eval", "__import__"}
    assert not top(imports("pam_totp.fleet.tree")) & {"os", "sys", "io", "socket", "ssl", "http", "time"}


def test_no_login_imports_the_room_of_the_fleet() -> None:
    users = {module for module in MODULES for each in imports(module) if each.startswith("pam_totp.fleet")}
    assert {room(user) for user in users} <= {"fleet", "doctor", "directory", "cli"}


def test_the_cache_sees_no_key_and_the_seal_sees_no_file() -> None:
    assert below("pam_totp.cache.store") == {"pam_totp.host.files", "pam_totp.errors"}
    assert below("pam_totp.cache.seal") == {"pam_totp.errors"}
    assert top(imports("pam_totp.cache.seal")) <= {"__future__", "posix", "nacl", "pam_totp"}
    calls = {ast.unparse(node.func) for node in ast.walk(MODULES["pam_totp.cache.seal"]) if isinstance(node, ast.Call)}
    assert {call for call in calls if call.startswith("os.") or call == "open"} == {"os.urandom"}


# The world


@pytest.mark.parametrize("module", PURE)
def test_what_is_pure_imports_nothing_that_reads_or_writes(module: str) -> None:
    harmless = {"__future__", "_operator", "_sha1", "hashlib", "_json", "enum", "ipaddress", "binascii", "re"}
    assert top(imports(module)) - {"pam_totp"} <= harmless
    assert below(module) <= {*PURE, "pam_totp.errors"}
    calls = {ast.unparse(node.func) for node in ast.walk(MODULES[module]) if isinstance(node, ast.Call)}
    assert not calls & {"open", "print", "input", "exec", "eval", "__import__"}


@pytest.mark.parametrize("module", ["google", "oath", "uris", "pskc", "privacyidea", "entries"])
def test_a_parser_of_a_foreign_format_neither_reads_nor_writes(module: str) -> None:
    name = f"pam_totp.moving.{module}"
    assert below(name) <= {"pam_totp.moving.entries", "pam_totp.errors", "pam_totp.factors.otp"}  # which computes
    assert not top(imports(name)) & {"os", "sys", "io", "subprocess", "socket", "shutil", "tempfile"} - (
        {"io"} if module == "privacyidea" else set()  # a string as a file, for csv
    )
    calls = {ast.unparse(node.func) for node in ast.walk(MODULES[name]) if isinstance(node, ast.Call)}
    assert not calls & {"open", "print", "input", "exec", "eval", "__import__"}


@pytest.mark.parametrize(
    ("world", "module"),
    [
        ({"nacl"}, {"pam_totp.cache.seal", "pam_totp.fleet.tree"}),
        (
            {"sqlite3", "_sqlite3"},
            {"pam_totp.cache.store", "pam_totp.directory.keeper.state", "pam_totp.directory.sqlite.base"},
        ),
        ({"syslog"}, {"pam_totp.login.log"}),
        ({"pwd"}, {"pam_totp.host.users", "pam_totp.directory.keeper.server", "pam_totp.directory.cli.common"}),
        ({"ctypes"}, {"pam_totp.host.nss", "pam_totp.host.synchronised"}),
        ({"grp"}, set()),
        ({"fcntl"}, {"pam_totp.cache.volatile", "pam_totp.directory.publish", "pam_totp.directory.sqlite.base"}),
        ({"tomllib", "tomli"}, {"pam_totp.host.settings", "pam_totp.directory.config"}),
        ({"segno", "pyotp"}, {"pam_totp.factors.enroll"}),
        ({"subprocess"}, {"pam_totp.host.programs"}),
        ({"cryptography"}, {"pam_totp.moving.pskc", "pam_totp.directory.certificates"}),
        ({"xml"}, {"pam_totp.moving.pskc"}),
        ({"smtplib"}, {"pam_totp.directory.mail"}),
        ({"ldap"}, {"pam_totp.directory.ldap"}),
        ({"pam"}, {"pam_totp.directory.pam"}),
    ],
    ids=lambda value: "+".join(sorted(value)) or "nobody",
)
def test_each_part_of_the_world_has_one_owner(world: set[str], module: set[str]) -> None:
    assert {each for each in MODULES if top(imports(each)) & world} == module


def test_only_the_clock_reads_clocks() -> None:
    readers = {
        (module, ast.unparse(node))
        for module, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in CLOCKS
    }
    assert {reader for reader in readers if reader[1] != "time.monotonic"} == {
        ("pam_totp.host.clock", "time.time"),
        ("pam_totp.host.clock", "time.clock_gettime"),
    }
    # How long a lock, another program or a server is waited for, how long an answer is kept, and how often something is
    # done; nothing else
    limits = {module for module, call in readers if call == "time.monotonic"}
    assert limits <= {
        *("pam_totp.cache.volatile", "pam_totp.selfservice.wire", "pam_totp.fleet.sources", "pam_totp.fleet.web"),
        *("pam_totp.directory.throttle", "pam_totp.directory.hosts", "pam_totp.directory.oidc"),
        "pam_totp.directory.sqlite.base",
    }
    assert {module for module in MODULES if "time" in imports(module)} == {"pam_totp.host.clock", *limits}


CLOCKS = {
    *(f"time.{name}" for name in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "clock_gettime")),
    *(f"time.{name}" for name in ("clock_gettime_ns", "localtime", "gmtime", "process_time", "strftime", "ctime")),
    *(f"datetime.{name}" for name in ("now", "utcnow", "today")),
    *(f"datetime.datetime.{name}" for name in ("now", "utcnow", "today")),
    *("date.today", "datetime.date.today"),
}


# What a login loads, measured in a fresh interpreter as each engine starts it

# Adding to this list costs every login on every host. Measure first: ./run bench.
LOADED = {
    "__future__",
    "pam_totp",
    "pam_totp.errors",
    *(f"pam_totp.{name}" for name in ("host", "cache", "factors", "login", "engine")),
    *(f"pam_totp.host.{name}" for name in ("clock", "config", "files", "paths", "users")),
    *(
        f"pam_totp.cache.{name}"
        for name in ("accounts", "configured", "keys", "ledger", "roster", "seal", "store", "volatile")
    ),
    *(f"pam_totp.factors.{name}" for name in ("otp", "publickeys", "recovery")),
    *(f"pam_totp.login.{name}" for name in ("attempt", "evaluation", "log", "login", "policy")),
    "pam_totp.engine.pam_entry",
    *("nacl", "nacl._sodium", "_cffi_backend", "_sodium", "_sodium.lib"),
    *(
        "_functools",  # what SQLite's C module takes of it; not functools, which would load twelve others
        "_json",
        "_sqlite3",
        "_sha1",
        "_operator",
        "binascii",
        "fcntl",
        "gc",
        "pwd",
        "stat",
        "syslog",
        "time",
    ),
}
ADAPTERS = {"pam_totp": "pam_totp.engine.helper", "pam_python": "pam_totp.engine.pam_python"}

# All that the module would send is sent before: its helper reads it as it goes on.
PROBE_HELPER = """
import sys
at_first = set(sys.modules)
print()
sys.path.append({checkout!r})
sys.path.append("/usr/lib/python3/dist-packages")
from pam_totp.engine import helper
from pam_totp.host.paths import Paths
import syslog
Paths.__init__.__defaults__ = {defaults!r}
syslog.openlog = syslog.syslog = syslog.closelog = lambda *_, **__: None
from pam_totp.login import log
log.JOURNAL = "/nowhere"
helper.serve(3, lambda _: None)
print()
print(*sorted(set(sys.modules) - at_first))
print(*sorted(at_first))
"""

PROBE = """
import sys, traceback  # pam_python itself imports traceback
sys.path.insert(0, {checkout!r})
sys.path.append("/usr/lib/python3/dist-packages")
from tests.unit.pamh import Pamh
at_first = set(sys.modules)
script = {{}}
with open({checkout!r} + "/debian/pam_totp.py") as file:
    exec(file.read(), script)
assert script["pam_sm_setcred"](Pamh("root"), 0, ["pam_totp.py"]) == Pamh.PAM_IGNORE
print(*sorted(set(sys.modules) - at_first))
from pam_totp.host.paths import Paths
import syslog
Paths.__init__.__defaults__ = {defaults!r}
syslog.openlog = syslog.syslog = syslog.closelog = lambda *_, **__: None
from pam_totp.login import log
log.JOURNAL = "/nowhere"
pamh = Pamh("root", {code!r}, env={{"SSH_AUTH_INFO_0": "publickey ssh-ed25519 AAAA\\n"}})
print(script["pam_sm_authenticate"](pamh, 0, ["pam_totp.py", "first_factor=publickey"]))
print(*sorted(set(sys.modules) - at_first))
print(*sorted(at_first))
"""


@pytest.fixture(params=list(ADAPTERS))
def measured(host: Host, request: pytest.FixtureRequest) -> tuple[str, list[set[str]]]:
    """The engine; and what the script and setcred load, the result of a login, what it loads, and what was loaded."""
    secret = host.enroll(User("root", 0))
    paths = host.paths
    places = (paths.key, paths.config, paths.cache, paths.run, paths.owner, paths.socket, paths.services)
    defaults = (*places, paths.drop_ins, paths.marker, paths.unsealed)
    right = code(secret, int(time.time() // 30))
    if request.param == "pam_python":
        program = PROBE.format(checkout=str(CHECKOUT), defaults=defaults, code=right)
        said = run_isolated("-I", "-S", "-c", program)
    else:
        program = PROBE_HELPER.format(checkout=str(CHECKOUT), defaults=defaults)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            fields = (b"sshd", b"root", b"sshd", b"", b"publickey ssh-ed25519 AAAA\n", None, b"first_factor=publickey")
            Wire(ours).send(b"Q", asked("auth", *fields))
            Wire(ours).send(b"A", right.encode())
            # As pam_totp.c starts it.
            said = run_isolated("-I", "-S", "-E", "-s", "-P", "-B", "-c", program, socket=theirs.fileno())
            results = [Wire(ours).receive() for _ in range(2)]
            assert results[1] == (b"R", b"PAM_SUCCESS")
    return request.param, [set(line.split()) for line in said.split("\n")]


def run_isolated(*arguments: str, socket: int = -1) -> str:
    """Run the interpreter as an engine does; with a socket as descriptor 3."""
    keep = ["bash", "-c", f'exec "$@" 3<&{socket}', "bash"] if socket >= 0 else []
    done = subprocess.run(
        [*keep, sys.executable, *arguments],
        check=True,
        capture_output=True,
        text=True,
        cwd="/",
        env={},
        pass_fds=(socket,) if socket >= 0 else (),
    )
    return done.stdout


def test_the_script_and_setcred_load_nothing(measured: tuple[str, list[set[str]]]) -> None:
    assert measured[1][0] == set()


def test_a_login_loads_what_is_on_the_list_and_nothing_else(measured: tuple[str, list[set[str]]]) -> None:
    engine, (_, result, loaded, already, *_) = measured
    assert result == ({"0"} if engine == "pam_python" else set())  # PAM_SUCCESS
    # What modules of the standard library need themselves is theirs; under pam_python they are loaded anyway.
    standard = [name for name in LOADED - {"_sqlite3"} if name.partition(".")[0] in sys.stdlib_module_names]
    program = f"import sys\nfor name in {standard}: __import__(name)\nprint(*sys.modules)"
    needed = set(run_isolated("-I", "-S", "-c", program).split()) if engine == "pam_totp" else set()
    assert loaded == (LOADED | needed | {ADAPTERS[engine]}) - already
