"""What ``pam-totp doctor`` can find: each kind with a stable id, its severity, and what it means (docs/doctor.md)."""

from __future__ import annotations

ERROR = "error"  # MFA is not in force, or nobody can log in
UNKNOWN = "unknown"  # it cannot be told whether MFA is in force
WARNING = "warning"  # it is in force, but somebody will have trouble, or it may not last
NOTE = "note"
SEVERITIES = (ERROR, UNKNOWN, WARNING, NOTE)

# By id: the severity, and what is wrong in general. The ids are stable: programs and people look for them.
KINDS: dict[str, tuple[str, str]] = {
    # PAM
    "service-missing": (ERROR, "the service has no PAM file, so PAM takes the one named other"),
    "service-unreadable": (UNKNOWN, "the service's PAM file, or one that it takes in, cannot be read safely"),
    "line-missing": (ERROR, "no auth line of the service names the module"),
    "line-misspelt": (ERROR, "a line names a module that looks like ours and is not"),
    "line-not-required": (ERROR, "the line is optional, sufficient, or has its refusal ignored"),
    "line-behind-sufficient": (ERROR, "a line before it can let in without it"),
    "line-jumped-over": (ERROR, "a line before it can jump over it"),
    "include-decides": (ERROR, "a file that is taken in before it can let in without it"),
    "refusal-taken-back": (ERROR, "a line after it takes its refusal back"),
    "line-silent": (WARNING, "the line begins with -, so PAM lets in without it once the module is gone"),
    "line-wrong-kind": (ERROR, "the module stands in a line that is no auth line, where it refuses everybody"),
    "control-unknown": (ERROR, "the control word of the line is not one of PAM's"),
    "arguments-unknown": (ERROR, "the line gives the module an argument that it does not know"),
    "combined-incomplete": (ERROR, "a line that splits off the code has no lines that verify it, or the reverse"),
    "asked-twice": (ERROR, "two lines ask for a code, and a code is good once"),
    "permit-only": (ERROR, "who is not enrolled gets in without password and key"),
    "stack-refuses-all": (ERROR, "no login can pass the service's lines"),
    "common-auth-by-hand": (WARNING, "the line was put into common-auth by hand, where pam-auth-update may drop it"),
    "pam-python-in-common-auth": (ERROR, "pam_python.so is in common-auth, and so in services that users start"),
    "pam-python-started-by-users": (ERROR, "pam_python.so is in a service that users start with privileges"),
    "enforcement-lost": (ERROR, "what pam-totp setup put in force is not in force any more"),
    "record-unreadable": (ERROR, "the record of what pam-totp setup put in force cannot be used"),
    "revert-pending": (NOTE, "a set-up waits to be kept, and is undone if it is not"),
    # sshd
    "sshd-missing": (UNKNOWN, "there is no sshd whose settings could be looked at"),
    "sshd-config-invalid": (UNKNOWN, "sshd does not take its own configuration"),
    "use-pam-off": (ERROR, "sshd does not ask PAM"),
    "keyboard-interactive-off": (ERROR, "sshd lets PAM ask no questions"),
    "key-alone": (ERROR, "sshd lets a public key in without PAM's questions"),
    "gssapi-alone": (ERROR, "sshd lets a Kerberos ticket in without PAM's questions"),
    "hostbased-alone": (ERROR, "sshd lets another host's word in without PAM's questions"),
    "kerberos-alone": (ERROR, "sshd checks passwords with Kerberos by itself, without PAM's questions"),
    "first-factor-not-asked": (ERROR, "PAM's line demands a key that sshd does not ask for"),
    "password-method": (WARNING, "sshd offers the method password, which has no room for a code"),
    "empty-passwords": (WARNING, "sshd takes empty passwords"),
    "root-cannot-answer": (WARNING, "sshd keeps root's answers from PAM, so root's key cannot be followed by a code"),
    "grace-time-short": (WARNING, "sshd gives too little time to enrol at the prompt"),
    "dns-names": (WARNING, "rules name networks, and sshd reports names"),
    "second-sshd": (ERROR, "another sshd runs, and lets in without a code"),
    "not-reloaded": (WARNING, "sshd has not read its configuration since it was changed"),
    # the engine
    "module-missing": (ERROR, "what the PAM line names is not installed"),
    "imports-fail": (ERROR, "this host's Python cannot run the module"),
    "not-compiled": (WARNING, "Python compiles the module anew at each login"),
    "engine-fails": (ERROR, "a PAM transaction that was tried did not come to the question, or decided wrongly"),
    "engine-not-tried": (UNKNOWN, "no PAM transaction could be tried"),
    # key, cache, configuration
    "key-missing": (ERROR, "the host key is gone"),
    "key-sealed": (ERROR, "the host key is sealed, and no boot has unsealed it"),
    "key-unsafe": (ERROR, "the host key can be read or changed by others, or is no plain file"),
    "key-malformed": (ERROR, "the host key is no key"),
    "key-wrong": (ERROR, "the host key is not the cache's"),
    "cache-missing": (ERROR, "the cache is gone"),
    "cache-unsafe": (ERROR, "the cache can be read or changed by others, or is no plain file"),
    "cache-unusable": (ERROR, "the cache cannot be used"),
    "cache-damaged": (ERROR, "SQLite, the roster or a record in the cache is damaged"),
    "cache-old": (WARNING, "the cache is of an older version"),
    "directory-unsafe": (ERROR, "others can change a directory above key, cache or configuration"),
    "run-unsafe": (ERROR, "the directory in /run is not a private one of root's"),
    "disk-full": (WARNING, "there is little room where the cache is"),
    "key-in-etckeeper": (WARNING, "etckeeper keeps a copy of the host key"),
    "key-beside-cache": (WARNING, "a copy of the host key lies beside the cache, and is backed up with it"),
    "backup-has-both": (WARNING, "one backup has both key and cache"),
    "config-invalid": (ERROR, "the configuration is not understood, so everybody is refused"),
    "config-unsafe": (ERROR, "others can change the configuration, so everybody is refused"),
    "config-missing": (ERROR, "the configuration that this host had is gone, so everybody is refused"),
    "config-obsolete": (NOTE, "the configuration has a key that means nothing any more"),
    "rule-never-reached": (WARNING, "earlier rules take every login that a rule could match"),
    "rule-unknown-user": (WARNING, "a rule names a user whom this host does not know"),
    "rule-unknown-group": (WARNING, "a rule names a group that this host does not know"),
    "rule-unknown-service": (WARNING, "a rule names a service that has no PAM file"),
    # the clock
    "clock-not-synchronised": (WARNING, "the clock is not synchronised"),
    "drifts-agree": (WARNING, "the clocks of most users' authenticators differ from this host's in the same way"),
    # who can log in
    "not-enrolled": (WARNING, "users who can log in are not enrolled, and are not asked for a code"),
    "not-enrolled-refused": (NOTE, "users who could log in are not enrolled, and are refused or have to enrol"),
    "deadline-past": (WARNING, "a user's deadline to enrol is over"),
    "pending": (NOTE, "a user's key waits for its first code"),
    "exempt": (NOTE, "a user is exempt for some time"),
    "locked": (WARNING, "a user is locked after wrong codes"),
    "no-recovery-codes": (WARNING, "a user has used all recovery codes"),
    "uid-changed": (WARNING, "a user was enrolled with another uid, and is refused"),
    "user-gone": (WARNING, "a record is of a user whom this host does not know any more"),
    # the fleet
    "fleet-silent": (ERROR, "the directory has been silent for longer than it allows, so users are refused"),
    "fleet-refused": (WARNING, "what is published for this host was refused, and the last good state is in force"),
    "fleet-expired": (WARNING, "the manifest in force is past its date, and no newer one has come"),
    "fleet-behind": (WARNING, "the directory was not reached for some time, or something waits"),
    "fleet-cloned": (WARNING, "another host has the identity that this one has in its fleet"),
    "fleet-agent-off": (WARNING, "this host is one of a fleet, and its agent does not run"),
    "fleet-policy-off": (WARNING, "the directory's policy asks for no codes on this host"),
}


class Finding:
    """One thing that is wrong. ``mend`` is a command for root's shell, or empty where only a person can know."""

    __slots__ = ("identifier", "mend", "text")

    def __init__(self, identifier: str, text: str, mend: str = "") -> None:
        if identifier not in KINDS:
            raise KeyError(identifier)
        self.identifier = identifier
        self.text = text
        self.mend = mend

    def __repr__(self) -> str:
        return f"Finding({self.identifier!r}, {self.text!r})"

    @property
    def severity(self) -> str:
        """error, unknown, warning or note."""
        return KINDS[self.identifier][0]

    def plain(self) -> dict[str, str | None]:
        """As ``--json`` has it."""
        return {
            "id": self.identifier,
            "severity": self.severity,
            "meaning": KINDS[self.identifier][1],
            "detail": self.text,
            "mend": self.mend or None,
        }


def status(found: list[Finding]) -> int:
    """The exit code: 0 where MFA is in force, 1 where it is not, 3 where that cannot be told."""
    severities = {each.severity for each in found}
    return 1 if ERROR in severities else 3 if UNKNOWN in severities else 0


def in_place(path: str, start: int, end: int, text: str | None) -> str:
    """The command that puts a line in the place of these (from ``start``, which counts from 0, up to ``end``)."""
    lines = f"{start + 1}" if end - start == 1 else f"{start + 1},{end}"
    return f"sed -i {quoted(f'{lines}d' if text is None else f'{lines}c {text}')} {quoted(path)}"


def quoted(word: str) -> str:
    """A word for a shell, in quotes where it needs some."""
    plain = word and all(character.isalnum() or character in "@%+=:,./-_" for character in word)
    return word if plain and word.isascii() else "'" + word.replace("'", "'\"'\"'") + "'"
