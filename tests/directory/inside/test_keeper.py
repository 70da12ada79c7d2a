"""What the keeper gives away, and what it refuses."""

from __future__ import annotations

import base64
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pam_totp.directory import config, hosts, people, publish
from pam_totp.directory.keeper import client, keys, server, state, work
from pam_totp.directory.models import Authenticator, Host, State
from pam_totp.errors import FleetError, HostKeyError, KeeperError
from pam_totp.factors import otp
from pam_totp.fleet import tree
from tests.directory.inside.conftest import SOURCE, Keeper, enrolled, joined, key_of

if TYPE_CHECKING:
    from pathlib import Path


def as_web(keeper: Keeper, **fields: Any) -> dict[str, Any]:
    """A request as the web process's user makes it."""
    return work.Keeper(keeper.keys, keeper.state, keeper.time.now).answer(fields, root=False)


def a_token(keeper: Keeper, host: str = "web1", seconds: int = 60) -> str:
    secret = os.urandom(8).hex()
    keeper.state.add_token(secret, host, int(keeper.time.now().wall) + seconds, 0)
    return secret


def a_key() -> str:
    return client.text(os.urandom(32))


def a_request(*found: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A request to publish for these hosts."""
    now = int(time.time())
    asked: dict[str, Any] = {"sequence": 1, "issued": now, "expires": now + 86_400, "records": [], "policy": None}
    each: dict[str, Any] = {"fresh": [], "keep": [], "bundle": None, "dropped": [], "keep_policy": None}
    return {"verb": "publish", **asked, "hosts": [each | one for one in found], **more}


def test_a_request_for_many_hosts_signs_for_those_that_have_joined_and_no_others(keeper: Keeper) -> None:
    for name in ("a", "b", "c"):
        keeper.state.add_host(name * 32, name, tree.new_box_key()[1], 1)
    keeper.state.revoke_host("b" * 32, 1)
    answers = as_web(
        keeper, **a_request({"host": "a" * 32}, {"host": "b" * 32}, {"host": "d" * 32}, {"host": "c" * 32})
    )
    assert [each.get("reason", "") for each in answers["hosts"]] == ["", "host-unknown", "host-unknown", ""]
    contradiction = a_request({"host": "a" * 32, "dropped": ["0" * 64]}, {"host": "c" * 32}, sequence=2)
    assert [each.get("reason", "") for each in as_web(keeper, **contradiction)["hosts"]] == ["fleet-content", ""]
    signed = tree.open_manifest(client.content(answers["hosts"][3]["manifest"]), keys.identity_of(keeper.keys).signing)
    assert (signed.host, signed.sequence) == ("c" * 32, 1)


def test_a_request_of_which_a_part_is_malformed_signs_nothing(keeper: Keeper) -> None:
    for name in ("a", "b"):
        keeper.state.add_host(name * 32, name, tree.new_box_key()[1], 1)
    for more in (
        {"fresh": [-1]},
        {"fresh": [0]},
        {"fresh": [True]},
        {"fresh": "0"},
        {"keep": 7},
        {"host": None},
        {"bundle": 7},
        {"dropped": 7},
    ):
        with pytest.raises(KeeperError, match="malformed"):
            as_web(keeper, **a_request({"host": "a" * 32}, {"host": "b" * 32} | more))
        assert keeper.state.counters().sequence == 0, more
        found = keeper.state.host("a" * 32)
        assert found is not None
        assert found.sequence == 0


def test_a_request_for_too_much_is_refused_before_anything_is_opened(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "MOST_HOSTS", 2)
    monkeypatch.setattr(work, "MOST_RECORDS", 3)
    keeper.state.add_host("a" * 32, "a", tree.new_box_key()[1], 1)
    each = {"host": "a" * 32}
    for found in ([each] * 3, [each | {"keep": ["0" * 64] * 2}] * 2):
        with pytest.raises(KeeperError, match="at most 2 hosts, and 3 records"):
            as_web(keeper, **a_request(*found))
    # One host may have more people than that.
    assert "manifest" in as_web(keeper, **a_request({**each, "keep": [f"{n:064}" for n in range(9)]}))["hosts"][0]


@pytest.mark.parametrize(
    "fields",
    [
        *({}, {"verb": "nothing"}, {"verb": 7}, {"verb": "new"}, {"verb": "new", "person": "1"}),
        {"verb": "new", "person": True},
        {"verb": "check", "person": 1, "authenticators": 7, "recovery": None, "ledger": "", "code": "1", "source": ""},
        {
            "verb": "check",
            "person": 1,
            "authenticators": [],
            "recovery": None,
            "ledger": "e30=",
            "code": "1",
            "source": "",
        },
        {"verb": "publish", "host": "nobody"},
        {"verb": "join", "secret": 7},
    ],
)
def test_a_request_that_is_malformed_is_refused_and_the_next_one_answered(
    keeper: Keeper, fields: dict[str, Any]
) -> None:
    asked = dict(fields)
    with pytest.raises(KeeperError):
        client.ask(asked.pop("verb", "?"), **asked)
    assert client.ask("status")["sequence"] == 0


def test_rubbish_is_answered_and_nothing_ends_the_keeper(keeper: Keeper) -> None:
    for line in (b"\n", b"[]\n", b"{\n", b"\xff\n", b"[" * 100_000 + b"\n", b'{"verb": "status"'):
        with socket.socket(socket.AF_UNIX) as rude:
            rude.connect(config.SOCKET)
            rude.sendall(line)
            rude.shutdown(socket.SHUT_WR)
            rude.makefile("rb").read()
    assert client.ask("status")["epoch"] == 1


def test_only_root_lets_a_host_join_or_begins_an_epoch(keeper: Keeper) -> None:
    for verb in ("token", "epoch"):
        with pytest.raises(KeeperError, match="for root alone"):
            as_web(keeper, verb=verb, secret="s", host="", expires=1 << 40)
    assert keeper.state.token("s") is None
    assert keeper.state.counters().epoch == 1


def test_a_host_that_has_not_joined_is_given_nothing(keeper: Keeper) -> None:
    """A web process that was taken over invents a host whose key it has."""
    person, _ = enrolled(keeper, "alice")
    sealed = Authenticator.objects.get()
    record = {"id": sealed.ident, "label": "x", "created": 1, "sealed": client.text(sealed.secret)}
    asked = {
        "sequence": 9,
        "records": [{"person": person.pk, "name": "alice", "authenticators": [record], "recovery": None}],
    }
    of_its_own = {"host": "0" * 32, "key": a_key(), "fresh": [0]}
    assert as_web(keeper, **a_request(of_its_own, **asked))["hosts"] == [
        {"error": "this host has not joined, or was revoked", "reason": "host-unknown"}
    ]
    assert keeper.state.counters().sequence == 0
    with pytest.raises(KeeperError):
        as_web(keeper, verb="join", secret="guessed", name="evil", key=a_key())


def test_guessing_at_the_keeper_ends_after_a_day_s_guesses_whatever_ledger_is_handed_over(keeper: Keeper) -> None:
    person, secret = enrolled(keeper, "alice")
    sealed = Authenticator.objects.get()
    worker = work.Keeper(keeper.keys, keeper.state, keeper.time.now)
    asked = {
        "verb": "check",
        "person": person.pk,
        "authenticators": [[sealed.ident, client.text(sealed.secret)]],
        "recovery": None,
        "ledger": "",
        "source": SOURCE,
    }
    wrong = otp.hotp(secret, keeper.time.step + 1000)
    answers = [worker.answer({**asked, "code": wrong}, root=False)["verdict"] for _ in range(work.CHECKS[0])]
    assert answers == ["refused"] * work.CHECKS[0]
    with pytest.raises(KeeperError, match="too many"):
        worker.answer({**asked, "code": otp.hotp(secret, keeper.time.step)}, root=False)
    keeper.time.ahead += 86_400
    assert worker.answer({**asked, "code": otp.hotp(secret, keeper.time.step)}, root=False)["verdict"] == "accepted"


def test_new_secrets_and_recovery_codes_are_limited_for_the_web_process(keeper: Keeper) -> None:
    worker = work.Keeper(keeper.keys, keeper.state, keeper.time.now)
    for verb in ("new", "recovery"):
        for _ in range(work.NEW[0] if verb == "new" else 2):
            worker.answer({"verb": verb, "person": 1}, root=False)
    with pytest.raises(KeeperError, match="too many"):
        worker.answer({"verb": "new", "person": 1}, root=False)
    worker.answer({"verb": "new", "person": 2}, root=False)
    worker.answer({"verb": "new", "person": 1}, root=True)


def test_a_token_for_one_host_is_good_once_and_for_that_name(keeper: Keeper) -> None:
    secret, key = a_token(keeper), a_key()
    with pytest.raises(KeeperError, match="another host name"):
        as_web(keeper, verb="join", secret=secret, name="web2", key=key)
    first = as_web(keeper, verb="join", secret=secret, name="web1", key=key)
    # The answer was lost, and the host asks again.
    again = as_web(keeper, verb="join", secret=secret, name="web1", key=key)
    assert (again["host"], again["again"]) == (first["host"], True)
    with pytest.raises(KeeperError, match="used before"):
        as_web(keeper, verb="join", secret=secret, name="web1", key=a_key())
    as_web(keeper, verb="revoke", host=first["host"])
    with pytest.raises(KeeperError, match="joined before"):
        as_web(keeper, verb="join", secret=secret, name="web1", key=key)


def test_a_token_for_a_group_is_good_until_its_end(keeper: Keeper) -> None:
    secret = a_token(keeper, "")
    found = {as_web(keeper, verb="join", secret=secret, name=name, key=a_key())["host"] for name in ("a", "b")}
    assert len(found) == 2
    keeper.time.ahead += 61
    with pytest.raises(KeeperError, match="its time is over"):
        as_web(keeper, verb="join", secret=secret, name="c", key=a_key())


def test_an_enrolment_that_another_host_has_sealed_is_refused(keeper: Keeper) -> None:
    one = as_web(keeper, verb="join", secret=a_token(keeper), name="web1", key=a_key())["host"]
    other = as_web(keeper, verb="join", secret=a_token(keeper, "web2"), name="web2", key=a_key())["host"]
    box = keys.identity_of(keeper.keys).box
    sealed = client.text(tree.seal_enrolment(tree.Enrolment(one, "alice", "a" * 32, "phone", os.urandom(20)), box))
    assert as_web(keeper, verb="open_event", host=one, person=1, sealed=sealed)["name"] == "alice"
    for host in (other, "0" * 32):
        with pytest.raises((KeeperError, FleetError)):
            as_web(keeper, verb="open_event", host=host, person=1, sealed=sealed)


def test_the_log_names_who_asked_for_what_and_holds_no_secret(keeper: Keeper) -> None:
    person = people.add("root", "alice")
    _, key = people.begin("root", person, "phone")
    code = otp.hotp(key_of(key), keeper.time.step)
    people.confirm("alice", person, code, SOURCE)
    said = "\n".join(keeper.log)
    assert f"uid 0: new person={person.pk}: done" in said
    assert f"uid 0: check person={person.pk}: accepted" in said
    sealed = base64.b64encode(Authenticator.objects.get().secret).decode()
    for hidden in (key, code, sealed, base64.b64encode(keeper.keys.seal).decode()):
        assert hidden not in said


def test_keys_show_nothing_and_are_refused_where_others_may_read_them(tmp_path: Path) -> None:
    made = keys.new()
    assert repr(made) == f"Keys(directory={made.directory!r})"
    path = tmp_path / "keys"
    path.write_bytes(keys.keys_text(made))
    path.chmod(0o600)
    assert keys.load_keys(str(path)) == made
    path.chmod(0o640)
    with pytest.raises(HostKeyError, match="read by others"):
        keys.load_keys(str(path))
    for content in (b"", b"{}", b'{"format": 1}', keys.keys_text(made)[:-20]):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(HostKeyError, match="damaged"):
            keys.load_keys(str(path))


def add(found: state.State, *names: str) -> None:
    for name in names:
        found.add_host(name * 32, name, bytes(32), 1)


def test_what_the_keeper_remembers_is_on_the_disk_or_not_there_at_all(tmp_path: Path) -> None:
    path = str(tmp_path / "keeper.db")
    found = state.State(path)
    found.add_host("b" * 32, "web2", bytes(32), 1)
    with pytest.raises(sqlite3.IntegrityError), found.change():
        add(found, "a", "b")
    assert state.State(path).host("a" * 32) is None
    assert sqlite3.connect(path).execute("SELECT count(*) FROM counters").fetchone() == (1,)
    assert found.begin_epoch() == state.Counters(2, 0, 0)
    assert state.State(path).counters() == state.Counters(2, 0, 0)


def check(keeper: Keeper, person: int, source: str = SOURCE, ledger: str = "") -> dict[str, Any]:
    sealed = Authenticator.objects.filter(person=person)
    return {
        "verb": "check",
        "person": person,
        "authenticators": [[each.ident, client.text(each.secret)] for each in sealed],
        "recovery": None,
        "ledger": ledger,
        "source": source,
    }


def test_a_right_code_of_an_authenticator_of_its_own_gives_the_web_process_no_more_guesses(keeper: Keeper) -> None:
    """It makes one for the person, whose key it sees: its codes are right whenever it likes."""
    person, secret = enrolled(keeper, "alice")
    worker = work.Keeper(keeper.keys, keeper.state, keeper.time.now)
    asked = check(keeper, person.pk)
    own = worker.answer({"verb": "new", "person": person.pk}, root=False)
    mine = {**asked, "authenticators": [[own["id"], own["sealed"]]]}
    wrong, verdicts = otp.hotp(secret, keeper.time.step + 1000), []
    for _ in range(work.CHECKS[0]):
        worker.answer({**mine, "code": otp.hotp(key_of(own["key"]), keeper.time.step)}, root=False)
        verdicts.append(worker.answer({**asked, "code": wrong}, root=False)["verdict"])
    assert verdicts == ["refused"] * work.CHECKS[0]
    with pytest.raises(KeeperError, match="too many"):
        worker.answer({**asked, "code": wrong}, root=False)


def test_whoever_guesses_as_often_as_the_ledger_lets_keeps_nobody_from_the_usual_place(keeper: Keeper) -> None:
    person, secret = enrolled(keeper, "alice")
    keeper.time.ahead += 60
    assert people.check(person, otp.hotp(secret, keeper.time.step), "net:192.0.2.1").accepted
    for number in range(30):
        people.check(person, otp.hotp(secret, keeper.time.step + 1000), f"net:198.51.100.{number}")
    for number in range(60):
        # Wrong recovery codes are counted in another way, and are no way around.
        people.check(person, "aaaaa-bbbbb", f"net:198.51.100.{number}")
        keeper.time.ahead += 30
    assert people.check(person, otp.hotp(secret, keeper.time.step), "net:192.0.2.1").accepted


def test_what_is_asked_for_writes_no_lines_of_its_own_into_the_log(keeper: Keeper) -> None:
    for fields in (
        {"verb": "x\nuid 0: epoch: done"},
        {"verb": {"secret": "s" * 100_000}},
        {"verb": "new", "person": "1\nuid 0: token: done"},
    ):
        with pytest.raises(KeeperError):
            client.ask(fields.pop("verb"), **fields)  # type: ignore[arg-type]  # as somebody else's program would
    assert [line for line in keeper.log if "\n" in line or len(line) > 300] == []
    assert len(keeper.log) == 3


def test_nobody_uses_up_the_numbers_that_are_left_for_manifests(keeper: Keeper) -> None:
    """After which the keeper could sign for no host any more, also when the web process is its owner's again."""
    host = as_web(keeper, verb="join", secret=a_token(keeper), name="web1", key=a_key())["host"]
    for sequence in ((1 << 63) - 1, (1 << 53) - 1, 1 << 40):
        with pytest.raises(KeeperError, match="too far"):
            as_web(keeper, **a_request({"host": host}, sequence=sequence))
    as_web(keeper, **a_request({"host": host}))
    assert keeper.state.counters().sequence == 1


def test_a_manifest_is_of_the_keepers_now_and_lives_for_a_year_at_most(keeper: Keeper) -> None:
    host = as_web(keeper, verb="join", secret=a_token(keeper), name="web1", key=a_key())["host"]
    now = int(keeper.time.now().wall)
    for issued, expires in (
        (now + 30 * 86_400, now + 31 * 86_400),
        (now - 30 * 86_400, now + 86_400),
        (now, now + 800 * 86_400),
    ):
        with pytest.raises(KeeperError, match="clock"):
            as_web(keeper, **a_request({"host": host}, issued=issued, expires=expires))
    as_web(keeper, **a_request({"host": host}))


def test_root_is_answered_also_while_somebody_holds_all_connections(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The web process's user holds as many as it gets; root has to revoke a host then."""
    path = str(tmp_path / "busy.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(128)
        running = server.Server(work.Keeper(keeper.keys, keeper.state, keeper.time.now), {0, 65534}, keeper.log.append)
        threading.Thread(target=running.run, args=(listener,), daemon=True).start()
        os.chmod(path, 0o777)
        os.chmod(tmp_path, 0o755)
        for each in tmp_path.parents:
            if each.is_relative_to("/tmp"):
                each.chmod(each.stat().st_mode | 0o055)
        holding = subprocess.Popen(
            ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-I", "-c", HOLD, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with holding:
            assert holding.stdout is not None
            assert holding.stdout.readline() == b"held\n"
            monkeypatch.setattr(config, "SOCKET", path)
            client.close()
            assert client.ask("status")["epoch"] == 1
            client.close()
            holding.communicate()


HOLD = """
import socket, sys
kept = []
for _ in range(100):
    kept.append(socket.socket(socket.AF_UNIX))
    kept[-1].connect(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


# Two keepers with the same keys


@pytest.fixture
def other(keeper: Keeper, tmp_path: Path) -> Keeper:
    """The keeper of a second machine, which was set up before any host had joined."""
    return Keeper(keeper.keys, state.State(str(tmp_path / "other.db")), keeper.time)


def join(keeper: Keeper, name: str = "web1") -> dict[str, Any]:
    """A host joins; as the database then tells of it."""
    found = as_web(keeper, verb="join", secret=a_token(keeper, name), name=name, key=a_key())
    return {"host": found["host"], "voucher": found["voucher"], "revoked": False}


def hear(keeper: Keeper, *told: dict[str, Any], epoch: str = "", sequence: int = 0) -> list[str]:
    """Tell a keeper as the web process's user can. For which of these hosts it signs nothing."""
    answer = as_web(keeper, verb="hear", hosts=list(told), epoch=epoch, sequence=sequence)
    found: list[str] = answer["strange"]
    return found


def signs(keeper: Keeper, host: str) -> bool:
    """Whether a keeper publishes for a host."""
    number = keeper.state.counters().sequence + 1
    (answer,) = as_web(keeper, **a_request({"host": host}, sequence=number))["hosts"]
    assert ("manifest" in answer) != (answer.get("reason") == "host-unknown")
    return "manifest" in answer


def test_a_host_that_joined_with_one_keeper_is_known_to_another_that_is_told_of_it(
    keeper: Keeper, other: Keeper
) -> None:
    host = join(keeper)
    assert not signs(other, host["host"])
    assert hear(other, host) == []
    assert other.state.host(host["host"]) == keeper.state.host(host["host"])
    assert signs(other, host["host"])
    # Once more is the same, also much later.
    keeper.time.ahead += work.VOUCHED_FOR
    assert hear(other, host) == []


def test_a_host_that_no_keeper_has_vouched_for_is_invented_and_gets_nothing(keeper: Keeper, other: Keeper) -> None:
    """Whatever the web process hands over that it can come by: changed, another's, of another kind or directory."""
    host = join(keeper)
    sealed = client.content(host["voucher"])
    mine = "f" * 32
    elsewhere = Keeper(keys.new(), keeper.state, keeper.time)
    same_keys = Keeper(replace(keeper.keys, directory="e" * 32), keeper.state, keeper.time)
    made = as_web(keeper, verb="new", person=1)
    forged = [
        *("", host["voucher"][:-4], client.text(os.urandom(len(sealed)))),
        *(client.text(sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]) for at in range(len(sealed))),
        *(made["sealed"], as_root(keeper, verb="epoch")["voucher"]),
        *(join(each, name)["voucher"] for each, name in ((elsewhere, "web8"), (same_keys, "web9"))),
    ]
    for voucher in forged:
        told = {"host": host["host"], "voucher": voucher, "revoked": False}
        assert hear(other, told) == [host["host"]], voucher
    # A good one, for a host of the thief's own: what it is about is not for the web process to say.
    assert hear(other, {**host, "host": mine}) == [mine]
    for ident in (host["host"], mine):
        assert other.state.host(ident) is None
        assert not signs(other, ident)


def as_root(keeper: Keeper, **fields: Any) -> dict[str, Any]:
    return work.Keeper(keeper.keys, keeper.state, keeper.time.now).answer(fields, root=True)


def test_a_host_that_was_revoked_stays_so_whatever_is_told_later(keeper: Keeper, other: Keeper) -> None:
    host, late = join(keeper), join(keeper, "web2")
    hear(other, host)
    for gone in (host, late):
        as_web(keeper, verb="revoke", host=gone["host"])
        # One that it did not know before, too.
        assert hear(other, {**gone, "revoked": True}) == []
        for each in (keeper, other):
            assert hear(each, gone) == [gone["host"]]
            assert not signs(each, gone["host"])


def test_a_voucher_that_was_kept_aside_introduces_no_host_after_a_week(keeper: Keeper, other: Keeper) -> None:
    host = join(keeper)
    keeper.time.ahead += work.VOUCHED_FOR + 1
    assert hear(other, host) == [host["host"]]
    # Nor while the clock is before the time that it tells of.
    keeper.time.ahead -= 2 * work.VOUCHED_FOR
    assert hear(other, host) == [host["host"]]
    assert other.state.host(host["host"]) is None


def test_an_epoch_is_another_keeper_s_to_begin_and_numbers_only_grow(keeper: Keeper, other: Keeper) -> None:
    host = join(keeper)
    hear(other, host, sequence=40)
    for told in ("", host["voucher"]):
        hear(other, epoch=told, sequence=7)
        assert other.state.counters() == state.Counters(1, 40, None)
    keeper.state.catch_up(1, None, 90)
    first = as_root(keeper, verb="epoch")["voucher"]
    second = as_root(keeper, verb="epoch")["voucher"]
    for told in (second, first, second):
        hear(other, epoch=told)
        assert other.state.counters() == state.Counters(3, 90, 90)
    assert other.state.counters() == keeper.state.counters()
    # What is taken of one word is no more than of a request to publish: the numbers do not run out.
    hear(other, sequence=1 << 60)
    assert other.state.counters().sequence == 90 + work.MOST_SKIPPED


def test_a_keeper_that_was_told_notices_a_restored_database_as_the_one_that_signed_does(
    keeper: Keeper, other: Keeper
) -> None:
    host = join(keeper)
    hear(other, host, sequence=12)
    with pytest.raises(KeeperError, match="restored from a backup"):
        as_web(other, **a_request({"host": host["host"]}, sequence=11))


def test_a_request_to_hear_of_too_many_or_of_nonsense_changes_nothing(
    keeper: Keeper, other: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "MOST_HOSTS", 2)
    host, more = join(keeper), join(keeper, "web2")
    for told in ([host] * 3, [host, {}], [host, {**more, "voucher": 7}], [host, {**more, "host": None}], [host, 7]):
        with pytest.raises(KeeperError, match=r"malformed|at most 2"):
            as_web(other, verb="hear", hosts=told, epoch="", sequence=1)
    assert other.state.host(host["host"]) is None
    assert other.state.counters().sequence == 0


def test_the_second_machine_s_keeper_is_told_of_what_the_trail_has_gained(
    keeper: Keeper, other: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = joined("web1")
    monkeypatch.setattr(publish, "_heard", [])
    asked: list[list[str]] = []

    def there(verb: str, **fields: Any) -> dict[str, Any]:
        asked.append([each["host"] for each in fields["hosts"]])
        return as_web(other, verb=verb, **fields)

    def pass_there() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(client, "ask", there)
            publish.tell()

    pass_there()
    second = joined("web2")
    pass_there()
    pass_there()
    hosts.revoke("root", Host.objects.get(ident=first.ident))
    State.objects.update(sequence=5)
    pass_there()
    assert asked == [[first.ident], [second.ident], [first.ident]]
    assert [other.state.host(each.ident).revoked is None for each in (first, second)] == [False, True]  # type: ignore[union-attr]  # both are there
    assert other.state.counters().sequence == 5
    # A database that was put back has an end of the trail that was told of before: then everything is told.
    monkeypatch.setattr(publish, "_heard", [1000, 1, 5])
    pass_there()
    assert asked[3:] == [[first.ident, second.ident]]
