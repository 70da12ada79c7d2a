"""What setup does to the text of a PAM file, and that it can be taken back to the last byte."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_totp.errors import ConfigError
from pam_totp.host import pamfile
from pam_totp.host.pamfile import ENGINES, MARK, VARIANTS, applied, lines_for, obstacle, parse, undone, walk

DEBIAN = """\
# PAM configuration for the Secure Shell service

# Standard Un*x authentication.
@include common-auth

account    required     pam_nologin.so
@include common-account
session    required     pam_loginuid.so
@include common-password
"""
COMMON = "auth [success=1 default=ignore] pam_unix.so nullok\nauth requisite pam_deny.so\nauth required pam_permit.so\n"
FILES = {"common-auth": COMMON, "common-account": "account required pam_permit.so\n", "common-password": ""}
HAND = {
    "key": "auth required pam_python.so pam_totp.py first_factor=publickey\nauth required pam_permit.so\n",
    "password": "@include common-auth\nauth required pam_python.so pam_totp.py\n",
    "combined": (
        "auth required pam_python.so pam_totp.py combined=split\n@include common-auth\n"
        "auth required pam_python.so pam_totp.py combined=verify\n"
        "account required pam_python.so pam_totp.py combined=verify\n"
    ),
}
variants = pytest.mark.parametrize("variant", VARIANTS)
modules = pytest.mark.parametrize("module", ENGINES)

# Lines that a file of a service can have; one of them is what asks for the password.
_WORDS = ["auth", "account", "session", "required", "[success=1 default=ignore]", "pam_unix.so", "\\", "#", MARK, "\t"]
_LINE = st.one_of(
    st.lists(st.sampled_from(_WORDS), max_size=5).map(" ".join),
    st.text(st.characters(blacklist_characters="\n", blacklist_categories=("Cs",)), max_size=20),
    st.sampled_from(
        ["", "# @include common-auth", "auth required pam_access.so", *"".join(HAND.values()).splitlines()]
    ),
)
_ANCHOR = st.sampled_from(
    ["@include common-auth", "@include \\\n common-auth", "auth include common-auth # x", "auth substack common-auth"]
)


@st.composite
def texts(draw: st.DrawFn) -> str:
    lines = draw(st.lists(_LINE, max_size=6))
    lines.insert(draw(st.integers(0, len(lines))), draw(_ANCHOR))
    return "\n".join(lines) + draw(st.sampled_from(["", "\n", "\n\n"]))


def in_force(text: str) -> list[str]:
    return [" ".join(line.words) for line in parse(text)]


@given(texts(), st.lists(st.tuples(st.sampled_from(VARIANTS), st.sampled_from(list(ENGINES))), min_size=1, max_size=4))
def test_after_any_set_ups_undoing_gives_the_same_bytes(text: str, steps: list[tuple[str, str]]) -> None:
    text = undone(text)  # a file that setup has never seen
    changed = text
    for variant, engine in steps:
        try:
            changed = applied(changed, variant, engine)
        except ConfigError:
            continue
        assert applied(changed, variant, engine) == changed
        assert undone(changed) == text


@given(texts(), st.sampled_from(VARIANTS), st.sampled_from(list(ENGINES)))
def test_every_line_of_others_stays_in_force_but_the_question_for_the_password(
    text: str, variant: str, engine: str
) -> None:
    text = undone(text)
    try:
        changed = applied(text, variant, engine)
    except ConfigError:
        return
    lines = parse(text)
    ours = [line for line in lines if line.arguments is not None]
    # Beside these, what goes with a line of the key's variant that was written by hand.
    gone = ours + [after for one, after in pairwise(lines) if one in ours and "pam_permit.so" in after.words]
    others = [line for line in lines if line not in gone and not line.included.endswith("common-auth")]
    left = in_force(changed)
    assert [line for line in left if line in {" ".join(each.words) for each in others}] == [
        " ".join(line.words) for line in others
    ]
    assert set(lines_for(variant, engine)) <= set(left)


@variants
@modules
def test_debians_own_file_gets_the_lines_in_their_places(variant: str, module: str) -> None:
    text = applied(DEBIAN, variant, module)
    lines = lines_for(variant, module)
    rest = [" ".join(line.words) for line in parse(DEBIAN)][1:]
    expected = {
        "key": lines,
        "password": ["@include common-auth", *lines],
        "combined": [lines[0], "@include common-auth", *lines[1:]],
    }
    assert in_force(text) == expected[variant] + rest
    assert undone(text) == DEBIAN


@variants
@pytest.mark.parametrize("hand", HAND)
def test_a_file_made_by_hand_is_taken_over_and_given_back(hand: str, variant: str) -> None:
    text = HAND[hand] + "account required pam_nologin.so\n"
    changed = applied(text, variant, "pam_totp")
    assert in_force(changed) == in_force(
        applied("@include common-auth\naccount required pam_nologin.so\n", variant, "pam_totp")
    )
    assert undone(changed) == text


def test_a_file_without_a_newline_at_its_end_gets_none() -> None:
    text = "@include common-auth"
    assert applied(text, "password", "pam_totp") == f"@include common-auth\nauth required pam_totp.so {MARK}"
    assert undone(applied(text, "password", "pam_totp")) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no line @include common-auth"),
        ("auth required pam_unix.so\n", "no line @include common-auth"),
        ("#@include common-auth\n", "no line @include common-auth"),
        ("@include common-auth\n@include common-auth\n", "lines 1 and 2"),
    ],
)
def test_where_the_place_is_not_certain_it_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        applied(text, "password", "pam_totp")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("auth required pam_a.so # x \\\nauth required pam_b.so", [["auth", "required", "pam_a.so"]] * 1),
        ("auth required \\\n pam_a.so x", [["auth", "required", "pam_a.so", "x"]]),
        ("# a comment \\\nauth required pam_a.so", [["auth", "required", "pam_a.so"]]),
        ("auth required pam_a.so \\", [["auth", "required", "pam_a.so"]]),
        ("\n \n", []),
    ],
)
def test_lines_are_read_as_pam_reads_them(text: str, words: list[list[str]]) -> None:
    assert [line.words for line in parse(text)][: len(words)] == words


# What decides


def walked(text: str) -> str:
    lines = walk(text, "auth", FILES.__getitem__)
    [ours] = [number for number, line in enumerate(lines) if line.arguments is not None]
    return obstacle(lines, ours)


OURS = "auth required pam_totp.so\n"


@pytest.mark.parametrize(
    "text",
    [
        "@include common-auth\n" + OURS,
        "auth required pam_access.so\n@include common-auth\n" + OURS + "auth optional pam_cap.so\n",
        "auth [success=ok default=die] pam_a.so\n" + OURS,
        "auth substack common-auth\n" + OURS,
        OURS + "auth sufficient pam_a.so\n",
    ],
)
def test_a_line_that_pam_comes_to_decides(text: str) -> None:
    assert walked(text) == ""


@pytest.mark.parametrize(
    "text",
    [
        "auth sufficient pam_a.so\n" + OURS,
        "auth SUFFICIENT pam_a.so\n" + OURS,
        "-auth [default=done] pam_a.so\n" + OURS,
        "auth [success=1 default=ignore] pam_a.so\n" + OURS,
        "auth [success=4 default=ignore] pam_a.so\n@include common-auth\n" + OURS,
        "auth [ success=reset default=ignore ] pam_a.so\n" + OURS,
        "auth strange pam_a.so\n" + OURS,
        OURS + "auth [default=reset] pam_a.so\n",
    ],
)
def test_a_line_that_can_be_skipped_or_taken_back_does_not_decide(text: str) -> None:
    assert walked(text) != ""


def test_includes_without_an_end_are_refused() -> None:
    with pytest.raises(ValueError, match="no end"):
        walk("@include a\n", "auth", lambda _: "@include a\n")


def test_no_variant_knows_an_argument_that_the_module_does_not() -> None:
    from pam_totp.host.config import Arguments

    for variant in VARIANTS:
        for line in parse("\n".join(lines_for(variant, "pam_totp"))):
            if line.arguments is not None:
                Arguments(line.arguments)
    assert set(pamfile.ENGINES.values()) == {"pam_totp.so", "pam_python.so pam_totp.py"}
