"""Running a program of the system."""

from __future__ import annotations

import pytest

from pam_totp.host import programs
from pam_totp.host.programs import ProgramError


def test_what_it_prints_is_returned_and_its_environment_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    assert programs.run("/bin/sh", "-c", "env | grep -c SECRET; cat", fail=False) == "0\n"


def test_a_failure_has_the_last_that_was_said() -> None:
    with pytest.raises(ProgramError, match="says: two; three"):
        programs.run("/bin/sh", "-c", "printf 'two\\nthree\\n' >&2; exit 1")
    with pytest.raises(ProgramError, match="says: exit status -15"):
        programs.run("/bin/sh", "-c", "kill $$")
    assert programs.run("/bin/sh", "-c", "echo no; exit 1", fail=False) == "no\n"


def test_a_program_that_is_missing_or_does_not_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProgramError, match="could not be run"):
        programs.run("/nonexistent")
    monkeypatch.setattr(programs, "_SECONDS", 0.05)
    with pytest.raises(ProgramError, match="could not be run"):
        programs.run("/bin/sleep", "9")


def test_lines_come_as_they_are_printed_and_the_program_ends_with_its_reader() -> None:
    found = programs.lines("sh", "-c", "echo one; exec sleep 1000")
    assert next(found) == "one\n"
    found.close()  # type: ignore[attr-defined]  # a generator; it would wait for 1000 s


@pytest.mark.parametrize("status", [0, 1])
def test_lines_may_be_none(status: int) -> None:
    assert list(programs.lines("sh", "-c", f"exit {status}")) == []


@pytest.mark.parametrize("command", [("sh", "-c", "exit 2"), ("/no/such/program",)])
def test_lines_of_a_program_that_fails_are_an_error(command: tuple[str, ...]) -> None:
    with pytest.raises(programs.ProgramError):
        list(programs.lines(*command))


def test_a_secret_goes_through_it_and_no_failure_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert programs.piped("/bin/cat", content=b"secret") == b"secret"
    with pytest.raises(ProgramError) as caught:
        programs.piped("/bin/sh", "-c", "cat; echo why >&2; exit 1", content=b"secret")
    assert "why" in str(caught.value)
    assert "secret" not in str(caught.value)
    with pytest.raises(ProgramError, match="exit status 1"):
        programs.piped("/bin/false", content=b"secret")
    with pytest.raises(ProgramError, match="/nonexistent is not there"):
        programs.piped("/nonexistent", content=b"secret")
    monkeypatch.setattr(programs, "_SECONDS", 0.05)
    with pytest.raises(ProgramError, match="did not end"):
        programs.piped("/bin/sleep", "9", content=b"secret")
