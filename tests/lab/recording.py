"""Real sessions in a machine, as pictures of them show: `./run demo --pictures` draws docs/*.svg from them.

The key, the codes and the times in them are those of a machine that is gone when the pictures are there.
"""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.lab import picture
from tests.lab.code import STEP, code, left
from tests.lab.package import CHECKOUT
from tests.lab.picture import Window, note
from tests.lab.setup import use
from tests.lab.ssh import Session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.machine import Machine
    from tests.lab.user import User

DESCRIPTIONS = {
    "enrolment": "An administrator enrols alice: pam-totp shows a QR code, and a first code activates it",
    "login": "alice logs in with password and code; the same code is refused the second time, and the status says why",
    "first-login": "bob enrols at the SSH prompt: QR code, first code, recovery codes",
}
HOST = "web1"
ROOT = f"root@{HOST}:~# "
ESCAPE = re.compile(r"\x1b\[[?0-9;]*[A-Za-z]|\x1b\][^\x07]*\x07|\r")
# Seconds that it takes.
MARGIN = 2.0
HIDDEN = re.compile(r"(Password: |Verification code: )$", re.MULTILINE)
# What differs from one session to the next.
VARYING = re.compile(
    r"(?P<secret>(?<=secret=)[A-Z2-7]{32}\b)|(?P<key>\b(?:[A-Z2-7]{4} ){7}[A-Z2-7]{4}\b)|(?P<code>\b\d{6}\b)"
    r"|(?P<recovery>\b[a-km-np-z2-9]{5}-[a-km-np-z2-9]{5}\b)|(?P<time>\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\dZ)?)"
    r"|(?P<blocks>^[█▀▄ ]{21,}$)",
    re.MULTILINE,
)


def path(name: str) -> Path:
    """Where a picture is kept."""
    return CHECKOUT / "docs" / f"{name}.svg"


def draw(machine: Machine) -> list[Path]:
    """Draw all pictures anew, in a machine with the package; return the files."""
    for name, windows in record(machine).items():
        path(name).write_text(picture.draw(DESCRIPTIONS[name], windows), encoding="utf-8")
    return [path(name) for name in DESCRIPTIONS]


def record(machine: Machine) -> dict[str, list[Window]]:
    """Carry out the sessions; return what they have shown, by the names of the pictures."""
    _prepare(machine)
    alice, bob = machine.user("alice", key=False), machine.user("bob", key=False)
    use(machine, "password-and-code")
    enrolment, secret = _enrolment(machine, alice)
    return {
        "enrolment": [enrolment],
        "login": [_login(machine, alice, secret), _status(machine, alice)],
        "first-login": [_first_login(machine, bob)],
    }


def constant(screen: str) -> str:
    """What a screen shows every time, with a name for what differs."""
    return VARYING.sub(lambda found: (found.lastgroup or "").upper(), screen)


def _prepare(machine: Machine) -> None:
    """A name for the host, no message of the day, no delay after a refusal, a client that takes the first no."""
    machine.sh(
        """
        set -e
        hostname "$1"
        printf '127.0.0.1 localhost %s\n' "$1" >/etc/hosts
        : >/etc/motd
        rm -f /etc/update-motd.d/*
        touch /etc/skel/.hushlogin
        sed -i 's/pam_unix.so nullok$/& nodelay/' /etc/pam.d/common-auth
        mkdir -p /etc/ssh/ssh_config.d
        echo 'NumberOfPasswordPrompts 1' >/etc/ssh/ssh_config.d/lab.conf
        """,
        HOST,
    )


def _enrolment(machine: Machine, user: User) -> tuple[Window, str]:
    with _terminal(machine, ROOT) as shell:
        shell.answer(f"pam-totp enroll {user}")
        shell.expect("Code from the app: ")
        secret = _secret(shell.screen)
        _steady()
        # The code of the step before this one: the next login has that of this one.
        shell.answer(code(secret, time.time() - STEP))
        shell.expect(r"\[y/N\] ")
        shell.answer("n")
        return Window(f"{HOST}, as root", _shown(shell, ROOT)), secret


def _login(machine: Machine, user: User, secret: str) -> Window:
    prompt = f"{user}@laptop:~$ "
    _steady()
    right = code(secret)
    with _terminal(machine, prompt, user) as shell:
        shell.answer(f"ssh {HOST}")
        _authenticate(shell, user, right)
        shell.expect(re.escape(f"{user}@{HOST}:~$ "))
        shell.answer("exit")
        shell.expect(re.escape(prompt))
        shell.answer(f"ssh {HOST}")
        _authenticate(shell, user, right)
        notes = ["not shown", f"{right} from the phone, not shown", "not shown", f"{right}, seen over the shoulder"]
        return Window(f"{user}'s laptop", _shown(shell, prompt, *notes))


def _status(machine: Machine, user: User) -> Window:
    with _terminal(machine, ROOT) as shell:
        shell.answer(f"pam-totp status {user}")
        return Window(f"{HOST}, as root", _shown(shell, ROOT))


def _first_login(machine: Machine, user: User) -> Window:
    machine.write("/etc/pam-totp/config.toml", 'unenrolled = "enroll"\n')
    prompt = f"{user}@laptop:~$ "
    with _terminal(machine, prompt, user) as shell:
        shell.answer(f"ssh {HOST}")
        shell.expect("Password: ")
        shell.answer(user.password)
        shell.expect("Code from the app: ")
        key = re.findall(r"\bkey  ((?:[A-Z2-7]{4} ?)+)", shell.screen)[-1].replace(" ", "")
        shell.answer(code(key))
        shell.expect("type yes: ")
        shell.answer("yes")
        remote = f"{user}@{HOST}:~$ "
        shell.expect(re.escape(remote))
        window = Window(f"{user}'s laptop", _text(shell.screen, prompt, "not shown"))
        shell.answer("exit")
        shell.expect(re.escape(prompt))
        return window


def _authenticate(shell: Session, user: User, right: str) -> None:
    shell.expect("Password: ")
    shell.answer(user.password)
    shell.expect("Verification code: ")
    shell.answer(right)


@contextmanager
def _terminal(machine: Machine, prompt: str, user: User | None = None) -> Iterator[Session]:
    """A shell that waits for a command."""
    home = f"/home/{user}" if user else "/root"
    environment = [f"HOME={home}", "TERM=xterm", "LANG=C.UTF-8", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", f"PS1={prompt}"]
    # Without job control, for which it would have to lead the terminal's session.
    shell = ["bash", "--norc", "--noprofile", "--noediting", "+m", "-i"]
    with Session(machine.inside(["env", "-i", *environment, *shell], user=user), {}, 30) as session:
        session.expect(re.escape(prompt))
        yield session
        session.answer("exit")
        session.wait()


def _shown(shell: Session, prompt: str, *notes: str) -> str:
    """Wait for the prompt after the last command; what was on the screen before it."""
    shell.expect(re.escape(prompt))
    return _text(shell.screen, prompt, *notes)


def _text(screen: str, prompt: str, *notes: str) -> str:
    """The lines of a screen, with notes at the prompts that do not show what is typed."""
    text = ESCAPE.sub("", screen).removesuffix(prompt)
    said = iter(notes)
    return HIDDEN.sub(lambda found: found[0] + note(next(said)), text).strip("\n") + "\n"


def _secret(screen: str) -> str:
    return str(re.findall(r"[?&]secret=([A-Z2-7]+)", screen)[-1])


def _steady() -> None:
    """What is computed in one step arrives in it."""
    if left() < MARGIN:
        time.sleep(left())
