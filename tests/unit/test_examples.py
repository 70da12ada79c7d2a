"""The files that an administrator copies from ``config/``."""

from __future__ import annotations

import email
import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from pam_totp.cli import metrics
from pam_totp.factors import handout
from pam_totp.host.config import Arguments, Config, Enrollment, load

EXAMPLES = Path(__file__).resolve().parents[2] / "config"
VARIANTS = ("password-and-code", "key-and-code")


def lines(path: str) -> list[str]:
    """What is in force in a file: no comments, no empty lines, single spaces."""
    text = (EXAMPLES / path).read_text(encoding="utf-8")
    return [" ".join(line.split()) for line in text.splitlines() if line.strip() and not line.startswith("#")]


def loaded(tmp_path: Path, commented: str) -> tuple[Config, str]:
    """The example with the lines that match uncommented, as the module reads it, and as text."""
    text = re.sub(commented, r"\1", (EXAMPLES / "config.toml").read_text(encoding="utf-8"), flags=re.MULTILINE)
    file = tmp_path / "config.toml"
    file.write_text(text, encoding="utf-8")
    file.chmod(0o600)
    return load(str(file), os.getuid()), text


def attributes(config: Config) -> dict[str, object]:
    table = {name: getattr(config.enrollment, name) for name in Enrollment.__slots__}
    return {name: getattr(config, name) for name in Config.__slots__} | {"enrollment": table}


def test_the_configuration_as_it_comes_sets_nothing(tmp_path: Path) -> None:
    config, text = loaded(tmp_path, "()nothing")
    assert tomllib.loads(text) == {}
    assert attributes(config) == attributes(Config()) | {"found": True}


def test_the_configuration_shows_every_default(tmp_path: Path) -> None:
    config, text = loaded(tmp_path, r"^#(\w+ = |\[)")
    shown = tomllib.loads(text)
    assert attributes(config) == attributes(Config()) | {"found": True}
    assert set(shown) == set(Config.__slots__) - {
        "found",
        "remember",
        "rules",
        "self_enroll",
        "obsolete",
    }  # these have none
    assert set(shown["enrollment"]) == set(Enrollment.__slots__) - {"until"}


def test_the_examples_in_the_configuration_are_accepted(tmp_path: Path) -> None:
    config, _ = loaded(tmp_path, r"^#   (\w+ = |\[)")
    assert config.remember == 12 * 3600
    assert config.self_enroll is True
    assert [rule.mfa for rule in config.rules] == ["skip", "require"]


def test_the_code_is_asked_for_right_after_the_password() -> None:
    found = lines("pam.d/sshd-password-and-code")
    assert found[:2] == ["@include common-auth", "auth required pam_totp.so"]
    assert not [line for line in found[2:] if line.startswith("auth")]


def test_without_a_password_the_key_is_demanded() -> None:
    found = lines("pam.d/sshd-key-and-code")
    assert found[:2] == [
        "auth required pam_totp.so first_factor=publickey",
        "auth required pam_permit.so",
    ]
    assert not [line for line in found[2:] if line.startswith(("auth", "@include common-auth"))]
    assert Arguments(found[0].split()[3:]).first_factor == "publickey"


def test_an_answer_is_split_before_the_password_and_its_code_verified_after_it() -> None:
    found = lines("pam.d/sshd-combined")
    assert found[:4] == [
        "auth required pam_totp.so combined=split",
        "@include common-auth",
        "auth required pam_totp.so combined=verify",
        "account required pam_totp.so combined=verify",
    ]
    assert found[4:] == lines("pam.d/sshd-password-and-code")[2:]
    for line in (found[0], *found[2:4]):
        Arguments(line.split()[4:])


def test_with_one_answer_either_method_leads_through_pam_and_no_other_does() -> None:
    assert lines("sshd_config.d/00-pam-totp-combined.conf") == [
        "UsePAM yes",
        "KbdInteractiveAuthentication yes",
        "PasswordAuthentication yes",
        "AuthenticationMethods keyboard-interactive:pam password",
    ]


def test_both_variants_are_the_same_after_authentication() -> None:
    password, key = (lines(f"pam.d/sshd-{variant}") for variant in VARIANTS)
    assert password[2:] == key[2:]
    assert "@include common-account" in key
    assert "@include common-session" in key


@pytest.mark.parametrize(
    ("variant", "methods"),
    zip(VARIANTS, ("keyboard-interactive:pam", "publickey,keyboard-interactive:pam"), strict=True),
)
def test_a_drop_in_closes_every_way_around_pam(variant: str, methods: str) -> None:
    assert lines(f"sshd_config.d/00-pam-totp-{variant}.conf") == [
        "UsePAM yes",
        "KbdInteractiveAuthentication yes",
        "PasswordAuthentication no",
        f"AuthenticationMethods {methods}",
    ]


def test_the_panel_and_the_alerts_ask_for_metrics_that_there_are() -> None:
    panel = json.loads((EXAMPLES / "metrics/grafana-panel.json").read_text(encoding="utf-8"))
    asked = panel["targets"][0]["expr"] + (EXAMPLES / "metrics/alerts.yml").read_text(encoding="utf-8")
    source = Path(metrics.__file__).read_text(encoding="utf-8")
    names = set(re.findall(r"pam_totp_(\w+)", asked))
    assert names
    assert names <= set(re.findall(r'_family\(\s*"(\w+)"', source))


@pytest.mark.parametrize("place", ["file", "directory"])
def test_the_job_for_metrics_follows_no_link_that_the_user_prometheus_has_put_there(tmp_path: Path, place: str) -> None:
    job = lines("metrics/pam-totp.cron")[0].partition(" root ")[2]
    own, theirs, target = (tmp_path / name for name in ("own", "theirs", "target"))
    own.mkdir()
    theirs.mkdir()
    if place == "file":
        target.write_text("precious")
    else:
        target.mkdir()
    for name in ("pam-totp.prom", "pam-totp.prom.new", "metrics"):
        (theirs / name).symlink_to(target)
    job = job.replace("/var/lib/pam-totp", str(own)).replace("/var/lib/prometheus/node-exporter", str(theirs))
    command = tmp_path / "pam-totp"
    command.write_text("#!/bin/sh\necho figures\n")
    command.chmod(0o755)
    subprocess.run(["/bin/sh", "-c", job], check=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    written = theirs / "pam-totp.prom"
    assert not written.is_symlink()
    assert (written.read_text(), written.stat().st_mode & 0o777) == ("figures\n", 0o644)
    assert list(target.iterdir()) == [] if place == "directory" else target.read_text() == "precious"


@pytest.mark.parametrize("as_pdf", [True, False])
def test_each_page_is_mailed_to_its_user(as_pdf: bool, tmp_path: Path) -> None:
    pages, programs, mails = (tmp_path / name for name in ("pages", "programs", "mails"))
    for directory in (pages, programs, mails):
        directory.mkdir()
    for name in ("alice", "bob"):
        page = handout.of_invitation(name, "host", "abcde-fghij", "2027-01-31 18:00 UTC")
        (pages / f"{name}.svg").write_text(page, encoding="utf-8")
    sendmail = programs / "sendmail"
    sendmail.write_text(f"#!/bin/sh\n[ \"$*\" = '-t -i' ] && cat >{mails}/$(ls {mails} | wc -l)\n")
    sendmail.chmod(0o755)
    script = (EXAMPLES / "handout/mail-pages").read_text(encoding="utf-8")
    assert script.count("/usr/sbin/sendmail") == 1
    (programs / "mail-pages").write_text(script.replace("/usr/sbin/sendmail", str(sendmail)))
    for program in ("basename", "mktemp", "rm", "hostname", "base64", "cat", "ls", "wc", *(["rsvg-convert"] * as_pdf)):
        (programs / program).symlink_to(str(shutil.which(program)))
    command = ["/bin/sh", str(programs / "mail-pages"), str(pages), "example.org"]
    done = subprocess.run(command, env={"PATH": str(programs)}, capture_output=True, text=True, check=True)
    assert done.stdout == "mailed: alice@example.org\nmailed: bob@example.org\n"
    for number, name in enumerate(("alice", "bob")):
        mail = email.message_from_bytes((mails / str(number)).read_bytes())
        assert mail["To"] == f"{name}@example.org"
        _, text, attached = mail.walk()
        assert "a code from your phone" in str(text)
        content = attached.get_payload(decode=True)
        assert isinstance(content, bytes)
        if as_pdf:
            assert content.startswith(b"%PDF-")
        else:
            assert content == (pages / f"{name}.svg").read_bytes()
    assert subprocess.run(command[:-1], env={"PATH": str(programs)}, capture_output=True, check=False).returncode == 2
