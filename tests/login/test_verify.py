"""The verify service beside a real sshd: one code, one use, whichever door it is typed at."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from tests.lab.verify import ADDRESS, Verify
from tests.login.host import spelled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.login.host import Host

pytestmark = pytest.mark.usefixtures("password_and_code")
# Connects often, sends parts of requests and rubbish, and hangs up or does not.
RUDE = """
import os, random, socket, sys
draw = random.Random(3)
good = b"POST /v1/verify HTTP/1.1\\r\\nContent-Length: 30\\r\\nAuthorization: Bearer x.y\\r\\n\\r\\n"
good += b'{"user": "root", "code": "12"}'
kept = []
for number in range(600):
    unix = number % 2
    connection = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
    connection.settimeout(1)
    try:
        connection.connect("/run/pam-totp-verify.sock" if unix else ("127.0.0.1", 722))
        spoiled = bytearray(good[: draw.randrange(1, len(good))])
        spoiled[draw.randrange(len(spoiled))] = draw.randrange(256)
        connection.sendall(draw.choice([bytes(spoiled), os.urandom(300), good * 50, b""]))
    except OSError:
        pass
    kept.append(connection)
    if number % 3:
        draw.choice(kept).close()
print("done")
"""


@pytest.fixture(scope="module")
def verify(host: Host) -> Iterator[Verify]:
    """The service, on the UNIX socket and on loopback."""
    with Verify(host.machine) as running:
        yield running


@pytest.fixture(scope="module")
def vpn(verify: Verify, host: Host) -> str:
    """The token of a client that may know everything."""
    token = verify.client("vpn", "--may-know")
    host.confidential.add(token.partition(".")[2])
    return token


def test_a_code_that_was_used_at_ssh_is_refused_here_and_the_other_way_round(
    host: Host, verify: Verify, vpn: str
) -> None:
    alice = host.person()
    spent = alice.code()
    assert alice.log_in(spent).ok
    mark = host.machine.mark()
    status, told = verify.ask("/v1/verify", vpn, user=alice.name, source="192.0.2.7", code=spent)
    assert (status, told["result"], told["reason"]) == (403, False, "spent-code")
    following = alice.code(1)
    status, told = verify.ask("/v1/verify", vpn, user=alice.name, source="192.0.2.7", code=following)
    assert (status, told["result"], told["reason"]) == (200, True, "code")
    assert not alice.log_in(following).ok
    lines = [
        (line["service"], line["rhost"], line["outcome"], line["reason"])
        for line in host.decisions(mark)
        if line["user"] == alice.name
    ]
    assert lines == [
        ("vpn", "192.0.2.7", "refused", "spent-code"),
        ("vpn", "192.0.2.7", "accepted", "code"),
        ("sshd", "127.0.0.1", "refused", "spent-code"),
    ]
    assert {record.program for record in host.machine.log(mark) if "service=vpn" in record.message} == {"pam-totp"}


def test_wrong_codes_here_are_told_at_the_next_login_and_hold_it_up_for_nothing(
    host: Host, verify: Verify, vpn: str
) -> None:
    alice = host.person()
    assert alice.log_in(alice.code()).ok
    for _ in range(3):
        assert verify.ask("/v1/verify", vpn, user=alice.name, source="127.0.0.1", code=alice.wrong())[0] == 403
    status, told = verify.ask("/v1/start", vpn, user=alice.name, source="127.0.0.1")
    assert (status, told["action"], told["reason"]) == (403, "refuse", "throttled")
    assert "There were 3 wrong codes since your last login" in alice.log_in(alice.code(1)).screen


def test_rules_for_the_service_hold_and_those_who_are_not_enrolled_are_refused_or_not(
    host: Host, verify: Verify, vpn: str
) -> None:
    bob = host.person(enrolled=False)
    portal = verify.client("portal")
    assert verify.ask("/v1/start", vpn, user=bob.name)[1]["action"] == "skip"
    assert verify.ask("/v1/verify", portal, user=bob.name, code="123456")[0] == 403
    with host.config('[[rule]]\nservices = ["vpn"]\nunenrolled = "deny"\n'):
        assert verify.ask("/v1/start", vpn, user=bob.name)[1]["reason"] == "not-enrolled"
        assert bob.log_in().ok


def test_a_person_without_an_account_is_verified_by_the_record_alone(host: Host, verify: Verify, vpn: str) -> None:
    records = verify.client("records", "--identity", "record", "--service", "vpn", "--may-know")
    document = host.machine.run(["pam-totp", "enroll", "carol", "--no-account", "--no-confirm", "--json"]).stdout
    secret = json.loads(document)["secret"]
    host.confidential |= spelled(secret)
    carol = type(host.person(enrolled=False))(host, host.machine.user("unused"), secret)
    host.machine.run(["pam-totp", "confirm", "carol"], input=f"{carol.code(-1)}\n")
    spent = carol.code()
    assert verify.ask("/v1/verify", vpn, user="carol", code=spent)[1]["reason"] == "unknown-user"
    assert verify.ask("/v1/verify", records, user="carol", code=spent)[0] == 200
    assert verify.ask("/v1/verify", records, user="carol", code=spent)[0] == 403
    assert verify.ask("/v1/verify", records, user="Carol", code=carol.code(1))[1]["reason"] == "unknown-user"


def test_over_loopback_a_token_is_needed_and_on_the_socket_a_user_will_do(host: Host, verify: Verify, vpn: str) -> None:
    alice = host.person()
    assert verify.ask("/v1/verify", "", place=ADDRESS, user=alice.name, code=alice.code())[0] == 401
    assert verify.ask("/v1/verify", vpn, place=ADDRESS, user=alice.name, code=alice.code())[0] == 200
    assert verify.ask("/v1/verify", "", user=alice.name, code=alice.code(1))[0] == 401
    verify.client("portal-of-root", "--runs-as", "root")
    assert verify.ask("/v1/verify", "", place=ADDRESS, user=alice.name, code=alice.code(1))[0] == 401
    assert verify.ask("/v1/lemonldap", "", user=alice.name, code=alice.code(1)) == (
        *(200, {"result": True, "message": ""}),
    )
    host.machine.run(["pam-totp", "verify", "remove", "portal-of-root"])
    assert verify.ask("/v1/start", "", user=alice.name)[0] == 401


def test_what_openvpn_runs_asks_as_its_user_and_is_told_yes_once(host: Host, verify: Verify) -> None:
    """Without OpenVPN, which tests/services/test_vpn.py has: one user's certificate is the first factor."""
    alice = host.person()
    verify.client("openvpn", "--runs-as", "nobody")
    script = """
        cd "$(mktemp -d)" && chown nobody . && printf '%s\\n%s\\n' "$1" "$2" >typed
        : >answer && chown nobody answer
        export X509_0_CN="$1" untrusted_ip=192.0.2.7 auth_control_file="$PWD/answer"
        setpriv --reuid=nobody --regid=nogroup --clear-groups \\
            /usr/libexec/pam-totp/openvpn-verify --certificate "$PWD/typed"
        echo "$? $(cat answer)"
    """
    code, mark = alice.code(), host.machine.mark()
    found = [host.machine.sh(script, alice.name, typed).stdout for typed in (alice.wrong(), code, code)]
    assert found == ["1 0\n", "0 1\n", "1 0\n"]
    lines = host.decisions(mark)
    assert [(line["service"], line["rhost"], line["outcome"]) for line in lines] == [
        ("openvpn", "192.0.2.7", outcome) for outcome in ("refused", "accepted", "refused")
    ]
    host.machine.run(["pam-totp", "verify", "remove", "openvpn"])


def test_a_proxy_asks_with_headers(host: Host, verify: Verify, vpn: str) -> None:
    alice = host.person()
    headers = {"Totp-User": alice.name, "Totp-Code": alice.code(), "Totp-Source": "192.0.2.7"}
    assert verify.ask("/v1/auth", vpn, headers=headers)[0] == 200
    assert verify.ask("/v1/auth", vpn, headers=headers)[0] == 403


def test_killed_at_any_moment_it_is_back_and_what_was_spent_stays_spent(host: Host, vpn: str, verify: Verify) -> None:
    alice = host.person()
    spent = alice.code()
    assert verify.ask("/v1/verify", vpn, user=alice.name, code=spent)[0] == 200
    _, begun = verify.ask("/v1/start", vpn, user=alice.name)
    host.machine.run(["kill", "-KILL", str(verify.started)])
    status, told = verify.ask("/v1/verify", vpn, user=alice.name, code=spent)
    assert (status, told["reason"]) == (403, "spent-code")
    # What had begun before has to begin again.
    assert verify.ask("/v1/verify", vpn, state=begun["state"], code=alice.code(1))[1]["reason"] == "unknown-state"
    assert verify.ask("/v1/verify", vpn, user=alice.name, code=alice.code(1))[0] == 200
    # So is a worker that is killed.
    host.machine.sh('pkill -KILL -P "$1"', str(verify.started))
    statuses = [0]
    end = time.monotonic() + 60
    while statuses[-3:] != [200] * 3 and time.monotonic() < end:
        statuses.append(verify.ask("/v1/start", vpn, user=alice.name)[0])
    assert set(statuses[1:]) <= {200, 503}
    assert statuses[-1] == 200


def test_whoever_is_rude_keeps_nobody_out(host: Host, verify: Verify, vpn: str) -> None:
    alice = host.person()
    eve = host.person(enrolled=False)
    with host.machine.popen(["/usr/bin/python3", "-I", "-c", RUDE], user=eve.user) as rude:
        first = verify.ask("/v1/verify", vpn, user=alice.name, code=alice.code())
        said, errors = rude.communicate(timeout=60)
    assert (said, errors) == ("done\n", "")
    assert first[0] == 200
    assert verify.ask("/v1/verify", vpn, place=ADDRESS, user=alice.name, code=alice.code(1))[0] == 200
