"""The configuration file and the module's arguments: what is understood, and that nothing else is."""

from __future__ import annotations

import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pam_totp.errors import ConfigError
from pam_totp.host import config
from pam_totp.host.config import Arguments, Config
from tests.unit import places
from tests.unit.places import ME
from tests.unit.pretend import MEMORY


def load(content: str | bytes) -> Config:
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        path = Path(directory, "config.toml")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(0o644)
        return config.load(str(path), ME)


def refusal(content: str | bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        load(content)
    assert caught.value.reason == "bad-config"
    assert "config.toml" in str(caught.value)
    return str(caught.value)


def values(config: Config) -> dict[str, object]:
    names = ("prompt", "window", "max_drift", "lock_after", "refusals", "unenrolled", "issuer", "qr", "remember")
    return {name: getattr(config, name) for name in names}


DEFAULTS = values(Config())


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    assert values(config.load(str(tmp_path / "config.toml"), ME)) == DEFAULTS
    assert values(config.load(str(tmp_path / "nowhere" / "config.toml"), ME)) == DEFAULTS
    assert values(load("# nothing\n")) == DEFAULTS


def test_the_defaults_ask_whoever_is_enrolled_within_one_step_either_way() -> None:
    assert (DEFAULTS["prompt"], DEFAULTS["window"], DEFAULTS["lock_after"]) == ("Verification code: ", 1, 100)
    assert (DEFAULTS["unenrolled"], DEFAULTS["max_drift"], DEFAULTS["remember"]) == ("skip", 10, 0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("window", value) for value in (0, 1, 10)),
        *(("max_drift", value) for value in (0, 20)),
        *(("lock_after", value) for value in (10, 1000)),
        *(("refusals", value) for value in (16, 100_000)),
        *(("unenrolled", value) for value in ("skip", "deny", "enroll", "invite", "deadline")),
        *(("prompt", value) for value in ("?", "x" * 100, "Prüfcode: ")),
        *(("issuer", value) for value in ("", "Example Ltd", "x" * 64)),
        *(("qr", value) for value in ("auto", "utf8", "ascii", "none")),
    ],
)
def test_a_value_within_its_bounds_is_taken(key: str, value: object) -> None:
    text = f'"{value}"' if isinstance(value, str) else value
    assert values(load(f"{key} = {text}\n")) == DEFAULTS | {key: value}


@pytest.mark.parametrize(
    "line",
    [
        *(
            "window = -1",
            "window = 11",
            "window = 1.0",
            'window = "1"',
            "window = true",
            "window = [1]",
            "window = nan",
        ),
        *("max_drift = -1", "max_drift = 21", "max_drift = false"),
        *("lock_after = 9", "lock_after = 1001", "lock_after = 0"),
        *("refusals = 15", "refusals = 100001", "refusals = -1"),
        *('unenrolled = "ask"', 'unenrolled = "SKIP"', "unenrolled = true", 'unenrolled = ""', 'unenrolled = ["skip"]'),
        *('prompt = ""', 'prompt = "a\\nb"', 'prompt = "\\u001b[2J"', "prompt = 5"),
        *('issuer = "a:b"', 'issuer = "a\\tb"', "issuer = 1979-05-27", "issuer = {}"),
        *('qr = "png"', 'remember = "0m"', 'remember = "31d"', "remember = 5", 'remember = "5"', 'remember = "5s"'),
        *("enrollment = 5", "rule = {}", "rule = 5", "rule = [1]"),
        f'prompt = "{"x" * 101}"',
        f'issuer = "{"x" * 65}"',
        f"window = 0x{'f' * 5000}",
        f"window = {'[' * 50}{']' * 50}",
    ],
)
def test_any_other_value_is_refused_with_the_key_and_what_is_allowed(line: str) -> None:
    key = line.partition(" ")[0]
    assert f"{key} must be a" in refusal(line).replace('must be "', 'must be a "')


def test_an_unknown_key_is_refused_with_those_that_are_allowed() -> None:
    message = refusal("windows = 1\n")
    assert "unknown key 'windows'" in message
    assert all(key in message for key in DEFAULTS)


def test_a_known_key_is_refused_where_it_does_not_belong() -> None:
    assert "unknown key 'window'" in refusal("[enrollment]\nwindow = 1\n")
    assert "unknown key 'after'" in refusal('after = "deny"\n')
    assert "[[rule]] number 2: unknown key 'prompt'" in refusal('[[rule]]\n[[rule]]\nprompt = "x"\n')


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("window = \n", "line 1"),
        ("window = 1\nwindow = 2\n", "line 2"),
        ("\n\n[!]", "line 3"),
        ("window 1", "line 1"),
        ("window = " + "9" * 5000, "not valid TOML"),
        ("a = " + "[" * 100_000, "not valid TOML"),
        (b"prompt = '\xff'", "not UTF-8"),
        (b"\xff\xfew\0i\0", "not UTF-8"),
        (b"\0", "line 1"),
        ("# " + "x" * (1 << 20), "larger than"),
    ],
)
def test_what_is_not_toml_is_refused_with_its_place(content: str | bytes, part: str) -> None:
    assert part in refusal(content)


TOML_VALUES = st.recursive(
    st.one_of(
        st.integers().map(str),
        st.floats().map(str),
        st.booleans().map(lambda value: str(value).lower()),
        st.text(max_size=8).map(lambda text: "'" + text.replace("'", "").replace("\n", "") + "'"),
        st.sampled_from(["1979-05-27T07:32:00Z", "07:32:00", "'30m'", "'skip'", "inf", "{}", "[]"]),
    ),
    lambda inner: st.lists(inner, max_size=3).map(lambda values: f"[{', '.join(values)}]"),
    max_leaves=5,
)
KEYS = st.sampled_from(
    [
        *DEFAULTS,
        "enrollment",
        "rule",
        "users",
        "groups",
        "services",
        "networks",
        "keys",
        "enrolled_within",
        "mfa",
        "period",
    ]
)
LINES = st.one_of(
    st.sampled_from(["[enrollment]", "[[rule]]", "[rule]", "[x]"]),
    st.tuples(KEYS | st.text(max_size=5), TOML_VALUES).map(" = ".join),
)


@given(
    st.one_of(
        st.binary(), st.text().map(str.encode), st.lists(LINES, max_size=6).map(lambda lines: "\n".join(lines).encode())
    )
)
@example(b"window = " + b"9" * 5000)
@example(b"window = 0x" + b"f" * 5000)
@example(b'prompt = "\\ud800"')
def test_any_content_is_understood_or_refused_with_a_message(content: bytes) -> None:
    try:
        loaded = load(content)
    except ConfigError:
        refusal(content)
    else:
        assert 0 <= loaded.window <= 10
        assert 0 <= loaded.max_drift <= 20
        assert 10 <= loaded.lock_after <= 1000
        assert loaded.unenrolled in ("skip", "deny", "enroll", "invite", "deadline")
        assert loaded.prompt.isprintable()


@pytest.mark.parametrize(
    ("text", "value"), [("window = 1\n", None), ("self_enroll = true\n", True), ("self_enroll = false\n", False)]
)
def test_self_enrolment_is_allowed_refused_or_left_to_the_policy(text: str, value: bool | None) -> None:
    assert load(text).self_enroll is value


# Tables


def test_a_file_written_for_0_1_0_is_still_understood() -> None:
    """To refuse a key that means nothing any more would lock users out at the upgrade."""
    loaded = load('[enrollment]\nperiod = "14d"\npending = "1h"\n')
    assert loaded.obsolete == ["[enrollment] pending"]
    assert loaded.enrollment.period == 14 * 86_400
    assert load("window = 1\n").obsolete == []


def test_the_table_of_enrolment_has_its_defaults_and_makes_a_deadline_of_a_period() -> None:
    plain = load("[enrollment]\n").enrollment
    assert (plain.period, plain.after) == (7 * 86_400, "deny")
    loaded = load('[enrollment]\nperiod = "14d"\nafter = "enroll"\n')
    assert (loaded.enrollment.period, loaded.enrollment.after) == (14 * 86_400, "enroll")
    assert loaded.unenrolled == "deadline"
    assert load('unenrolled = "deny"\n[enrollment]\nperiod = "1d"\n').unenrolled == "deny"


def test_rules_are_numbered_in_their_order() -> None:
    loaded = load(
        """
        [[rule]]
        users = ["alice"]
        networks = ["10.0.0.0/8", "fd00::/8", "192.0.2.7"]
        mfa = "skip"
        [[rule]]
        groups = ["wheel", "two words"]
        services = ["sshd", "OpenVPN"]
        keys = ["any", "certificate", "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "ca:SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"]
        enrolled_within = "2h"
        unenrolled = "enroll"
        remember = "12h"
        """
    )
    first, second = loaded.rules
    assert (first.number, first.users, first.mfa, first.unenrolled, first.remember) == (
        1,
        ["alice"],
        "skip",
        None,
        None,
    )
    assert [str(network) for network in first.networks] == ["10.0.0.0/8", "fd00::/8", "192.0.2.7/32"]
    assert (second.number, second.groups, second.services) == (2, ["wheel", "two words"], ["sshd", "openvpn"])
    assert (second.enrolled_within, second.unenrolled, second.remember, second.mfa) == (
        7200,
        "enroll",
        43_200,
        "require",
    )
    assert len(second.keys) == 4


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("keys", ['["certificate"]', f'["SHA256:{"A" * 43}", "certificate"]'])
def test_certificates_of_whatever_ca_are_no_reason_to_skip(keys: str, order: tuple[int, int]) -> None:
    lines = (f"keys = {keys}", 'mfa = "skip"')
    assert 'name the CA: keys = ["ca:SHA256:..."]' in refusal("[[rule]]\n" + "\n".join(lines[each] for each in order))
    for mfa in ("", 'mfa = "require"'):
        assert load(f"[[rule]]\nkeys = {keys}\n{mfa}").rules[0].mfa == "require"


@pytest.mark.parametrize("network", ["::ffff:192.0.2.7", "::ffff:0:0/96", "::ffff:10.0.0.0/104"])
def test_a_network_that_no_client_is_ever_in_is_refused(network: str) -> None:
    assert "networks must be" in refusal(f'[[rule]]\nnetworks = ["{network}"]\n')
    assert load('[[rule]]\nnetworks = ["::/0", "::fffe:0:0/96"]\n').rules


@pytest.mark.parametrize(
    "line",
    [
        *("users = []", 'users = "alice"', "users = [1]", 'users = [""]', 'users = ["a\\nb"]'),
        *('networks = ["10.0.0.1/8"]', 'networks = ["example.org"]', 'networks = [""]', "networks = [10]"),
        *(
            'keys = ["ca:any"]',
            'keys = ["ca:SHA256:short"]',
            'keys = ["CA:SHA256:short"]',
            'keys = ["SHA256:short"]',
            'keys = ["MD5:00"]',
            'keys = ["none"]',
            'mfa = "maybe"',
            "mfa = false",
        ),
        *('enrolled_within = "1s"', 'enrolled_within = "366d"', 'unenrolled = "no"', 'remember = "0d"'),
    ],
)
def test_a_rule_is_as_strict(line: str) -> None:
    assert f"[[rule]] number 1: {line.partition(' ')[0]} must be" in refusal(f"[[rule]]\n{line}\n")


@pytest.mark.parametrize(
    ("line", "flaw"),
    [
        (
            'networks = ["fd00::/8", "10.0.0.1/8"]',
            "'10.0.0.1/8' has host bits set: write 10.0.0.0/8 for the network, or 10.0.0.1 for that one address",
        ),
        ('networks = ["fd00::1/8"]', "'fd00::1/8' has host bits set: write fd00::/8 for the network, or fd00::1"),
        ('networks = ["example.org"]', "'example.org' is no network: write one like 10.0.0.0/8"),
        ('networks = ["::ffff:10.0.0.0/104"]', "'::ffff:10.0.0.0/104' is an IPv4 network in the form of IPv6"),
        ('keys = ["any", "SHA256:short"]', "'SHA256:short' is no fingerprint: after SHA256: come 43 characters"),
        (f'keys = ["ca:SHA256:{"A" * 43}="]', "is no fingerprint: after SHA256: come 43 characters"),
        ('keys = ["MD5:00"]', '\'MD5:00\' is neither "any", "certificate", a key'),
    ],
)
def test_the_one_that_is_wrong_in_a_list_is_named_with_what_is_wrong(line: str, flaw: str) -> None:
    assert flaw in refusal(f"[[rule]]\n{line}\n")


# The file itself


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text("window = 2\n")
    path.chmod(0o644)
    return path


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_file_that_others_can_write_is_refused(mode: int, file: Path) -> None:
    file.chmod(mode)
    with pytest.raises(ConfigError, match=r"not safe.*go-w"):
        config.load(str(file), ME)


def test_a_file_in_a_directory_that_others_can_write_is_refused(file: Path) -> None:
    file.parent.chmod(0o777)
    with pytest.raises(ConfigError, match="not safe"):
        config.load(str(file), ME)


@pytest.mark.parametrize("kind", places.KINDS)
def test_a_file_that_is_not_a_plain_one_is_refused_and_not_taken_for_a_missing_one(kind: str, file: Path) -> None:
    places.replace(file, kind)
    with pytest.raises(ConfigError, match="not safe"):
        config.load(str(file), ME)


def test_somebody_elses_file_is_refused(file: Path) -> None:
    owner = places.foreign(file)
    with pytest.raises(ConfigError, match="belongs to uid"):
        config.load(str(file), owner)


def test_a_file_that_cannot_be_read_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("posix.read", fail)
    with pytest.raises(ConfigError, match="cannot be read: Input/output error"):
        config.load(str(file), ME)


def test_an_interpreter_without_tomllib_uses_tomli(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules: Any = sys.modules
    monkeypatch.setitem(modules, "tomllib", None)  # how Python marks a module as absent
    monkeypatch.setitem(sys.modules, "tomli", tomllib)
    assert config.load(str(file), ME).window == 2


# Module arguments


def test_without_arguments_no_first_factor_is_demanded() -> None:
    assert (Arguments([]).first_factor, Arguments([]).combined) == ("", "")


def test_the_first_factor_and_a_combined_answer_can_be_demanded() -> None:
    assert Arguments(["first_factor=publickey"]).first_factor == "publickey"
    for way in ("split", "verify"):
        both = Arguments([f"combined={way}", "first_factor=publickey"])
        assert (both.first_factor, both.combined) == ("publickey", way)


@pytest.mark.parametrize(
    "words",
    [
        *(["nullok"], ["debug"], [""], ["first_factor"], ["first_factor="], ["first_factor=password"], ["combined="]),
        *(["FIRST_FACTOR=publickey"], ["first_factor=publickey "], ["first_factor=publickey", "x"], ["__class__=x"]),
        *(["first_factor=publickey"] * 2, ["combined=split", "combined=verify"], ["first_factor=publickey\n"]),
    ],
)
def test_any_other_argument_is_refused(words: list[str]) -> None:
    with pytest.raises(ConfigError, match="module argument"):
        Arguments(words)


@given(st.lists(st.text() | st.sampled_from(["first_factor=publickey", "combined=split", "first_factor="]), max_size=3))
def test_arguments_are_understood_or_refused(words: list[str]) -> None:
    try:
        arguments = Arguments(words)
    except ConfigError:
        return
    assert ("first_factor=publickey" in words) == (arguments.first_factor == "publickey")
    assert all(word in ("first_factor=publickey", "combined=split", "combined=verify") for word in words)


# A date


@pytest.mark.parametrize(
    ("until", "seconds"),
    [
        ("2027-01-31", 1_801_439_999),
        ('"2027-01-31"', 1_801_439_999),
        ('"2027-01-31T18:00:00Z"', 1_801_418_400),
        ("2027-01-31T18:00:00Z", 1_801_418_400),
        ("2027-01-31T19:00:00+01:00", 1_801_418_400),
        ('"2027-01-31T18:00:00"', 1_801_418_400),
    ],
)
def test_a_deadline_is_a_day_or_a_time(until: str, seconds: int) -> None:
    found = load(f"[enrollment]\nuntil = {until}\n")
    assert (found.enrollment.until, found.unenrolled) == (seconds, "deadline")
    assert load(f'unenrolled = "deny"\n[enrollment]\nuntil = {until}\n').unenrolled == "deny"


@pytest.mark.parametrize(
    "until", ["2027", "20270131", "20270131.5", "true", '""', '"7d"', '"2027-02-30"', "18:00:00", "[]"]
)
def test_what_is_no_date_is_refused(until: str) -> None:
    with pytest.raises(ConfigError, match="until must be a day like 2027-01-31"):
        load(f"[enrollment]\nuntil = {until}\n")


def test_a_period_and_a_date_are_two_deadlines() -> None:
    with pytest.raises(ConfigError, match="period and until are two deadlines"):
        load('[enrollment]\nuntil = 2027-01-31\nperiod = "7d"\n')
