"""What has to be proven, row by row, and the table of how often it was."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """One promise: `what` is done, and `holds` afterwards; `full` cases at least on each suite with --full."""

    section: str
    what: str
    holds: str
    full: int = 0


ROWS = {
    "kill": Row("faults", "SIGKILL at each system call of a login and of each command", "old or new state, opens", 50),
    "hangup": Row(
        "faults", "connection closed or SIGTERM at and after the prompt, over sshd", "the next login works", 200
    ),
    "errors": Row(
        "faults", "ENOSPC EDQUOT EIO EROFS EMFILE ENOMEM at each system call", "once, or denied and logged", 200
    ),
    "disk": Row("faults", "a full tmpfs, a read-only mount, a hot journal", "spent is spent, nothing is lost", 2),
    "clock": Row(
        "faults", "clock set by 1 s to a year either way, 1970, 2038", "nothing below the mark, waits stay", 14
    ),
    "cache": Row(
        "faults", "truncations, bit flips, mutations, rows gone or renamed", "nobody gets in, status names it", 100_000
    ),
    "swap": Row(
        "faults", "records of other users, hosts, keys; an older cache", "denied; nothing spent works again", 12
    ),
    "key": Row("faults", "key missing, short, wrong, readable, owned by another", "denied, the command helps", 5),
    "paths": Row(
        "faults", "link, hard link, FIFO, device, directory at each path; open parents", "refused, no hang", 35
    ),
    "stuck": Row("faults", "slow disk, a stopped holder of the lock", "denied in time, no hang", 2),
    "nss": Row("faults", "a name service that fails, flaps, hangs", "asked, or denied and logged; never let in", 1000),
    "power": Row("faults", "power lost at each write and sync", "opens, nothing committed is lost", 100),
    "same-code": Row("races", "the same code at the same moment", "exactly one gets in", 223),
    "wrong-codes": Row("races", "wrong codes in parallel", "no counter is outrun, the usual source gets in", 2000),
    "strangers": Row(
        "races", "wrong answers of every kind from other addresses, locking", "the usual source gets in both ways", 2000
    ),
    "changes": Row(
        "races", "logins while the user is enrolled, reset, unlocked", "old or new, never by accident", 1000
    ),
    "crowd": Row("races", "ssh connections at once beyond MaxStartups", "sshd survives, the next login works", 500),
    "codes": Row("input", "hostile codes", "none accepted, none raises, none logged", 100_000),
    "names": Row("input", "hostile user names", "no path, state or log injection, none un-enrolled", 40),
    "settings": Row(
        "input", "module arguments and configuration, fuzzed", "understood or refused, never open", 100_000
    ),
    "environment": Row("input", "hostile environment, limits and descriptors", "never open", 20),
    "parsers": Row("input", "what is read from disk, fuzzed with coverage guidance", "opens or is refused", 0),
    "secrets": Row("secrets", "marker secret and codes looked for everywhere", "found nowhere", 6),
    "timing": Row("secrets", "time of a wrong digit at each position", "the same", 6),
    "recovery": Row("recovery", "each command of docs/recovery.md, as written", "the administrator is back in", 6),
    "removal": Row("recovery", "removing the package with the PAM line in place", "refused", 1),
    "core": Row("core", "branches of login, ledger, policy, otp", "all covered", 0),
}


@dataclass
class Tally:
    """What was done for one row."""

    cases: int = 0
    pam: int = 0
    failed: int = 0
    seconds: float = 0.0
    suites: set[str] = field(default_factory=set)
    figures: dict[str, str] = field(default_factory=dict)

    def add(self, entry: dict[str, object]) -> None:
        """Add what one test has told."""
        self.cases += int(str(entry["cases"]))
        self.pam += int(str(entry["pam"]))
        figures = entry["figures"]
        if isinstance(figures, dict):
            self.figures.update(figures)


def table(tallies: dict[str, Tally]) -> str:
    """The rows that ran, as text; figures on lines of their own below."""
    head = ("row", "what", "cases", "through PAM", "suites", "result")
    lines = [head]
    for key, row in ROWS.items():
        tally = tallies.get(key)
        if tally is not None:
            result = f"{tally.failed} FAILED" if tally.failed else row.holds
            suites = "+".join(sorted(tally.suites)) or "-"
            lines.append((key, row.what, f"{tally.cases:,}", f"{tally.pam:,}", suites, result))
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = []
    for line in lines:
        cells = [
            cell.rjust(width) if cell[:1].isdigit() and cell[-1:].isdigit() else cell.ljust(width)
            for cell, width in zip(line, widths, strict=True)
        ]
        text.append("  ".join(cells).rstrip())
    for key, tally in tallies.items():
        text.extend(f"{key}: {name} {value}" for name, value in sorted(tally.figures.items()))
    return "\n".join(text)


def document(tallies: dict[str, Tally], full: bool) -> dict[str, object]:
    """The same for programs."""
    return {
        "full": full,
        "rows": [
            {
                "row": key,
                "section": row.section,
                "what": row.what,
                "holds": row.holds,
                "cases": tally.cases,
                "through_pam": tally.pam,
                "failed_tests": tally.failed,
                "suites": sorted(tally.suites),
                "seconds": round(tally.seconds, 1),
                "figures": tally.figures,
            }
            for key, row in ROWS.items()
            if (tally := tallies.get(key)) is not None
        ],
    }
