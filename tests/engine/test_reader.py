"""The message reader of pam_totp.so under libFuzzer and the sanitizers: no result is let through that was not said."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
MODULE = CHECKOUT / "pam_totp/engine/pam_totp.c"
HARNESS = Path(__file__).with_name("reader.c")
SECONDS = {False: 10, True: 600}
BUILD = ["clang", "-g", "-O1", "-DLIMIT=2000", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"]


def message(kind: bytes, text: bytes) -> bytes:
    return b"\1" + kind + len(text).to_bytes(2, "big") + text


SEEDS = [
    message(b"R", b"PAM_SUCCESS"),
    message(b"R", b"PAM_SUCCESS\0split 123456"),
    message(b"P", b"Code: ") + message(b"I", b"Thank you.") + message(b"T", b"horse") + message(b"R", b"PAM_IGNORE"),
    message(b"E", b"") + message(b"R", b"PAM_AUTH_ERR"),
    *(
        message(b"R", f"PAM_{name}".encode())
        for name in ("USER_UNKNOWN", "CONV_ERR", "AUTHINFO_UNAVAIL", "SERVICE_ERR")
    ),
    *(message(kind, b"x" * 65535) for kind in (b"P", b"E", b"I", b"T", b"R")),
]


def fuzzed(harness: Path, directory: Path, seconds: int) -> subprocess.CompletedProcess[str]:
    """Build a harness and run it for so long."""
    corpus = directory / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(SEEDS):
        (corpus / str(number)).write_bytes(seed)
    subprocess.run([*BUILD, "-o", directory / "fuzz", harness], check=True)
    limits = [f"-max_total_time={seconds}", "-timeout=20", "-max_len=70000", "-len_control=50", "-print_final_stats=1"]
    return subprocess.run(
        [directory / "fuzz", *limits, corpus],
        check=False,
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )


def test_nothing_that_the_helper_says_breaks_the_module_or_is_taken_for_another_result(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    done = fuzzed(HARNESS, tmp_path, SECONDS[bool(pytestconfig.getoption("full"))])
    assert done.returncode == 0, done.stdout[-4000:]
    assert "stat::number_of_executed_units" in done.stdout
    print(done.stdout[-400:])


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("strcmp(word, results[i].word) != 0", "strncmp(word, results[i].word, 5) != 0"),
        ("strlen(kept) != message->size - size - 1", "0"),
        ("char bytes[HEAD + LONGEST + 1];", "char bytes[HEAD + 512];"),
        ("if (message->bytes[0] != PROTOCOL)", "if (message->bytes[0] == 0x7f)"),
    ],
)
def test_a_reader_with_a_mistake_in_it_is_found_out(right: str, wrong: str, tmp_path: Path) -> None:
    source = MODULE.read_text("utf-8")
    assert source.count(right) == 1
    (tmp_path / "pam_totp.c").write_text(source.replace(right, wrong), "utf-8")
    harness = tmp_path / "reader.c"
    harness.write_text(HARNESS.read_text("utf-8").replace("../../pam_totp/engine/pam_totp.c", "pam_totp.c"), "utf-8")
    assert fuzzed(harness, tmp_path, 60).returncode != 0
