"""The API for hosts, over Django's test client."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import URLPattern, get_resolver
from django.utils import timezone

from pam_totp.directory import config, hosts, http, people, throttle
from pam_totp.directory.cli import doctor
from pam_totp.directory.keeper import client as keeper_client
from pam_totp.directory.keeper import keys
from pam_totp.directory.models import (
    Audit,
    Authenticator,
    Claim,
    Event,
    Host,
    HostGroup,
    Person,
    RecoveryCodes,
    hash_of,
)
from pam_totp.factors import otp
from pam_totp.fleet import tree
from tests.directory.inside.conftest import JoinedHost, Keeper, enrolled, joined, publish_all

Answer = tuple[int, Any]
web: Any = Client(SERVER_NAME="dir.example.org", raise_request_exception=False)


def post(path: str, fields: object, host: JoinedHost | None = None) -> Answer:
    text = fields if isinstance(fields, bytes) else json.dumps(fields)
    found = web.post(path, text, "application/json", **(host.headers if host else {}))
    return found.status_code, json.loads(found.content)


def get(path: str, host: JoinedHost | None = None, **headers: str) -> Any:
    return web.get(path, **{**(host.headers if host else {}), **headers})


def token(name: str = "web1") -> str:
    text = hosts.new_token("root", HostGroup.objects.get(name="hosts"), name, 1, "")
    return tree.parse_token(text).secret


def event(kind: str, name: str = "alice", **more: object) -> dict[str, object]:
    time = int(timezone.now().timestamp())
    return {
        "id": os.urandom(16).hex(),
        "time": time,
        "kind": kind,
        "name": name,
        "service": "sshd",
        "reason": "",
        **more,
    }


# Joining


def asking(secret: str, **more: object) -> dict[str, object]:
    """A request to join, of a host with a bearer token of its own."""
    key = keeper_client.text(tree.new_box_key()[1])
    return {"token": secret, "name": "web1", "key": key, "bearer": hash_of(os.urandom(16).hex()), **more}


def test_a_host_joins_with_its_token_and_finds_its_manifest(keeper: Keeper) -> None:
    private, public = tree.new_box_key()
    asked = asking(token(), key=keeper_client.text(public), bearer=hash_of("its own"))
    status, said = post("/api/v1/join", asked)
    assert status == 200
    assert said["directory"] == keeper.keys.directory
    assert keeper_client.content(said["box"]) == keys.identity_of(keeper.keys).box
    assert (said["epoch"], said["tree"]) == (1, "https://dir.example.org/tree")
    host = JoinedHost(said["host"], private, "its own")
    assert get(f"/tree/{host.ident}/manifest", host).status_code == 404
    publish_all()
    # The same host, whose answer was lost: it hears the same, and goes on.
    assert post("/api/v1/join", asked) == (200, said)
    assert get(f"/tree/{host.ident}/manifest", host).status_code == 200


def test_who_has_a_host_s_public_key_and_a_token_for_many_does_not_get_in_its_place(keeper: Keeper) -> None:
    """Nor is the host cut off by it. What it is told when it asks as the host did is nothing secret."""
    secret = token("")
    private, public = tree.new_box_key()
    true = asking(secret, key=keeper_client.text(public), bearer=hash_of("its own"))
    status, said = post("/api/v1/join", true)
    assert status == 200
    host = JoinedHost(said["host"], private, "its own")
    publish_all()
    for other in (secret, token("")):
        status, refused = post("/api/v1/join", {**true, "token": other, "bearer": hash_of("the thief's")})
        assert (status, "joined before" in refused["error"]) == (403, True)
    # Nor does a host of theirs take the true one's token.
    assert post("/api/v1/join", asking(secret, bearer=hash_of("its own")))[0] == 403
    thief = JoinedHost(host.ident, b"", "the thief's")
    assert get(f"/tree/{host.ident}/manifest", thief).status_code == 401
    assert get(f"/tree/{host.ident}/manifest", host).status_code == 200
    assert "its own" not in json.dumps(said)
    assert hash_of("its own") not in json.dumps(said)


def test_a_host_that_joins_is_told_where_a_copy_of_the_tree_is(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = config.of({"name": "dir.example.org", "tree": "https://cdn.example.org/tree"})
    monkeypatch.setattr(settings, "CONFIG", copied)
    assert post("/api/v1/join", asking(token()))[1]["tree"] == "https://cdn.example.org/tree"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"token": "guessed"}, 403),
        ({"name": "web2"}, 403),
        ({"name": "../web1"}, 400),
        ({"name": ""}, 400),
        ({"key": "AAAA"}, 400),
        ({"key": "not base64!"}, 400),
        ({"token": 7}, 400),
        ({"bearer": None}, 400),
        ({"bearer": "its own"}, 400),
    ],
)
def test_who_may_not_join_is_told_what_to_do(keeper: Keeper, change: dict[str, object], status: int) -> None:
    found, said = post("/api/v1/join", asking(token(), **change))
    assert found == status
    assert said["error"]
    assert status != 403 or "ask for a new one" in said["next"]
    assert not Host.objects.exists()


def test_a_token_that_the_web_process_has_made_up_lets_nobody_join(keeper: Keeper) -> None:
    """What a taken-over web process writes into the database is not in the keeper's list."""
    from datetime import timedelta

    from pam_totp.directory.models import JoinToken, hash_of

    group = HostGroup.objects.get(name="hosts")
    expires = timezone.now() + timedelta(days=1)
    JoinToken.objects.create(token_hash=hash_of("mine"), group=group, expires=expires, created_by="eve")
    assert post("/api/v1/join", asking("mine", name="evil"))[0] == 403


def test_the_ca_is_for_everybody(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert get("/api/v1/ca").status_code == 404
    path = tmp_path_factory.mktemp("ca") / "ca.crt"
    path.write_text("certificate", encoding="ascii")
    monkeypatch.setattr(settings, "CONFIG", config.of({"name": "dir.example.org", "authority": str(path)}))
    assert get("/api/v1/ca").content == b"certificate"


# The tree


def test_what_is_served_is_what_was_published_and_unchanged_it_is_not_sent_again(keeper: Keeper) -> None:
    enrolled(keeper, "alice")
    host = joined("web1")
    publish_all()
    first = get(f"/tree/{host.ident}/manifest", host)
    manifest = tree.open_manifest(first.content, keys.identity_of(keeper.keys).signing)
    for name in manifest.files:
        found = get(f"/tree/{host.ident}/objects/{name}", host)
        tree.check_object(found.content, name)
    again = get(f"/tree/{host.ident}/manifest", host, HTTP_IF_NONE_MATCH=first["ETag"])
    assert (again.status_code, again.content) == (304, b"")
    people.lock("root", people.find("alice"), locked=True)
    publish_all()
    assert get(f"/tree/{host.ident}/manifest", host, HTTP_IF_NONE_MATCH=first["ETag"]).status_code == 200


def test_when_a_host_was_seen_is_known(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "seen", hosts.Seen())
    host, other = joined("web1"), joined("web2")
    Host.objects.update(last_seen=None, address=None)
    get(f"/tree/{host.ident}/manifest", host, REMOTE_ADDR="::ffff:198.51.100.9")
    found = Host.objects.get(name="web1")
    assert found.last_seen is not None
    assert found.address == "198.51.100.9"
    # Who comes within the next second is written with those that come after it.
    get(f"/tree/{other.ident}/manifest", other)
    assert Host.objects.get(name="web2").last_seen is None
    hosts.seen.write()
    assert Host.objects.get(name="web2").last_seen is not None


def test_many_hosts_that_were_seen_are_written_at_once(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    now = timezone.now().replace(microsecond=0)
    monkeypatch.setattr(timezone, "now", lambda: now)
    those = [Host.objects.get(ident=joined(f"web{number}").ident) for number in range(5)]
    Host.objects.update(last_seen=None)
    found, moved = hosts.Seen(), {"web3": "2001:db8::3", "web4": "2001:db8::4"}
    # The first one is written at once, and the others together.
    for host in those:
        found.note(host.pk, moved.get(host.name) or host.address or "")
    with CaptureQueriesContext(connection) as queries:
        found.write()
    updates = [each["sql"] for each in queries if "UPDATE" in each["sql"]]
    assert len([each for each in updates if "last_seen" in each]) == 1
    assert len(updates) == 1 + len(moved)
    for host in those:
        before, address = host.address, moved.get(host.name, host.address)
        host.refresh_from_db()
        assert (host.last_seen, host.address) == (now, address), before


def requests(host: JoinedHost, name: str, authenticator: str, digest: str) -> dict[str, tuple[str, str, object]]:
    """A request to each path of the API that concerns a host: method, path, fields."""
    return {
        "manifest": ("GET", f"/tree/{host.ident}/manifest", None),
        "object": ("GET", f"/tree/{host.ident}/objects/{name}", None),
        "claim": ("POST", "/api/v1/claim", {"authenticator": authenticator, "step": otp.step_at(now())}),
        "claim recovery": ("POST", "/api/v1/claim", {"recovery": digest, "name": "alice"}),
        "line": ("POST", "/api/v1/line", {"before": "0" * 32, "latest": "1" * 32}),
        "events": ("POST", "/api/v1/events", {"events": [event("removed", authenticator=authenticator)]}),
        "leave": ("POST", "/api/v1/leave", {}),
    }


def now() -> float:
    return timezone.now().timestamp()


def ask(request: tuple[str, str, object], host: JoinedHost | None) -> int:
    method, path, fields = request
    return get(path, host).status_code if method == "GET" else post(path, fields, host)[0]


def test_a_host_gets_nothing_that_is_another_hosts(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    person, _ = enrolled(keeper, "alice")
    people.new_recovery_codes("root", person)
    HostGroup.objects.create(name="others")
    own, other = joined("web1"), joined("web2", "others")
    publish_all()
    authenticator, codes = person.authenticators.get(), RecoveryCodes.objects.get()
    asked = requests(own, own.manifest(keeper).records[0], authenticator.ident, codes.hashes[0])
    for name in ("manifest", "object", "claim", "claim recovery"):
        assert ask(asked[name], other) == 404, name
    # An event about somebody whom the host was not given is noted, and changes nothing.
    assert ask(asked["events"], other) == 200
    assert person.authenticators.count() == 1
    assert Event.objects.get().person is None
    assert not Claim.objects.filter(step=asked["claim"][2]["step"]).exists()  # type: ignore[index]  # the fields of a claim
    for name, request in asked.items():
        assert ask(request, own) == 200, name


def test_every_path_asks_who_is_there(keeper: Keeper) -> None:
    host = joined("web1")
    publish_all()
    asked = requests(host, "0" * 64, "0" * 32, "0" * 32)
    patterns = [each for each in get_resolver(api_urls()).url_patterns if isinstance(each, URLPattern)]
    # The others are in test_admin_api.py.
    paths = {each.name for each in patterns if each.callback.__module__ == "pam_totp.directory.api"}
    assert paths == {"ca", "join", *(name.split()[0] for name in asked)}
    stranger = JoinedHost(host.ident, b"", "guessed")
    for name, request in asked.items():
        assert ask(request, None) == ask(request, stranger) == 401, name
    hosts.revoke("root", Host.objects.get())
    for name, request in asked.items():
        assert ask(request, host) == 401, name


def api_urls() -> str:
    return "pam_totp.directory.api_urls"


@pytest.mark.parametrize(
    "path", ["..", "manifest.new", "objects/..", "objects/" + "0" * 63, "objects/" + "0" * 63 + "G"]
)
def test_no_path_leads_out_of_the_folder(keeper: Keeper, path: str) -> None:
    host = joined("web1")
    publish_all()
    assert get(f"/tree/{host.ident}/{path}", host).status_code == 404


def test_other_methods_are_refused(keeper: Keeper) -> None:
    host = joined("web1")
    assert web.put("/api/v1/claim", "{}", **host.headers).status_code == 405
    assert web.delete(f"/tree/{host.ident}/manifest", **host.headers).status_code == 405
    assert get("/api/v1/join").status_code == 405


# Claims


def test_of_two_hosts_one_may_use_a_code_and_may_ask_again(keeper: Keeper) -> None:
    person, _ = enrolled(keeper, "alice")
    one, other = joined("web1"), joined("web2")
    publish_all()
    step = keeper.time.step
    asked = {"authenticator": person.authenticators.get().ident, "step": step, "login": "a" * 32}
    assert post("/api/v1/claim", asked, one) == (200, {"claimed": True})
    assert post("/api/v1/claim", asked, one) == (200, {"claimed": True})
    assert post("/api/v1/claim", asked, other) == (200, {"claimed": False})
    assert post("/api/v1/claim", {**asked, "login": "b" * 32}, one) == (200, {"claimed": False})
    assert post("/api/v1/claim", {**asked, "step": step + 1}, other) == (200, {"claimed": True})


def test_a_recovery_code_that_was_used_on_a_host_is_gone_everywhere(keeper: Keeper) -> None:
    person, _ = enrolled(keeper, "alice")
    codes = people.new_recovery_codes("root", person)
    one, other = joined("web1"), joined("web2")
    publish_all()
    digest = RecoveryCodes.objects.get().hashes[0]
    asked = {"recovery": digest, "name": "alice", "login": "a" * 32}
    assert post("/api/v1/claim", asked, one) == (200, {"claimed": True})
    assert post("/api/v1/claim", asked, one) == (200, {"claimed": True})
    assert post("/api/v1/claim", asked, other) == (200, {"claimed": False})
    assert digest not in RecoveryCodes.objects.get().hashes
    publish_all()
    recovery = other.records(keeper)["alice"].recovery
    assert recovery is not None
    assert digest not in recovery.hashes
    assert people.check(person, codes[0], "192.0.2.1").word == "refused"


@pytest.mark.parametrize("step", [-1, "7", True, 1 << 60, 7, None])
def test_nobody_uses_up_codes_of_another_time(keeper: Keeper, step: object) -> None:
    person, _ = enrolled(keeper, "alice")
    host = joined("web1")
    publish_all()
    asked = {"authenticator": person.authenticators.get().ident, "step": step}
    assert post("/api/v1/claim", asked, host)[0] == 400


# Lines: is a host one?


class Twin:
    """A host's line, as its agent keeps it; a copy of it is a clone's."""

    def __init__(self, host: JoinedHost, before: str = "0" * 32, latest: str = "") -> None:
        self.host, self.before, self.latest = host, before, latest or os.urandom(16).hex()

    def copy(self) -> Twin:
        return Twin(self.host, self.before, self.latest)

    def hand_over(self) -> bool:
        """Hand over the number, and have the next one once it is answered."""
        status, said = post("/api/v1/line", {"before": self.before, "latest": self.latest}, self.host)
        assert status == 200
        self.before, self.latest = self.latest, os.urandom(16).hex()
        return bool(said["alone"])

    def lose_the_answer(self) -> None:
        before, latest = self.before, self.latest
        self.hand_over()
        self.before, self.latest = before, latest


@pytest.mark.parametrize("order", ["abab", "aabb", "abba", "baab", "bbaa", "baba", "aaabba"])
@pytest.mark.parametrize("age", [0, 1, 5])
def test_two_hosts_with_one_identity_are_noticed_whichever_goes_on_first(keeper: Keeper, order: str, age: int) -> None:
    hosts_by_name = {"a": Twin(joined("web1"))}
    for _ in range(age):
        assert hosts_by_name["a"].hand_over()
    hosts_by_name["b"] = hosts_by_name["a"].copy()
    if age == 0:
        hosts_by_name["b"].latest = os.urandom(16).hex()  # made before either had handed over any
    said = [hosts_by_name[name].hand_over() for name in order * 2]
    assert said[-2:] == [False, False]
    assert Host.objects.get().cloned is not None
    entry = Audit.objects.get(action="host-cloned")
    assert (entry.target, entry.detail["addresses"]) == ("web1", ["127.0.0.1", "127.0.0.1"])
    [told] = [each for each in doctor._hosts() if "two hosts" in each]
    assert f"pam-totp-directory host revoke {hosts_by_name['a'].host.ident}" in told


@pytest.mark.parametrize("count", [3, 10, 30])
def test_many_hosts_of_one_image_are_noticed(keeper: Keeper, count: int) -> None:
    first = Twin(joined("web1"))
    first.hand_over()
    crowd = [first, *(first.copy() for _ in range(count - 1))]
    for each in crowd:
        each.latest = os.urandom(16).hex()
    assert all(each.hand_over() for each in crowd)
    assert not any(each.hand_over() for each in crowd)
    assert len(Host.objects.get().ends) <= hosts.MOST_ENDS


def test_a_lost_answer_a_restart_and_an_older_state_make_no_two_hosts(keeper: Keeper) -> None:
    one = Twin(joined("web1"))
    for _ in range(3):
        assert one.hand_over()
        one.lose_the_answer()
    old = one.copy()
    for _ in range(3):
        assert one.hand_over()
    # The machine was put back to a snapshot, twice; its old self is no more.
    for _ in range(2):
        one = old.copy()
        one.latest = os.urandom(16).hex()
        assert [one.hand_over() for _ in range(4)] == [True] * 4
    # The cache of it was restored on a new machine, without the line.
    assert [Twin(one.host).hand_over() for _ in range(1)] == [True]
    assert Host.objects.get().cloned is None


def test_a_database_that_is_older_than_the_host_s_line_makes_no_two_hosts(keeper: Keeper) -> None:
    one = Twin(joined("web1"))
    one.hand_over()
    before = Host.objects.values("line", "ends").get()
    for _ in range(3):
        one.hand_over()
    Host.objects.update(**before)
    assert [one.hand_over() for _ in range(4)] == [True] * 4


def test_nobody_has_a_host_noticed_without_its_token(keeper: Keeper) -> None:
    one, other = Twin(joined("web1")), Twin(joined("web2"))
    one.hand_over()
    stolen = one.copy()
    stolen.host = JoinedHost(one.host.ident, one.host.private, "guessed")
    for _ in range(3):
        assert post("/api/v1/line", {"before": stolen.before, "latest": stolen.latest}, stolen.host)[0] == 401
        assert post("/api/v1/line", {"before": one.before, "latest": os.urandom(16).hex()}, other.host)[0] == 200
        assert one.hand_over()
    assert Host.objects.get(name="web1").cloned is None
    for fields in ({}, {"before": "0" * 32}, {"before": "0" * 32, "latest": "0" * 32}, {"before": 7, "latest": "x"}):
        assert post("/api/v1/line", fields, one.host)[0] == 400


def test_a_line_has_nothing_published(keeper: Keeper) -> None:
    one = Twin(joined("web1"))
    publish_all()
    one.hand_over()
    assert publish_all() == 0


# Events


def test_an_event_is_taken_once(keeper: Keeper) -> None:
    enrolled(keeper, "alice")
    host = joined("web1")
    publish_all()
    found = [event("login"), event("refused", "nobody", reason="wrong-code")]
    taken = {"taken": [each["id"] for each in found], "refused": {}}
    assert post("/api/v1/events", {"events": found}, host) == (200, taken)
    assert post("/api/v1/events", {"events": found}, host) == (200, taken)
    assert Event.objects.count() == 2
    assert {str(each.person) for each in Event.objects.all()} == {"alice", "None"}


def test_who_enrols_at_a_prompt_is_enrolled_on_every_host(keeper: Keeper) -> None:
    people.add("root", "alice", deadline=timezone.now())
    one, other = joined("web1"), joined("web2")
    publish_all()
    secret, ident = os.urandom(20), os.urandom(16).hex()
    enrolment = tree.Enrolment(one.ident, "alice", ident, "phone", secret)
    sealed = keeper_client.text(tree.seal_enrolment(enrolment, keys.identity_of(keeper.keys).box))
    sent = event("enrolled", authenticator=ident, sealed=sealed)
    assert post("/api/v1/events", {"events": [sent, sent]}, one)[0] == 200
    publish_all()
    (found,) = other.records(keeper)["alice"].authenticators
    assert (found.secret, found.identifier, found.label) == (secret, ident, "phone")
    assert other.records(keeper)["alice"].deadline is None
    assert Audit.objects.filter(action="enrolled", actor="host web1", target="alice").count() == 1
    assert people.check(people.find("alice"), otp.hotp(secret, keeper.time.step), "192.0.2.1").accepted


def test_an_enrolment_for_somebody_else_or_of_another_host_enrols_nobody(keeper: Keeper) -> None:
    people.add("root", "alice")
    people.add("root", "bob")
    one, other = joined("web1"), joined("web2")
    publish_all()
    box = keys.identity_of(keeper.keys).box
    ident = os.urandom(16).hex()
    sealed = keeper_client.text(
        tree.seal_enrolment(tree.Enrolment(one.ident, "alice", ident, "x", os.urandom(20)), box)
    )
    for host, name, identifier, seal in (
        (one, "bob", ident, sealed),
        (one, "alice", "0" * 32, sealed),
        (other, "alice", ident, sealed),
        (one, "alice", ident, sealed[:-8]),
        (one, "alice", ident, "AAAA"),
    ):
        sent = event("enrolled", name, authenticator=identifier, sealed=seal)
        assert post("/api/v1/events", {"events": [sent]}, host)[1]["taken"] == [sent["id"]]
    assert not people.find("alice").enrolled
    assert not people.find("bob").enrolled


def upload(keeper: Keeper, host: JoinedHost, name: str, label: str = "phone") -> tuple[dict[str, object], bytes]:
    """What a host hands up of an enrolment from before it joined; and its secret."""
    ident, secret = os.urandom(16).hex(), os.urandom(20)
    sealed = tree.seal_enrolment(
        tree.Enrolment(host.ident, name, ident, label, secret), keys.identity_of(keeper.keys).box
    )
    return event("uploaded", name, authenticator=ident, sealed=keeper_client.text(sealed)), secret


def hand_up(host: JoinedHost, *sent: dict[str, object]) -> list[str]:
    """Why each was not taken, empty where it was."""
    status, said = post("/api/v1/events", {"events": sent}, host)
    assert (status, said["taken"]) == (200, [each["id"] for each in sent])
    return [said["refused"].get(each["id"], "") for each in sent]


def test_what_was_enrolled_on_a_host_before_it_joined_is_handed_up_and_on_every_host(keeper: Keeper) -> None:
    people.add("root", "alice")
    one, other = joined("web1"), joined("web2")
    publish_all()
    (first, secret), (second, _) = upload(keeper, one, "alice"), upload(keeper, one, "alice", "tablet")
    assert hand_up(one, first, second) == ["", ""]
    publish_all()
    found = other.records(keeper)["alice"].authenticators
    assert {(each.label, each.identifier) for each in found} == {
        *(("phone", first["authenticator"]), ("tablet", second["authenticator"])),
    }
    assert secret in [each.secret for each in found]
    # The answer was lost: the same event, or another one about the same.
    assert hand_up(one, first) == [""]
    assert hand_up(one, {**first, "id": os.urandom(16).hex()}) == ["known-already"]
    assert len(other.records(keeper)["alice"].authenticators) == 2


def test_nothing_is_handed_up_beside_or_in_the_place_of_what_somebody_has(keeper: Keeper) -> None:
    person, secret = enrolled(keeper, "alice")
    people.add("root", "boss", role=Person.Role.ADMINISTRATOR)
    people.add("root", "carol", [])
    one, other = joined("web1"), joined("web2")
    publish_all()
    sent = [upload(keeper, one, name)[0] for name in ("alice", "boss", "carol", "nobody")]
    assert hand_up(one, *sent) == ["enrolled-already", "has-a-role", "unknown-person", "unknown-person"]
    assert hand_up(one, *sent) == ["enrolled-already", "has-a-role", "unknown-person", "unknown-person"]
    assert [each.person for each in Authenticator.objects.all()] == [person]
    assert people.check(person, otp.hotp(secret, keeper.time.step), "192.0.2.1").accepted
    # Of two hosts that hand up somebody the first one has it.
    people.add("root", "dora")
    publish_all()
    assert hand_up(one, upload(keeper, one, "dora")[0]) == [""]
    assert hand_up(other, upload(keeper, other, "dora")[0]) == ["enrolled-already"]
    # Sealed by another host: nothing of it is taken.
    people.add("root", "erin")
    publish_all()
    assert hand_up(other, upload(keeper, one, "erin")[0]) == ["not-opened"]
    assert not people.find("erin").enrolled


def test_what_is_removed_on_a_host_is_removed_everywhere(keeper: Keeper) -> None:
    person, _ = enrolled(keeper, "alice")
    host = joined("web1")
    publish_all()
    sent = event("removed", authenticator=person.authenticators.get().ident)
    post("/api/v1/events", {"events": [sent]}, host)
    assert not person.enrolled


@pytest.mark.parametrize(
    "events",
    [
        *(
            None,
            7,
            [7],
            [{}],
            [{"id": "x"}],
            [event("nothing")],
            [event("login", name="a" * 257)],
            [event("login")] * 501,
        ),
        [event("login", time=-1)],
        [event("login", time=1 << 60)],
        [event("login", authenticator="x")],
        [event("login", reason=7)],
    ],
)
def test_events_that_are_malformed_are_refused(keeper: Keeper, events: object) -> None:
    host = joined("web1")
    assert post("/api/v1/events", {"events": events}, host)[0] == 400
    assert not Event.objects.exists()


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b"7"], ids=range(6))
def test_a_body_that_is_no_object_of_json_is_refused(keeper: Keeper, body: bytes) -> None:
    host = joined("web1")
    for path in ("claim", "events"):
        assert post(f"/api/v1/{path}", body, host)[0] == 400


def test_a_body_that_is_too_long_is_refused(keeper: Keeper) -> None:
    host = joined("web1")
    assert post("/api/v1/events", b" " * (settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1), host)[0] == 413


def test_while_the_keeper_is_silent_hosts_are_told_to_come_again_and_nothing_is_lost(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    people.add("root", "alice")
    host = joined("web1")
    publish_all()
    keeper_client.close()
    monkeypatch.setattr(config, "SOCKET", config.SOCKET + ".gone")
    sent = event("enrolled", authenticator="0" * 32, sealed="AAAA")
    assert post("/api/v1/events", {"events": [sent]}, host)[0] == 503
    assert not Event.objects.exists()
    assert get(f"/tree/{host.ident}/manifest", host).status_code == 200


# Leaving, and floods


def test_a_host_that_has_left_gets_nothing_and_may_join_again_with_a_new_key(keeper: Keeper) -> None:
    host = joined("web1")
    publish_all()
    assert post("/api/v1/leave", {}, host)[0] == 200
    assert get(f"/tree/{host.ident}/manifest", host).status_code == 401
    assert publish_all() == 0
    assert joined("web1").ident != host.ident


def test_who_has_no_valid_token_may_not_ask_for_ever(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(http, "strangers", throttle.Throttle(5, 60.0))
    codes = [get("/tree/" + "0" * 32 + "/manifest", REMOTE_ADDR="198.51.100.1").status_code for _ in range(7)]
    assert codes == [401] * 5 + [429] * 2
    assert get("/tree/" + "0" * 32 + "/manifest", REMOTE_ADDR="198.51.100.2").status_code == 401
    assert post("/api/v1/join", {"token": "x", "name": "x", "key": ""})[0] == 400


def test_a_flood_of_bad_tokens_from_an_address_keeps_the_hosts_there_going(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as of another user of the host, or behind the same router: it would not hear who was revoked."""
    host, secret = joined("web1"), token("web2")
    publish_all()
    monkeypatch.setattr(http, "strangers", Full())
    stranger = JoinedHost(host.ident, b"", "guessed")
    assert get(f"/tree/{host.ident}/manifest", stranger).status_code == 429
    assert post("/api/v1/join", asking("x", name="web2"))[0] == 429
    assert get(f"/tree/{host.ident}/manifest", host).status_code == 200
    assert post("/api/v1/join", asking(secret, name="web2"))[0] == 200


class Full(throttle.Throttle):
    """Whoever asks has asked too often."""

    def __init__(self) -> None:
        super().__init__(1, 60.0)

    def wait(self, _: str) -> int:
        return 60


@pytest.mark.parametrize("text", ["\ud800", "a\nb", "\x1b]0;x\x07", "\x9b31m"])
def test_what_no_log_and_no_terminal_can_show_is_refused(keeper: Keeper, text: str) -> None:
    people.add("root", "alice")
    host = joined("web1")
    publish_all()
    assert post("/api/v1/join", {"token": text, "name": "x", "key": keeper_client.text(bytes(32))})[0] == 400
    for name in ("service", "reason", "name"):
        assert post("/api/v1/events", {"events": [event("login", **{name: text})]}, host)[0] == 400
    assert post("/api/v1/claim", {"recovery": "0" * 32, "name": text}, host)[0] == 400


def test_a_time_that_no_calendar_has_is_refused(keeper: Keeper) -> None:
    host = joined("web1")
    for time in ((1 << 53) - 1, 1 << 40):
        assert post("/api/v1/events", {"events": [event("login", time=time)]}, host)[0] == 400


def test_no_host_has_an_event_of_another_one_be_known_already(keeper: Keeper) -> None:
    """Ids of what is removed and spent are derived from what another host may know: it could send them first."""
    person, _ = enrolled(keeper, "alice")
    one, other = joined("web1"), joined("web2")
    publish_all()
    sent = event("removed", authenticator=person.authenticators.get().ident)
    assert post("/api/v1/events", {"events": [event("login", "alice", id=sent["id"])]}, other)[0] == 200
    assert post("/api/v1/events", {"events": [sent]}, one)[0] == 200
    assert not person.enrolled


def test_recovery_codes_that_there_are_not_leave_nothing_behind(keeper: Keeper) -> None:
    """Else a rogue host fills the table of claims, of which those of recovery codes stay."""
    person, _ = enrolled(keeper, "alice")
    people.new_recovery_codes("root", person)
    host = joined("web1")
    publish_all()
    before = Claim.objects.count()
    for _ in range(5):
        digest = os.urandom(16).hex()
        assert post("/api/v1/claim", {"recovery": digest, "name": "alice"}, host) == (200, {"claimed": False})
        assert post("/api/v1/events", {"events": [event("recovery-spent", recovery=digest)]}, host)[0] == 200
    assert Claim.objects.count() == before


def test_a_host_tells_of_so_many_logins_a_day_and_what_matters_is_heard_after_them(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pam_totp.directory import api

    person, _ = enrolled(keeper, "alice")
    host, other = joined("web1"), joined("web2")
    publish_all()
    monkeypatch.undo()
    monkeypatch.setattr(api, "_told", throttle.Throttle(10, 86_400.0))
    for _ in range(4):
        sent = [event("login") for _ in range(4)]
        assert post("/api/v1/events", {"events": sent}, host)[1]["taken"] == [each["id"] for each in sent]
    # Nor does what is refused fill the disk.
    bad = event("enrolled", authenticator="a" * 32, sealed="AA==")
    assert post("/api/v1/events", {"events": [bad]}, host)[1]["refused"] == {bad["id"]: "not-opened"}
    assert Event.objects.filter(host__name="web1").count() == 10
    removed = event("removed", authenticator=person.authenticators.get().ident)
    assert post("/api/v1/events", {"events": [removed]}, host)[0] == 200
    assert not person.enrolled
    assert post("/api/v1/events", {"events": [event("login")]}, other)[0] == 200
    assert Event.objects.filter(host__name="web2").count() == 1
