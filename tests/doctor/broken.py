"""Broken set-ups: how each is made from one that works, and what is found. The printed command has to mend it."""

from __future__ import annotations

from dataclasses import dataclass, field

PAM = "/etc/pam.d/sshd"
DROP_IN = "/etc/ssh/sshd_config.d/00-pam-totp.conf"
CONFIG = "/etc/pam-totp/config.toml"
# The line of ours, and where the first auth line of the file is.
LINE = "auth required pam_totp.so"


@dataclass(frozen=True)
class Broken:
    """`script` breaks what `base` is; `also` is found besides; `left` is what the command leaves to be done."""

    name: str
    found: str
    script: str
    base: str = "key"
    also: frozenset[str] = field(default_factory=frozenset)
    left: frozenset[str] = field(default_factory=frozenset)
    edit: str = ""  # what somebody does in the editor
    real: bool = False  # through the command itself, with its trial
    elsewhere: str = ""  # what mends it where no command of this host can


def row(name: str, found: str, script: str, base: str = "key", **more: object) -> Broken:
    """A row; `also` and `left` are written as words."""
    words = {key: frozenset(str(more.pop(key, "")).split()) for key in ("also", "left")}
    return Broken(name, found, script, base, **words, **more)  # type: ignore[arg-type]  # as the class has them


def ours(line: str) -> str:
    """The script that puts another line in the place of ours."""
    return f"sed -i 's|^auth required pam_totp.so.*|{line}|' {PAM}"


def before(line: str, what: str = "^auth required pam_totp.so") -> str:
    return f"sed -i '0,/{what}/{{/{what}/i {line}\n}}' {PAM}"


def setting(keyword: str, value: str) -> str:
    return f"sed -i '/^{keyword} /d' {DROP_IN}; sed -i '1i {keyword} {value}' {DROP_IN}"


def match(criteria: str, *lines: str) -> str:
    text = "\\n".join((f"Match {criteria}", *(f"    {line}" for line in lines)))
    return f"printf '{text}\\n' >/etc/ssh/sshd_config.d/50-local.conf"


def config(text: str) -> str:
    return f"printf '%s\\n' '{text}' >{CONFIG}; pam-totp config check >/dev/null 2>&1 || true"


def published(what: str) -> str:
    """What the directory does (tests/doctor/published.py), and then the host takes it or does not."""
    return f"python3 -I /root/published.py {what}; pam-totp sync >/dev/null 2>&1 || true"


PAM_ROWS = (
    row("the distribution's file is back", "line-missing", f"cp /root/original-sshd {PAM}"),
    row("the line was deleted", "line-missing", f"sed -i '/pam_totp/d' {PAM}", "password"),
    row("the line is a comment", "line-missing", f"sed -i 's/^auth.*pam_totp/# &/' {PAM}", "password"),
    row("a hyphen in the name", "line-misspelt", ours("auth required pam-totp.so"), "password"),
    row("letters in the wrong order", "line-misspelt", ours("auth required pam_topt.so"), "password"),
    row("no .so", "line-misspelt", ours("auth required pam_totp"), "password"),
    row("the script alone", "line-misspelt", ours("auth required pam_totp.py"), "password"),
    row(
        "pam_python with another script", "line-misspelt", ours("auth required pam_python.so pam_toptp.py"), "password"
    ),
    row("optional", "line-not-required", ours("auth optional pam_totp.so first_factor=publickey")),
    row("sufficient", "line-not-required", ours("auth sufficient pam_totp.so"), "password"),
    row("default=ignore", "line-not-required", ours("auth [success=ok default=ignore] pam_totp.so"), "password"),
    row(
        "one error ignored",
        "line-not-required",
        ours("auth [success=ok ignore=ignore authinfo_unavail=ignore default=die] pam_totp.so"),
        "password",
    ),
    row(
        "a module that cannot be loaded is ignored",
        "line-not-required",
        ours("auth [success=ok ignore=ignore open_err=ignore module_unknown=ignore default=bad] pam_totp.so"),
        "password",
    ),
    row("behind sufficient pam_permit", "line-behind-sufficient", before("auth sufficient pam_permit.so")),
    row("behind sufficient pam_unix", "line-behind-sufficient", before("auth sufficient pam_unix.so"), "password"),
    row("behind success=done", "line-behind-sufficient", before("auth [success=done default=ignore] pam_access.so")),
    row("jumped over", "line-jumped-over", before("auth [success=1 default=ignore] pam_access.so")),
    row("jumped over by default", "line-jumped-over", before("auth [default=1] pam_env.so")),
    row(
        "common-auth ends the stack",
        "include-decides",
        "sed -i 's/success=1/success=done/' /etc/pam.d/common-auth",
        "password",
    ),
    row(
        "another file that is taken in ends the stack",
        "include-decides",
        f"echo 'auth sufficient pam_rootok.so' >/etc/pam.d/local; {before('@include local', '^@include common-auth')}",
        "password",
    ),
    row(
        "reset after it",
        "refusal-taken-back",
        f"sed -i '/^auth required pam_totp/a auth [default=reset] pam_warn.so' {PAM}",
    ),
    row("a - before auth", "line-silent", ours("-auth required pam_totp.so"), "password"),
    row("an account line", "line-wrong-kind", f"echo 'account required pam_totp.so' >>{PAM}"),
    row("a session line", "line-wrong-kind", f"echo 'session required pam_totp.so' >>{PAM}"),
    row("a control that is no word of PAM's", "control-unknown", ours("auth requird pam_totp.so"), "password"),
    row("an argument of another module", "arguments-unknown", ours("auth required pam_totp.so nullok"), "password"),
    row(
        "an argument too many",
        "arguments-unknown",
        ours("auth required pam_totp.so first_factor=publickey debug"),
    ),
    row(
        "combined without its account line",
        "combined-incomplete",
        f"sed -i '/^account required pam_totp/d' {PAM}",
        "combined",
    ),
    row(
        "combined without verification",
        "combined-incomplete",
        f"sed -i '/combined=verify/d' {PAM}",
        "combined",
    ),
    row("two lines", "asked-twice", f"sed -i '/^auth required pam_totp/a {LINE}' {PAM}", "password"),
    row("no first factor", "permit-only", ours(LINE)),
    row(
        "pam_permit in the place of the password",
        "permit-only",
        f"sed -i 's/^@include common-auth/auth required pam_permit.so/' {PAM}",
        "password",
    ),
    row("pam_deny before it", "stack-refuses-all", before("auth requisite pam_deny.so")),
    row(
        "in common-auth by hand",
        "common-auth-by-hand",
        f"sed -i '/^auth required pam_totp/d' {PAM}; echo '{LINE}' >>/etc/pam.d/common-auth",
        "password",
    ),
    row(
        "pam_python in common-auth",
        "pam-python-in-common-auth",
        f"sed -i '/^auth required pam_totp/d' {PAM}; "
        "echo 'auth required pam_python.so pam_totp.py' >>/etc/pam.d/common-auth",
        "password",
        left="common-auth-by-hand",
    ),
    row(
        "pam_python in su",
        "pam-python-started-by-users",
        "echo 'auth required pam_python.so pam_totp.py' >>/etc/pam.d/su",
    ),
    row(
        "pam_python in sudo",
        "pam-python-started-by-users",
        "sed -i '1a auth required pam_python.so pam_totp.py' /etc/pam.d/sudo",
    ),
    row(
        "what setup put in force was taken out",
        "enforcement-lost",
        f"cp /root/original-sshd {PAM}",
        "pinned",
        also="line-missing",
    ),
    row(
        "setup's drop-in was deleted",
        "enforcement-lost",
        f"rm {DROP_IN}",
        "pinned",
        also="key-alone keyboard-interactive-off password-method",
    ),
    row("setup's record is broken", "record-unreadable", "echo no >/var/lib/pam-totp/setup/sshd.json", "pinned"),
)

SSHD_ROWS = (
    row("UsePAM no", "use-pam-off", setting("UsePAM", "no")),
    row(
        "no keyboard-interactive",
        "keyboard-interactive-off",
        setting("KbdInteractiveAuthentication", "no") + "; " + setting("AuthenticationMethods", "any"),
        also="key-alone",
        left="key-alone",
    ),
    row("the key alone", "key-alone", setting("AuthenticationMethods", "publickey")),
    row("any method", "key-alone", setting("AuthenticationMethods", "any")),
    row("no AuthenticationMethods", "key-alone", f"sed -i '/^AuthenticationMethods/d' {DROP_IN}"),
    row(
        "a second list",
        "key-alone",
        setting("AuthenticationMethods", "publickey,keyboard-interactive:pam publickey"),
    ),
    row(
        "GSSAPI in a list of its own",
        "gssapi-alone",
        setting("AuthenticationMethods", "publickey,keyboard-interactive:pam gssapi-with-mic")
        + "; "
        + setting("GSSAPIAuthentication", "yes"),
    ),
    row(
        "host-based logins in a list of their own",
        "hostbased-alone",
        setting("AuthenticationMethods", "publickey,keyboard-interactive:pam hostbased")
        + "; "
        + setting("HostbasedAuthentication", "yes"),
    ),
    row("Kerberos checks passwords", "kerberos-alone", setting("KerberosAuthentication", "yes"), "combined"),
    row(
        "PAM wants a key that sshd does not ask for",
        "first-factor-not-asked",
        setting("AuthenticationMethods", "keyboard-interactive:pam"),
    ),
    row(
        "the method password",
        "password-method",
        setting("AuthenticationMethods", "keyboard-interactive:pam password")
        + "; "
        + setting("PasswordAuthentication", "yes"),
        "password",
    ),
    row("empty passwords", "empty-passwords", setting("PermitEmptyPasswords", "yes"), "password"),
    row(
        "root with a key and a code",
        "root-cannot-answer",
        "install -d -m 700 /root/.ssh; cp /home/alice/.ssh/authorized_keys /root/.ssh/",
        "root",
    ),
    row(
        "too little time to enrol",
        "grace-time-short",
        config('unenrolled = "enroll"') + "; " + setting("LoginGraceTime", "30"),
    ),
    row(
        "names in the place of addresses",
        "dns-names",
        config('[[rule]]\nnetworks = ["192.0.2.0/24"]\nmfa = "skip"') + "; " + setting("UseDNS", "yes"),
    ),
    row("a Match block for a user", "key-alone", match("User alice", "AuthenticationMethods publickey")),
    row("a Match block for a group", "key-alone", match("Group alice", "AuthenticationMethods publickey")),
    row(
        "a Match block for a network",
        "key-alone",
        match("Address 10.0.0.0/8", "AuthenticationMethods publickey publickey,keyboard-interactive:pam"),
    ),
    row(
        "a Match block for a port",
        "key-alone",
        match("LocalPort 2222", "X11Forwarding no", "AuthenticationMethods publickey"),
    ),
    row(
        "a Match block for all",
        "keyboard-interactive-off",
        match(
            "all",
            "KbdInteractiveAuthentication no",
            "AuthenticationMethods publickey,password",
            "PasswordAuthentication yes",
        ),
        also="password-method",
        left="password-method",
    ),
    row(
        "sshd reads no drop-ins",
        "keyboard-interactive-off",
        "sed -i '/^Include/d' /etc/ssh/sshd_config",
        also="key-alone password-method",
        left="key-alone password-method",
    ),
    row(
        "a second sshd",
        "second-sshd",
        "printf 'Port 2222\\nUsePAM yes\\nPidFile none\\n' >/etc/ssh/other; /usr/sbin/sshd -f /etc/ssh/other",
    ),
    row(
        "sshd was not reloaded",
        "not-reloaded",
        "/usr/sbin/sshd; until test -s /run/sshd.pid; do sleep 0.01; done; sleep 0.02; "
        "echo '# later' >>/etc/ssh/sshd_config",
    ),
    row(
        "a keyword that sshd does not know",
        "sshd-config-invalid",
        "echo 'Nonsense yes' >/etc/ssh/sshd_config.d/60-local.conf",
    ),
)

HOST_ROWS = (
    row("the module is gone", "module-missing", 'mv "$(ls /usr/lib/*/security/pam_totp.so)" /root/', real=True),
    row(
        "the module lets everybody in",
        "engine-fails",
        'module=$(ls /usr/lib/*/security/pam_totp.so); cp "${module%totp.so}permit.so" "$module.new"; '
        'mv "$module.new" "$module"',
        real=True,
    ),
    row(
        "a part of the module does not load",
        "imports-fail",
        "echo 'raise ImportError(\"of a later Python\")' >/usr/lib/python3/dist-packages/pam_totp/engine/pam_entry.py",
        real=True,
    ),
    row(
        "not compiled",
        "not-compiled",
        "rm -r /usr/lib/python3/dist-packages/pam_totp/engine/__pycache__",
        real=True,
    ),
    row("everybody can read the key", "key-unsafe", "chmod 444 /etc/pam-totp/key"),
    row("the key is somebody else's", "key-unsafe", "chown alice /etc/pam-totp/key"),
    row("the key has two names", "key-unsafe", "ln /etc/pam-totp/key /etc/pam-totp/other"),
    row("the key is a link", "key-unsafe", "mv /etc/pam-totp/key /root/; ln -s /root/key /etc/pam-totp/key"),
    row(
        "the cache is a link",
        "cache-unsafe",
        "mv /var/lib/pam-totp/cache.db /root/; ln -s /root/cache.db /var/lib/pam-totp/cache.db",
    ),
    row(
        "the configuration is a link",
        "config-unsafe",
        config("window = 2") + f"; mv {CONFIG} /root/; ln -s /root/config.toml {CONFIG}",
    ),
    row("everybody can change the cache", "cache-unsafe", "chmod 666 /var/lib/pam-totp/cache.db"),
    row("the cache is somebody else's", "cache-unsafe", "chown alice /var/lib/pam-totp/cache.db"),
    row("everybody can read the journal", "cache-unsafe", "chmod 644 /var/lib/pam-totp/cache.db-journal"),
    row("others can change the key's directory", "directory-unsafe", "chmod 777 /etc/pam-totp"),
    row("others can look into the cache's directory", "directory-unsafe", "chmod 755 /var/lib/pam-totp"),
    row("the directory in /run is open", "run-unsafe", "chmod 755 /run/pam-totp"),
    row(
        "a record does not open",
        "cache-damaged",
        "sqlite3 /var/lib/pam-totp/cache.db \"UPDATE account SET ledger = x'00' WHERE name = 'alice'\"",
        left="not-enrolled",
        also="not-enrolled",
    ),
    row("the configuration is gone", "config-missing", config("window = 2") + f"; rm {CONFIG}"),
    row("a key that is not known", "config-invalid", config("windw = 2"), edit="echo 'window = 2' >\"$1\""),
    row("an empty configuration", "config-invalid", f": >{CONFIG}", edit="echo 'window = 2' >\"$1\""),
    row("others can change the configuration", "config-unsafe", config("window = 2") + f"; chmod 666 {CONFIG}"),
    row(
        "a rule for nobody",
        "rule-unknown-user",
        config('[[rule]]\nusers = ["alcie"]\nmfa = "skip"'),
        edit='sed -i s/alcie/alice/ "$1"',
    ),
    row(
        "a rule for no group",
        "rule-unknown-group",
        config('[[rule]]\ngroups = ["robts"]\nmfa = "skip"'),
        edit='sed -i s/robts/alice/ "$1"',
    ),
    row(
        "a rule for no service",
        "rule-unknown-service",
        config('[[rule]]\nservices = ["shhd"]\nmfa = "require"'),
        edit='sed -i s/shhd/sshd/ "$1"',
    ),
    row(
        "a rule that is never reached",
        "rule-never-reached",
        config('[[rule]]\nmfa = "require"\n[[rule]]\nusers = ["alice"]\nmfa = "skip"'),
        edit='printf \'[[rule]]\\nmfa = "require"\\n\' >"$1"',
    ),
    row("a key of 0.1.0", "config-obsolete", config('[enrollment]\npending = "1d"'), edit='echo window = 1 >"$1"'),
    row("a copy of the key beside the cache", "key-beside-cache", "cp /etc/pam-totp/key /var/lib/pam-totp/key.bak"),
    row(
        "one backup of both",
        "backup-has-both",
        "printf 'backup\\t/etc/\\tlocalhost/\\nbackup\\t/var/lib/\\tlocalhost/\\n' >/etc/rsnapshot.conf",
    ),
)

PEOPLE_ROWS = (
    row("a user who is not enrolled", "not-enrolled", "useradd -m -s /bin/bash bob; echo bob:secret | chpasswd"),
    row(
        "a user who is not enrolled, and refused",
        "not-enrolled-refused",
        "useradd -m -s /bin/bash bob; echo bob:secret | chpasswd; " + config('unenrolled = "deny"'),
    ),
    row("a pending key", "pending", "pam-totp enroll alice --label tablet --no-confirm --json >/root/pending.json"),
    row("an exempt user", "exempt", "pam-totp exempt alice --until 2099-01-01 --reason holiday"),
    row("a uid that changed", "uid-changed", "usermod -u 4321 alice 2>/dev/null"),
    row("a user who is gone", "user-gone", "userdel alice"),
    row(
        "recovery codes used up", "no-recovery-codes", "pam-totp recovery alice >/dev/null; python3 -I /root/use_up.py"
    ),
    row("a user who is locked", "locked", "python3 -I /root/lock.py"),
)

# When the host is examined, the directory has already published something good again, which waits for the command.
GOOD = "; python3 -I /root/published.py good"

FLEET_ROWS = (
    row("nothing was taken of the directory yet", "fleet-behind", "python3 -I /root/published.py good", "joined"),
    row("a directory that answers with errors", "fleet-behind", published("errors") + GOOD, "fleet"),
    row("a manifest that is none", "fleet-refused", published("rubbish") + GOOD, "fleet"),
    row("a manifest of another directory", "fleet-refused", published("forged") + GOOD, "fleet"),
    row("a manifest that is past its date", "fleet-expired", published("expired") + GOOD, "fleet"),
    row("a directory that was silent for too long", "fleet-silent", published("silent") + GOOD, "fleet"),
    row(
        "a policy without codes",
        "fleet-policy-off",
        published("no-codes"),
        "fleet",
        elsewhere=published("good"),
    ),
)

ROWS = (*PAM_ROWS, *SSHD_ROWS, *HOST_ROWS, *PEOPLE_ROWS, *FLEET_ROWS)
