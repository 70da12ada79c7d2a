"""The command as a whole: its forms, its help, its exit codes."""

from __future__ import annotations

import argparse
import keyword
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pam_totp import __version__, cli
from pam_totp.cli import status, unlock
from pam_totp.errors import CacheError, ConfigError, HostKeyError, UsageError
from pam_totp.host.paths import Paths

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.cli.conftest import Command
    from tests.unit.pretend import Host

CHECKOUT = Path(__file__).resolve().parents[3]
FORMS = {
    "init": ["--anew"],
    "migrate": [],
    "enroll": [
        *("USER?", "--from FILE", "--group G", "--handout DIR", "--active"),
        *(
            "--label L",
            "--qr {utf8,utf8-light,ascii,ascii-light,none}",
            "--no-account",
            "--no-confirm",
            "--replace",
            "--json",
        ),
    ],
    "confirm": ["USER"],
    "status": ["USER*", "--all", "--missing", "--json"],
    "reset": ["USER", "--label L", "--yes"],
    "unlock": ["USER"],
    "check": ["USER"],
}


def verbs() -> dict[str, argparse.ArgumentParser]:
    [action] = [each for each in cli.parser()._actions if isinstance(each, argparse._SubParsersAction)]
    return dict(action.choices)


def form(parser: argparse.ArgumentParser) -> list[str]:
    found = []
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        name = action.option_strings[-1] if action.option_strings else str(action.metavar) + str(action.nargs or "")
        value = "{" + ",".join(action.choices) + "}" if action.choices else action.metavar
        found.append(name if action.nargs == 0 or not action.option_strings else f"{name} {value}")
    return found


@pytest.mark.parametrize("verb", FORMS)
def test_the_forms_are_exactly_those_that_were_promised(verb: str) -> None:
    assert form(verbs()[verb]) == FORMS[verb]


def test_no_verb_takes_a_code_or_a_secret_as_an_argument() -> None:
    for verb, parser in verbs().items():
        for each in form(parser):
            name = each.partition("{")[0].lower()  # a choice is one of ours, and nobody's secret
            assert not any(word in name for word in ("code", "secret", "seed", "otp", "password")), verb


@pytest.mark.parametrize("verb", ["", *verbs()])
def test_everything_has_help(verb: str, command: Command) -> None:
    ran = command(*filter(None, (verb, "--help")))
    assert ran.code == 0
    assert ran.out.startswith(f"usage: pam-totp {verb}".rstrip())
    assert ran.err == ""
    assert len(ran.out.splitlines()) > 3


def test_help_lists_every_verb_with_what_it_does(command: Command) -> None:
    text = " ".join(command("--help").out.split())
    for verb, parser in verbs().items():
        summary = (parser.description or "").partition("\n")[0].rstrip(".")
        assert f"{verb} {summary[0].lower()}{summary[1:]}" in text


def test_the_version_is_told(command: Command) -> None:
    assert command("--version").out == f"pam-totp {__version__}\n"


@pytest.mark.parametrize(
    "argv",
    [
        *([], ["frobnicate"], ["--frobnicate"], ["enroll"], ["confirm"], ["reset"], ["unlock"], ["check"]),
        *(["init", "alice"], ["confirm", "alice", "123456"], ["check", "alice", "123456"], ["unlock", "alice", "bob"]),
        *(["enroll", "alice", "--qr", "png"], ["enroll", "alice", "--secret", "x"], ["status", "--yaml"], ["stat"]),
        *(["enroll", "alice", "--no-c"], ["reset", "alice", "--y"], ["enroll", "alice", "--label"], ["status", "--js"]),
    ],
)
def test_anything_else_is_a_usage_error(argv: list[str], command: Command) -> None:
    ran = command(*argv)
    assert ran.code == 2
    assert ran.out == ""
    # Of the verb, where there is one.
    assert ran.err.startswith(f"usage: pam-totp {argv[0]} " if argv[:1] and argv[0] in verbs() else "usage: pam-totp [")


@pytest.mark.parametrize("verb", FORMS)
def test_who_is_not_root_gets_a_clear_error(verb: str, host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    paths = Paths.below(host.root, os.geteuid() + 1)
    argv = [verb, "alice"] if FORMS[verb][:1] in (["USER"], ["USER?"]) else [verb]
    assert cli.main([*argv, *(["--yes"] if verb == "reset" else [])], paths) == 3
    out, err = capsys.readouterr()
    assert (out, err) == ("", "pam-totp: only root may do this: run it with sudo\n")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (
            lambda: UsageError("no such user"),
            2,
            "usage: pam-totp status [-h] [--all] [--missing] [--json] [USER ...]\npam-totp: no such user\n",
        ),
        (lambda: CacheError("the cache is missing"), 3, "pam-totp: the cache is missing\n"),
        (lambda: HostKeyError("the key is missing"), 3, "pam-totp: the key is missing\n"),
        (lambda: ConfigError("unknown key"), 3, "pam-totp: unknown key\n"),
        (lambda: PermissionError(13, "Permission denied", "/run"), 3, "pam-totp: /run: Permission denied\n"),
        (KeyboardInterrupt, 1, "\npam-totp: interrupted, nothing changed\n"),
    ],
)
def test_an_error_has_its_exit_code_and_says_what_it_is(
    error: Callable[[], BaseException], code: int, message: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise error()

    monkeypatch.setattr(status, "run", fail)
    ran = command("status")
    assert (ran.code, ran.out, ran.err) == (code, "", message)


def test_help_is_a_verb_as_well(command: Command) -> None:
    assert command("help").out == command("--help").out
    assert command("help", "enroll").out == command("enroll", "--help").out


def test_enrol_is_taken_for_enroll(command: Command, host: Host) -> None:
    assert command("enrol", "--help").out == command("enroll", "--help").out
    assert command("self", "enrol", "--json").err.endswith("self enroll takes no --json: see pam-totp self --help\n")
    assert host.account().state == "none"


def test_a_reader_that_goes_away_ends_the_command_quietly(host: Host) -> None:
    names = ("key", "config", "cache", "run", "owner", "socket", "services")
    paths = {name: getattr(host.paths, name) for name in names}
    program = f"""
import os, sys
from pam_totp import cli
from pam_totp.host.paths import Paths
reader, writer = os.pipe()
os.dup2(writer, 1)
os.close(reader)
sys.exit(cli.main(["status"], Paths(**{paths!r})))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, check=False, encoding="ascii"
    )
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize("verb", [verb for verb, each in FORMS.items() if verb != "init" or each])
def test_without_a_cache_nothing_works_and_the_reason_is_told(verb: str, command: Command, host: Host) -> None:
    os.unlink(host.paths.cache)
    argv = [verb, "alice"] if FORMS[verb][:1] in (["USER"], ["USER?"]) else [verb]
    ran = command(*argv, *(["--yes"] if verb == "reset" else []), piped="123456\n")
    assert ran.code == 3
    assert "cache" in ran.err
    assert "backup" in ran.err
    assert not os.path.exists(host.paths.cache)


def test_a_change_is_logged_with_who_made_it(
    command: Command, host: Host, journal: list[tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    host.enroll()
    monkeypatch.setenv("SUDO_USER", "carol")
    assert command("unlock", "alice").code == 0
    monkeypatch.delenv("SUDO_USER")
    assert command("unlock", "alice").code == 0
    assert [line for _, line in journal] == [
        "pam-totp: user=alice action=unlock by=carol",
        "pam-totp: user=alice action=unlock by=root",
    ]


def test_every_verb_has_a_file_of_its_own() -> None:
    names = [f"{name}_" if keyword.iskeyword(name) else name for name in verbs()]
    assert [verb.__name__ for verb in cli.VERBS] == [f"pam_totp.cli.{name}" for name in names]
    assert unlock in cli.VERBS
