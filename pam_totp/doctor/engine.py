"""The engine: whether PAM's line comes to a question, refuses a wrong code and takes a right one."""

from __future__ import annotations

import importlib.util
import json
import os

from pam_totp.cache.volatile import Volatile
from pam_totp.doctor.findings import Finding
from pam_totp.errors import CacheError
from pam_totp.host import arrange, journal, pamfile, programs
from pam_totp.host.programs import ProgramError

PYTHON = "/usr/bin/python3"
_LIBRARY = "/usr/lib/python3/dist-packages"
# As pam_totp.c starts it, but for what it does then.
_ISOLATED = (PYTHON, "-I", "-S", "-B", "-c")
# Which modules of ours are not byte-compiled.
_IMPORTS = (
    f"import sys; sys.path.append({_LIBRARY!r}); from pam_totp.engine import warm; warm.import_all(); "
    "import os; print(*(each.__file__ for name, each in list(sys.modules.items()) "
    "if name.partition('.')[0] == 'pam_totp' and not os.path.exists(each.__cached__ or '')), sep='\\n')"
)
_REINSTALL = "apt-get install --reinstall pam-totp"
_DONE = 7  # what the command of the trial ends with

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pam_totp.host.paths import Paths


def findings(modules: Sequence[str], paths: Paths) -> list[Finding]:
    """What is wrong with what PAM lines name: values of ``pamfile.ENGINES``, each tried once."""
    found = [_missing(each) for each in modules if not arrange.installed(each)]
    if found:
        return found
    try:
        stale = programs.run(*_ISOLATED, _IMPORTS).split()
    except ProgramError as error:
        said = str(error).rpartition("; ")[2].rpartition(" says: ")[2]
        return [Finding("imports-fail", f"{PYTHON}: {said}", f"{_REINSTALL} python3-nacl")]
    if stale:
        text = f"{len(stale)} modules are not compiled, {stale[0]} among them"
        found.append(Finding("not-compiled", text, "py3compile -p pam-totp"))
    for module in modules:
        found += _tried(module, paths)
    return found


def _missing(module: str) -> Finding:
    package = "libpam-totp" if module == pamfile.ENGINES["pam_totp"] else "libpam-python pam-totp"
    return Finding("module-missing", f"{module} is not installed", f"apt-get install --reinstall {package}")


def _tried(module: str, paths: Paths) -> list[Finding]:
    if importlib.util.find_spec("pam_totp.doctor.trial") is None:
        return [Finding("engine-not-tried", "pam_totp.doctor.trial is missing", _REINSTALL)]
    try:
        Volatile(paths.run, paths.owner)  # a place for the trial's own one to be mounted on
        for directory in (os.path.dirname(paths.key), os.path.dirname(paths.cache)):
            os.stat(directory)
        output = programs.run(
            *("unshare", "--mount", "--propagation", "private", "--"),
            *(PYTHON, "-I", "-m", "pam_totp.doctor.trial", f"auth required {module}"),
        )
        said = json.loads(output)
    except (ProgramError, CacheError, OSError, ValueError) as error:
        return [Finding("engine-not-tried", f"{module}: {error}")]
    for name, status, outcome in (("wrong", 1, "refused"), ("right", _DONE, "accepted")):
        each = said[name]
        decided = [line for line in map(_fields, each["log"]) if "outcome" in line]
        if each["status"] != status or [line["outcome"] for line in decided] != [outcome]:
            why = decided[-1].get("detail") or decided[-1].get("reason") if decided else each["said"].strip()
            text = f"{module}: a {name} code was not {outcome}: {why}"
            return [Finding("engine-fails", text, f"{_REINSTALL} {_package(module)} python3-nacl")]
    return []


def _package(module: str) -> str:
    return "libpam-totp" if module == pamfile.ENGINES["pam_totp"] else "libpam-python"


def _fields(line: str) -> dict[str, Any]:
    return journal.fields(line)
