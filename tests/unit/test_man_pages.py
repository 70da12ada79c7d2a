"""The man pages and the completion say what the command and the configuration take: all of it, and nothing else."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import pytest

from pam_totp.cli import parser
from pam_totp.host.config import Config, Enrollment, Rule
from pam_totp.host.settings import duration

CHECKOUT = Path(__file__).resolve().parents[2]
COMMAND = (CHECKOUT / "docs/man/pam-totp.8").read_text(encoding="utf-8")
CONFIGURATION = (CHECKOUT / "docs/man/pam-totp.toml.5").read_text(encoding="utf-8")
COMPLETION = (CHECKOUT / "debian/completions/pam-totp").read_text(encoding="utf-8")


def verbs() -> dict[str, argparse.ArgumentParser]:
    [action] = [each for each in parser()._actions if isinstance(each, argparse._SubParsersAction)]
    return dict(action.choices)


def options(of: argparse.ArgumentParser) -> set[str]:
    return {option for action in of._actions for option in action.option_strings} - {"-h", "--help"}


def options_in(roff: str) -> set[str]:
    # In brackets, in a list, or one that is needed, with its value.
    lines = re.findall(r"^\.(?:(?:It|Op) (?=Fl)|(?=Fl -[\w-]+ (?:Ar|Cm) )).*", roff, re.MULTILINE)
    return {"-" + option for option in re.findall(r"Fl (-[\w-]+)", "\n".join(lines))}


def synopses() -> dict[str, str]:
    section = COMMAND.partition(".Sh SYNOPSIS\n")[2].partition(".Sh DESCRIPTION\n")[0]
    return dict(re.findall(r"^\.Nm\n\.Cm (\w+)\n((?:(?!\.Nm).+\n)*)", section, re.MULTILINE))


def entries() -> dict[str, str]:
    section = COMMAND.partition(".Sh DESCRIPTION\n")[2].partition(".Sh EXIT STATUS\n")[0]
    parts = re.split(r"^\.It Cm (\w+).*\n", section, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_page_has_every_verb_in_the_order_of_the_help_and_no_other() -> None:
    assert list(synopses()) == list(entries()) == list(verbs())


@pytest.mark.parametrize("verb", verbs())
def test_the_page_has_every_option_of_a_verb_and_no_other(verb: str) -> None:
    assert options_in(synopses()[verb]) == options(verbs()[verb])
    assert options_in(entries()[verb]) == options(verbs()[verb])


@pytest.mark.parametrize("verb", verbs())
def test_the_page_has_the_operands_of_a_verb(verb: str) -> None:
    forms = {None: ".Ar {}", "?": ".Op Ar {}", "*": ".Op Ar {} ..."}
    expected = [
        f".Cm {' | '.join(action.choices)}"
        if action.choices
        else forms[action.nargs].format(str(action.metavar).lower())  # type: ignore[index]  # a known one
        for action in verbs()[verb]._actions
        if not action.option_strings
    ]
    lines = synopses()[verb].splitlines()
    assert [line for line in lines if re.match(r"\.((Op )?Ar|Cm) ", line)] == expected


def test_the_page_has_the_choices_of_an_option() -> None:
    for verb, each in verbs().items():
        for action in each._actions:
            if action.choices and action.option_strings:
                assert f"Fl {action.option_strings[0][1:]} Cm {' | '.join(action.choices)}" in entries()[verb]


def test_the_completion_has_the_same_verbs_options_and_choices() -> None:
    assert re.findall(r"verbs='(.*)'", COMPLETION) == [" ".join(verbs())]
    offered = {verb: set(words.split()) for verb, words in re.findall(r"(\w+)\) options\+='(.*)'", COMPLETION)}
    assert offered == {verb: options(each) for verb, each in verbs().items() if options(each)}
    [users] = re.findall(r"^ +((?:\w+ \| )+\w+)\)\n +# One user", COMPLETION, re.MULTILINE)
    takes_a_user = {verb for verb, each in verbs().items() if any(a.metavar == "USER" for a in each._actions)}
    assert set(users.split(" | ")) == takes_a_user
    choices = {
        action.option_strings[0]: " ".join(action.choices)
        for each in verbs().values()
        for action in each._actions
        if action.choices and action.option_strings
    }
    assert dict(re.findall(r"(--\w+)\)\n.*compgen -W '(.*)' --", COMPLETION)) == choices


def keys_in(roff: str) -> dict[str, str]:
    """The keys that a part of the page describes, each with its text."""
    parts = re.split(r"^\.It Cm (\w+) No = .*\n", roff, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def default_in(text: str) -> str:
    """What a text says after "Default:", up to the next full stop."""
    plain = text.replace("\n.Ql", "").replace(r"\(dq", '"')
    [found] = re.findall(r"^Default: (.*?) ?\.$", plain, re.MULTILINE)
    return str(found)


def test_the_page_of_the_configuration_has_every_key_and_no_other() -> None:
    top, enrollment, rule = re.split(r"^\.Ss .*\n", CONFIGURATION.partition(".Sh FILES")[0], flags=re.MULTILINE)
    assert set(keys_in(top)) == set(Config.__slots__) - {"enrollment", "rules", "obsolete", "found"}
    assert set(keys_in(enrollment)) == set(Enrollment.__slots__)
    assert set(keys_in(rule)) == set(Rule.__slots__) - {"number"}


def test_the_page_of_the_configuration_has_the_defaults() -> None:
    top, enrollment, _ = re.split(r"^\.Ss .*\n", CONFIGURATION.partition(".Sh FILES")[0], flags=re.MULTILINE)
    stated = {key: default_in(text) for key, text in keys_in(top).items()}
    assert stated.pop("issuer") == "the name of the host"
    assert stated.pop("remember") == "nothing is"
    assert stated.pop("self_enroll") == "as the policy says"
    assert stated == {key: json.dumps(getattr(Config(), key)) for key in stated}
    for key, text in keys_in(enrollment).items():
        default = getattr(Enrollment(), key)
        if default is None:
            assert default_in(text) == "none"
            continue
        said = json.loads(default_in(text))
        assert default in (said, duration(said))


def test_how_to_get_back_in_is_found_from_every_page_and_from_the_readme() -> None:
    installed = "/usr/share/doc/pam-totp/recovery.md.gz"
    pages = sorted((CHECKOUT / "docs/man").iterdir())
    assert [page.name for page in pages if f"Pa {installed}" not in page.read_text(encoding="utf-8")] == []
    assert "docs/*.md" in (CHECKOUT / "debian/docs").read_text(encoding="ascii").split()
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    assert "(docs/recovery.md)" in readme.partition("Getting back in")[2].partition("## The two variants")[0]
