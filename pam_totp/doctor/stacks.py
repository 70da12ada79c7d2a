"""The PAM lines of a service: whether PAM can say yes without a code, and which line is to blame.

PAM's own rules (pam.conf(5), pam_dispatch.c) are gone through with every result that each module may give.
"""

from __future__ import annotations

import difflib
import os
from collections import deque

from pam_totp.doctor.findings import ERROR, Finding, in_place, quoted
from pam_totp.errors import ConfigError
from pam_totp.host import arrange, files, pamfile, pinned
from pam_totp.host.config import Arguments
from pam_totp.host.pinned import SetupError
from pam_totp.host.stack import MODULES, STARTED_BY_USERS, require_verification

COMMON_AUTH = "common-auth"
_UPDATED = "/var/lib/pam/auth"
_DEEPEST = 8
_LIMIT = 1 << 16
_ALIKE = 0.8

# pam.conf(5): what a word stands for.
_WORDS = {
    "required": {"success": "ok", "new_authtok_reqd": "ok", "ignore": "ignore", "default": "bad"},
    "requisite": {"success": "ok", "new_authtok_reqd": "ok", "ignore": "ignore", "default": "die"},
    "sufficient": {"success": "done", "new_authtok_reqd": "done", "default": "ignore"},
    "optional": {"success": "ok", "new_authtok_reqd": "ok", "default": "ignore"},
}
_ACTIONS = ("ignore", "ok", "bad", "die", "done", "reset")
# Our results that are no yes, and those of PAM itself where it cannot load us.
_REFUSALS = ("auth_err", "user_unknown", "conv_err", "authinfo_unavail", "service_err", "open_err", "module_unknown")
_ANY = ("success", "ignore", "auth_err")
# What neither asks for a first factor nor knows one.
_ASK_NOTHING = {
    *("permit", "env", "nologin", "faildelay", "access", "succeed_if", "group", "mail", "echo", "warn", "listfile"),
    *(
        "time",
        "localuser",
        "shells",
        "securetty",
        "limits",
        "faillock",
        "motd",
        "loginuid",
        "keyinit",
        "umask",
        "debug",
    ),
}
_ALWAYS = {"pam_permit.so": ("success",), "pam_deny.so": ("auth_err",), "pam_faildelay.so": ("ignore",)}

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pam_totp.host.pamfile import Line
    from pam_totp.host.paths import Paths


class Step:
    """A line as PAM comes to it: in which file it stands, and how many substacks deep."""

    __slots__ = ("depth", "line", "path", "top")

    def __init__(self, line: Line, path: str, depth: int, top: Line) -> None:
        self.line = line
        self.path = path
        self.depth = depth
        self.top = top  # the line of the service's own file that it comes from

    @property
    def text(self) -> str:
        """The line in words."""
        return " ".join(self.line.words)

    @property
    def place(self) -> str:
        """Where it stands, for a person."""
        return f"{self.path} line {self.line.start + 1}"

    @property
    def module(self) -> str:
        """The file name of the module."""
        words = self.line.words[1:]
        if words and words[0].startswith("["):
            while words and not words[0].endswith("]"):
                words = words[1:]
        return words[1].rpartition("/")[2] if len(words) > 1 else ""

    @property
    def decides(self) -> bool:
        """Whether the line is one of ours that asks for a code, or verifies one."""
        return self.line.arguments is not None and self.line.arguments != ["combined=split"]

    @property
    def actions(self) -> dict[str, str] | None:
        """What PAM does with each result; None where it does not understand the control."""
        control = self.line.control
        if not control.startswith("["):
            return _WORDS.get(control)
        found = {}
        for each in control.strip("[]").split():
            result, _, action = each.partition("=")
            if action not in _ACTIONS and not (action.isascii() and action.isdigit()):
                return None
            found[result] = action
        return found


class Stack:
    """The ``auth`` lines of a service, in PAM's order. Raises OSError, UnsafeFileError or ValueError."""

    def __init__(self, service: str, paths: Paths) -> None:
        self.service = service
        self.path = pinned.pam_path(paths, service)
        self.texts: dict[str, str] = {}
        self._paths = paths
        self.steps = self._walk(self.path, None, 0, 0)
        self.ours = [step for step in self.steps if step.decides]

    def own_lines(self) -> list[Line]:
        """All lines of the service's own file, of any kind."""
        return pamfile.parse(self.texts[self.path])

    def _walk(self, path: str, top: Line | None, depth: int, files_deep: int) -> list[Step]:
        if files_deep > _DEEPEST:
            raise ValueError(f"{path} takes itself in")
        if path not in self.texts:
            self.texts[path] = files.read(path, self._paths.owner, _LIMIT, private=False).decode("utf-8", "replace")
        found = []
        for line in pamfile.parse(self.texts[path]):
            begin = top or line
            substack = line.kind == "auth" and line.control == "substack"
            if name := line.included:
                inner = name if name.startswith("/") else f"{self._paths.services}/{name}"
                found += self._walk(inner, begin, depth + substack, files_deep + 1)
            elif line.kind == "auth":
                found.append(Step(line, path, depth, begin))
        return found


# -- PAM's decision


class _State:
    """A point in the course of a stack: the next line, PAM's impression, what ours has said, and the way there."""

    __slots__ = ("at", "impression", "ours", "way")

    def __init__(self, at: int, impression: str, ours: str, way: tuple[tuple[int, str], ...]) -> None:
        self.at = at
        self.impression = impression
        self.ours = ours
        self.way = way


def _successes(
    steps: Sequence[Step], results: Callable[[Step], Sequence[str]]
) -> list[tuple[str, tuple[tuple[int, str], ...]]]:
    """Every way in which the stack says yes: what our lines have said ("", "good" or "bad"), and each action taken."""
    found = []
    queue = deque([_State(0, "", "", ())])
    seen = set()
    while queue:
        state = queue.popleft()
        key = (state.at, state.impression, state.ours)
        if key in seen:
            continue
        seen.add(key)
        if state.at >= len(steps):
            if state.at == len(steps) and state.impression == "yes":
                found.append((state.ours, state.way))
            continue
        step = steps[state.at]
        actions = step.actions
        for result in results(step):
            action = "bad" if actions is None else actions.get(result, actions.get("default", "bad"))
            ours = state.ours
            if step.decides:
                good = result in ("success", "ignore")
                ours = "bad" if not good or ours == "bad" else "good"
            after, impression = _after(steps, state.at, action, result, state.impression)
            queue.append(_State(after, impression, ours, (*state.way, (state.at, action))))
    return found


def _after(steps: Sequence[Step], at: int, action: str, result: str, impression: str) -> tuple[int, str]:
    """The next line and PAM's impression after an action. One past the end is the end; two past is a refusal."""
    never = len(steps) + 1
    if action.isdigit():
        return _jump(steps, at, int(action), never), impression
    if action == "reset":
        return at + 1, ""
    if action in ("bad", "die"):
        impression = "no"
    elif action in ("ok", "done") and result != "ignore" and impression == "":
        impression = "yes" if result in ("success", "new_authtok_reqd") else "no"
    elif action in ("ok", "done") and result not in ("ignore", "success") and impression == "yes":
        impression = "no"
    if action == "die" or (action == "done" and impression == "yes"):
        end = at + 1
        # It ends a substack only.
        while end < len(steps) and steps[at].depth and steps[end].depth >= steps[at].depth:
            end += 1
        if steps[at].depth == 0:
            return (len(steps) if action == "done" else never), impression
        return end, impression
    return at + 1, impression


def _jump(steps: Sequence[Step], at: int, count: int, never: int) -> int:
    """Where a jump over so many modules leads; a substack counts as one, and none leads out of it."""
    target, depth = at + 1, steps[at].depth
    for _ in range(count):
        if target >= len(steps) or steps[target].depth < depth:
            return never
        target += 1
        while steps[target - 1].depth > depth and target < len(steps) and steps[target].depth > depth:
            target += 1
    return target


def _any_result(step: Step) -> Sequence[str]:
    if step.decides:
        return ("success", "ignore", *_REFUSALS)
    if step.line.arguments is not None:
        return ("ignore", "auth_err")  # combined=split
    if step.module in _ALWAYS:
        return _ALWAYS[step.module]
    return (*_ANY, *(name for name in step.actions or () if name not in ("default", *_ANY)), "system_err")


def _for_others_than_root(step: Step) -> Sequence[str]:
    """In what a user starts, pam_rootok.so lets only root in; in what the system starts, everybody."""
    return ("auth_err",) if step.module == "pam_rootok.so" else _any_result(step)


def _no_first_factor(step: Step) -> Sequence[str]:
    """What the modules say to somebody who has neither password nor key, and is not enrolled."""
    if step.line.arguments is not None:
        return ("auth_err",) if "first_factor=publickey" in step.line.arguments else ("ignore",)
    if step.module in _ALWAYS:
        return _ALWAYS[step.module]
    asks_nothing = step.module.removeprefix("pam_").removesuffix(".so") in _ASK_NOTHING
    return (
        ("success", "ignore")
        if asks_nothing
        else ("auth_err", "ignore")
        if step.text.startswith("-")
        else ("auth_err",)
    )


# -- what is wrong


def load(service: str, paths: Paths) -> Stack | Finding:
    """The lines of a service, or what keeps them from being read."""
    path = pinned.pam_path(paths, service)
    if not os.path.lexists(path):
        package = "openssh-server" if service == pinned.SSHD else f"$(dpkg -S {quoted(path)} | cut -d: -f1)"
        mend = f"apt-get install --reinstall -o Dpkg::Options::=--force-confmiss {package}"
        return Finding("service-missing", f"{path} is missing", mend)
    try:
        return Stack(service, paths)
    except (OSError, ValueError, files.UnsafeFileError) as error:
        return Finding("service-unreadable", f"{path}: {error}", command_in(str(error)))


def command_in(message: str) -> str:
    """The command that an error of ours ends with ("...: run chmod go-w FILE"), if it does."""
    _, found, command = message.rpartition(": run ")
    return command if found and command.split(" ")[0] in ("chmod", "chown") else ""


def findings(stack: Stack, paths: Paths, key_first: bool) -> list[Finding]:
    """What is wrong with a service's lines. ``key_first``: sshd asks for a key before PAM is asked."""
    found = [*_misplaced(stack), *_misspelt(stack), *_combined(stack, paths)]
    if not stack.ours:
        if not any(each.identifier in ("line-misspelt", "combined-incomplete") for each in found):
            found.append(_missing(stack, key_first))
        return found
    for step in stack.ours:
        found += _alone(step)
    if not found:
        found += _together(stack, key_first)
    return found


def not_asked(service: str, paths: Paths) -> str:
    """Why a login to a service is not certain to come to the module, in words; empty where it comes to it.

    That is only what PAM's lines say: ``examine`` also looks at sshd and at the module.
    """
    stack = load(service, paths)
    if isinstance(stack, Finding):
        return stack.text
    return next((each.text for each in findings(stack, paths, key_first=False) if each.severity == ERROR), "")


def _missing(stack: Stack, key_first: bool) -> Finding:
    variant = "key" if key_first and stack.service == pinned.SSHD else "password"
    service = "" if stack.service == pinned.SSHD else f" --service {stack.service}"
    mend = f"pam-totp setup --variant {variant}{service}"
    return Finding("line-missing", f"{stack.path} has no auth line that names pam_totp.so", mend)


def _engine() -> str:
    try:
        return pamfile.ENGINES[arrange.engine()]
    except SetupError:
        return pamfile.ENGINES["pam_totp"]


def _misspelt(stack: Stack) -> list[Finding]:
    found = []
    for line in stack.own_lines():
        modules = [word.rpartition("/")[2] for word in line.words[1:]]
        if line.kind.startswith("@"):
            continue
        for number, name in enumerate(modules, 1):
            bare = name == "pam_totp.py" and "pam_python.so" not in modules
            alike = difflib.SequenceMatcher(None, name.lower(), "pam_totp.so").ratio() >= _ALIKE
            script = "pam_python.so" in modules and name.endswith(".py")
            alike = alike or (script and difflib.SequenceMatcher(None, name, "pam_totp.py").ratio() >= _ALIKE)
            wrong = bare or (alike and name not in MODULES and not arrange.installed(name))
            if not wrong:
                continue
            if script:
                words = [*line.words[:number], "pam_totp.py", *line.words[number + 1 :]]
            else:
                words = [*line.words[:number], _engine(), *line.words[number + 1 :]]
            text = f"{stack.path} line {line.start + 1} names {name}, which is no module of this host"
            mend = in_place(stack.path, line.start, line.end, " ".join(words))
            found.append(Finding("line-misspelt", text, mend))
            break
    return found


def _misplaced(stack: Stack) -> list[Finding]:
    found = []
    for line in stack.own_lines():
        wanted = line.kind == "auth" or (line.kind == "account" and line.arguments == ["combined=verify"])
        if line.arguments is not None and not wanted:
            text = f"{stack.path} line {line.start + 1} is of the kind {line.kind}: {' '.join(line.words)}"
            found.append(Finding("line-wrong-kind", text, in_place(stack.path, line.start, line.end, None)))
    return found


def _combined(loaded: Stack, paths: Paths) -> list[Finding]:
    words = [line.arguments for line in loaded.own_lines() if line.arguments is not None]
    mend = "pam-totp setup --variant combined" + (
        "" if loaded.service == pinned.SSHD else f" --service {loaded.service}"
    )
    if ["combined=split"] in words:
        try:
            require_verification(loaded.service, paths)
        except ConfigError as error:
            return [Finding("combined-incomplete", str(error), mend)]
    elif ["combined=verify"] in words:
        text = f"{loaded.path} has combined=verify and no line with combined=split before it"
        return [Finding("combined-incomplete", text, mend)]
    return []


def _alone(step: Step) -> list[Finding]:
    """What is wrong with one line of ours by itself."""
    line = step.line
    found = []
    at = next(number for number, word in enumerate(line.words) if word.rpartition("/")[2] in MODULES)
    try:
        Arguments(line.arguments or [])
    except ConfigError as error:
        known = list(dict.fromkeys(each for each in line.arguments or [] if _known(each)))
        mend = in_place(step.path, line.start, line.end, " ".join([*line.words[: at + 1], *known]))
        found.append(Finding("arguments-unknown", f"{step.place}: {error}", mend))
    required = in_place(step.path, line.start, line.end, " ".join(["auth", "required", *_after_control(line.words)]))
    actions = step.actions
    if actions is None:
        text = f"{step.place}: PAM does not know {line.control!r}, and refuses everybody"
        return [*found, Finding("control-unknown", text, required)]
    forgiven = [each for each in _REFUSALS if actions.get(each, actions.get("default", "bad")) not in ("bad", "die")]
    if forgiven:
        text = f"{step.place}: {step.text!r} lets in although the module refuses ({', '.join(forgiven[:3])})"
        found.append(Finding("line-not-required", text, required))
    elif line.words[0].startswith("-"):
        found.append(Finding("line-silent", f"{step.place}: {step.text!r}", required))
    by_hand = step.path.rpartition("/")[2] == COMMON_AUTH
    if by_hand and "pam_python.so" not in step.text and not _by_pam_auth_update():
        mend = f"{in_place(step.path, line.start, line.end, None)} && pam-auth-update --enable pam-totp"
        found.append(Finding("common-auth-by-hand", f"{step.place}: {step.text!r}", mend))
    return found


def _known(word: str) -> bool:
    try:
        Arguments([word])
    except ConfigError:
        return False
    return True


def _after_control(words: list[str]) -> list[str]:
    if words[1].startswith("["):
        while words[1:] and not words[1].endswith("]"):
            words = words[1:]
    return words[2:]


def _by_pam_auth_update() -> bool:
    try:
        with open(_UPDATED, encoding="utf-8", errors="replace") as file:
            return "pam_totp.so" in file.read(_LIMIT)
    except OSError:
        return False


def _together(stack: Stack, key_first: bool) -> list[Finding]:
    """What is wrong with our lines among the others."""
    by_user = stack.service in STARTED_BY_USERS
    ways = _successes(stack.steps, _for_others_than_root if by_user else _any_result)
    if not ways:
        return [_refuses_all(stack)]
    good = [way for ours, way in ways if ours == "good"]
    wrong = [(ours, way) for ours, way in ways if ours != "good"]
    if wrong:
        ours, way = wrong[0]
        return [_way_around(stack, ours, way)]
    if not good:
        return [_refuses_all(stack)]
    asking = [step for step in stack.ours if step.line.arguments != ["combined=verify"]]
    if len(asking) > 1:
        extra = next((step for step in reversed(asking) if step.path == stack.path), asking[-1])
        text = f"{asking[0].place} and {asking[1].place} both ask"
        return [Finding("asked-twice", text, in_place(extra.path, extra.line.start, extra.line.end, None))]
    if _successes(stack.steps, _no_first_factor):
        step = stack.ours[0]
        text = f"{stack.path} asks for no password, and its line has no first_factor=publickey"
        mend = in_place(step.path, step.line.end - 1, step.line.end, f"{step.text} first_factor=publickey")
        if not key_first:
            mend = f"sed -i {quoted(f'{step.line.start + 1}i @include common-auth')} {quoted(step.path)}"
        return [Finding("permit-only", text, mend)]
    return []


def _way_around(stack: Stack, ours: str, way: tuple[tuple[int, str], ...]) -> Finding:
    first = stack.steps.index(stack.ours[0])
    if ours == "bad":
        at = next((number for number, action in way if action == "reset"), way[-1][0])
        step = stack.steps[at]
        text = f"{step.place}: {step.text!r} takes back what the module has refused"
        return Finding("refusal-taken-back", text, in_place(step.path, step.line.start, step.line.end, None))
    at, action = [(number, action) for number, action in way if number < first][-1]
    for number, each in way:
        if number < first and (each == "done" or (each.isdigit() and number + int(each) >= first)):
            at, action = number, each
            break
    culprit, line = stack.steps[at], stack.ours[0]
    identifier = "include-decides" if culprit.path != stack.path else "line-jumped-over"
    if identifier != "include-decides" and action == "done":
        identifier = "line-behind-sufficient"
    text = f"{culprit.place}: {culprit.text!r} can let in before PAM comes to {line.text!r} ({line.place})"
    mend = ""
    if line.path == stack.path:
        move = f"{line.line.start + 1}d;{culprit.top.start + 1}i {line.text}"
        if line.line.end - line.line.start > 1:
            move = f"{line.line.start + 1},{line.line.end}d;{culprit.top.start + 1}i {line.text}"
        mend = f"sed -i {quoted(move)} {quoted(stack.path)}"
    return Finding(identifier, text, mend)


def _refuses_all(stack: Stack) -> Finding:
    for step in stack.steps:
        others = [each for each in stack.steps if each is not step]
        if step.module == "pam_deny.so" and _successes(others, _any_result):
            text = f"{step.place}: {step.text!r} refuses every login"
            return Finding("stack-refuses-all", text, in_place(step.path, step.line.start, step.line.end, None))
    return Finding("stack-refuses-all", f"{stack.path}: no login can pass these lines", "pam-totp setup --undo")


# -- all services


def everywhere(paths: Paths) -> list[Finding]:
    """Lines with pam_python in services where its interpreter is not safe."""
    found = []
    path = pinned.pam_path(paths, COMMON_AUTH)
    if os.path.isfile(path):
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = pamfile.parse(file.read(_LIMIT))
        for line in lines:
            if line.arguments is not None and "pam_python.so" in line.words:
                text = f"{path} line {line.start + 1}: {' '.join(line.words)!r} also is in su, sudo and login"
                found.append(Finding("pam-python-in-common-auth", text, _own_engine(path, line)))
    for service in STARTED_BY_USERS:
        loaded = load(service, paths)
        if isinstance(loaded, Finding):
            continue
        for step in loaded.steps:
            if (
                step.line.arguments is not None
                and "pam_python.so" in step.line.words
                and step.path.rpartition("/")[2] != COMMON_AUTH
            ):
                text = f"{step.place}: users start {service} with privileges and their own environment"
                found.append(Finding("pam-python-started-by-users", text, _own_engine(step.path, step.line)))
    return found


def _own_engine(path: str, line: Line) -> str:
    text = " ".join(line.words).replace("pam_python.so pam_totp.py", "pam_totp.so")
    return in_place(path, line.start, line.end, text)


# -- what setup put in force


def record(service: str, paths: Paths) -> list[Finding]:
    """What is missing of what ``pam-totp setup`` put in force for a service."""
    try:
        pin = pinned.load(paths, service)
        missing = pinned.losses(paths, service)
    except SetupError as error:
        path = str(error).partition(" ")[0]
        mend = f"mv {quoted(path)} {quoted(path + '.broken')}" if path.startswith("/") else ""
        return [Finding("record-unreadable", str(error), mend)]
    found = []
    option = "" if service == pinned.SSHD else f" --service {service}"
    if missing:
        found.append(Finding("enforcement-lost", "; ".join(missing), f"pam-totp setup{option}"))
    if pin is not None and pin.revert is not None:
        found.append(Finding("revert-pending", f"{service}, variant {pin.variant}", "pam-totp setup --keep"))
    return found
