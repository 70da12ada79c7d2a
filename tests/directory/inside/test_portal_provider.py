"""Signing in to the portals at an OpenID Connect provider, and every way to lie about it."""

from __future__ import annotations

import os
import re
import time
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from django.test import Client

from pam_totp.directory import config, oidc, people, throttle
from pam_totp.directory.models import Event, Person
from pam_totp.directory.portal import single
from tests.directory.inside.portal import PASSWORD, Somebody, somebody
from tests.directory.inside.provider import CLIENT, EVENT, SECRET, Provider, by_hand, jwk, onward

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.directory.inside.conftest import Keeper

REFUSED = "That sign-in did not work"
PAGES = ("/login/provider/", "/login/provider/back/", "/login/provider/end/")


@pytest.fixture
def provider(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    """A provider that the directory believes: its certificate is known, and its tokens tell of second factors."""
    with Provider(tmp_path) as running:
        monkeypatch.setenv("SSL_CERT_FILE", str(running.authority))
        path = tmp_path / "oidc.secret"
        path.write_text(SECRET + "\n", encoding="ascii")
        path.chmod(0o600)
        running.claims["acr"] = "mfa"
        found = config.Oidc(issuer=running.issuer, client_id=CLIENT, client_secret_file=str(path), acr=("mfa", "loa-4"))
        settings.CONFIG = replace(settings.CONFIG, oidc=found)
        yield running


@pytest.fixture
def alice(keeper: Keeper) -> Somebody:
    return somebody(keeper)


def setting(settings: Any, **changes: Any) -> None:
    settings.CONFIG = replace(settings.CONFIG, oidc=replace(settings.CONFIG.oidc, **changes))


def signed_in(browser: Client) -> bool:
    return "_auth_user_id" in browser.session


def refused(response: Any, browser: Client, text: str = REFUSED) -> bool:
    return response.status_code == 403 and text in response.content.decode() and not browser.session.keys()


# Who gets in


def test_it_is_off_until_it_is_set_up(alice: Somebody) -> None:
    assert [alice.get(path).status_code for path in PAGES] == [404] * 3
    assert "provider" not in alice.get("/login/").content.decode()
    alice.sign_in()
    assert alice.post("/logout/").headers["Location"] == "/login/"


@pytest.mark.parametrize("algorithm", ["rs256", "es256"])
def test_who_used_a_second_factor_there_is_in(alice: Somebody, provider: Provider, algorithm: str) -> None:
    provider.sign = getattr(provider, algorithm)
    assert "Sign in at localhost" in alice.get("/login/").content.decode()
    before = alice.browser.session.session_key
    response = provider.visit(alice.browser)
    assert onward(response) == "/"
    assert alice.get("/").status_code == 200
    assert alice.browser.session.session_key != before
    assert Event.objects.filter(person=alice.person, kind="login", reason="provider").count() == 1
    cookie = response.cookies["__Host-session"]
    assert (cookie["samesite"], cookie["secure"], cookie["httponly"]) == ("Strict", True, True)
    assert response.cookies[single.COOKIE].value == ""


def test_the_secret_goes_where_the_provider_looks_for_it(alice: Somebody, provider: Provider) -> None:
    provider.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_basic", "client_secret_post"]
    assert onward(provider.visit(alice.browser)) == "/"


def test_what_matters_asks_for_a_code_of_ours_all_the_same(keeper: Keeper, provider: Provider) -> None:
    boss = somebody(keeper, "boss", role="administrator")
    provider.claims["sub"] = "boss"
    assert onward(provider.visit(boss.browser, "/login/provider/?next=/admin/")) == "/admin/"
    assert boss.get("/admin/").status_code == 200
    for path in ("/password/", "/authenticators/add/", "/admin/directory/apitoken/add/"):
        assert boss.get(path).headers["Location"].startswith("/confirm/"), path
    assert boss.get("/admin/audit.jsonl").headers["Location"].startswith("/confirm/")
    somebody(keeper, "owner")
    action = {"action": "reset", "_selected_action": Person.objects.get(name="owner").pk, "sure": "yes"}
    assert 'name="code"' in boss.post("/admin/directory/person/", action).content.decode()
    assert Person.objects.get(name="owner").enrolled
    boss.post("/confirm/", {"code": boss.code()})
    assert boss.get("/password/").status_code == 200


def test_without_a_word_of_second_factors_a_code_is_asked_for_here(
    alice: Somebody, provider: Provider, settings: Any
) -> None:
    setting(settings, acr=())
    assert onward(provider.visit(alice.browser, "/login/provider/?next=/logins/")) == "/login/code/"
    assert not signed_in(alice.browser)
    assert alice.get("/").headers["Location"] == "/login/"
    alice.post("/login/code/", {"code": "000000"})
    assert not signed_in(alice.browser)
    assert alice.post("/login/code/", {"code": alice.code()}).headers["Location"] == "/logins/"
    assert signed_in(alice.browser)


@pytest.mark.parametrize(
    ("acr", "amr", "said", "good"),
    [
        (("mfa",), (), {"acr": "mfa"}, True),
        (("mfa",), (), {"acr": "loa-2"}, False),
        (("mfa",), (), {"acr": None}, False),
        (("mfa",), (), {"acr": ["mfa"]}, False),
        (("mfa",), (), {"acr": "", "amr": ["mfa"]}, False),
        ((), ("otp", "hwk"), {"amr": ["pwd", "otp"]}, True),
        ((), ("otp", "hwk"), {"amr": ["pwd"]}, False),
        ((), ("otp", "hwk"), {"amr": "otp"}, False),
        ((), ("otp", "hwk"), {"amr": {"otp": 1}}, False),
        ((), ("otp", "hwk"), {}, False),
        (("mfa",), ("otp",), {"acr": "mfa", "amr": ["otp"]}, True),
        (("mfa",), ("otp",), {"acr": "mfa", "amr": ["pwd"]}, False),
        (("mfa",), ("otp",), {"acr": "loa-1", "amr": ["otp"]}, False),
    ],
)
def test_who_did_not_use_a_second_factor_there_is_refused(
    alice: Somebody, provider: Provider, settings: Any, acr: Any, amr: Any, said: dict[str, Any], good: bool
) -> None:
    setting(settings, acr=acr, amr=amr)
    provider.claims |= {"acr": None, **said}
    response = provider.visit(alice.browser)
    assert (onward(response) == "/", signed_in(alice.browser)) == (good, good)
    assert good or refused(response, alice.browser, "A second factor is needed")


def test_nobody_is_made_and_no_role_comes_from_there(alice: Somebody, provider: Provider) -> None:
    before = Person.objects.count()
    for name in ("mallory", "Alice", "alice ", "", "al\0ice", 7, ["alice"], None, "x" * 65, "\ud800"):
        provider.claims["sub"] = name
        response = provider.visit(alice.browser)
        assert response.status_code == 403, name
        assert not signed_in(alice.browser)
    provider.claims |= {"sub": "alice", "role": "administrator", "groups": ["administrator"], "is_staff": True}
    assert onward(provider.visit(alice.browser)) == "/"
    assert alice.get("/admin/").status_code == 404
    assert (Person.objects.count(), Person.objects.get(name="alice").role) == (before, "user")


@pytest.mark.parametrize("fields", [{"locked": True}, {"is_active": False}])
def test_who_is_locked_or_inactive_stays_out(keeper: Keeper, provider: Provider, fields: dict[str, Any]) -> None:
    alice = somebody(keeper, **fields)
    assert provider.visit(alice.browser).status_code == 403
    assert not alice.browser.session.keys()


def test_a_lock_ends_a_session_that_began_there(alice: Somebody, provider: Provider) -> None:
    provider.visit(alice.browser)
    people.lock("root", alice.person, locked=True)
    assert alice.get("/").headers["Location"] == "/login/"


def test_who_has_no_authenticator_here_enrols_as_with_a_password(keeper: Keeper, provider: Provider) -> None:
    for role, page in (("user", "Finish"), ("administrator", "You need an invitation")):
        visitor = somebody(keeper, f"new-{role}", enrolled=False, role=role)
        provider.claims["sub"] = visitor.name
        assert onward(provider.visit(visitor.browser)) == "/enrol/"
        assert not signed_in(visitor.browser)
        assert page in visitor.get("/enrol/").content.decode()


def test_another_claim_can_name_the_person(alice: Somebody, provider: Provider, settings: Any) -> None:
    setting(settings, claim="preferred_username")
    provider.claims |= {"sub": "1234"}
    assert refused(provider.visit(alice.browser), alice.browser)
    provider.claims["preferred_username"] = "alice"
    assert onward(provider.visit(alice.browser)) == "/"


def test_an_address_counts_when_the_provider_has_verified_it(keeper: Keeper, provider: Provider, settings: Any) -> None:
    alice = somebody(keeper, "alice@example.org")
    setting(settings, claim="email")
    for verified in (None, False, "true"):
        provider.claims |= {"email": "alice@example.org", "email_verified": verified}
        assert refused(provider.visit(alice.browser), alice.browser)
    provider.claims["email_verified"] = True
    assert onward(provider.visit(alice.browser)) == "/"


# Tokens that are not good


def other_key(provider: Provider, claims: dict[str, Any]) -> str:
    return str(jwt.encode(claims, rsa.generate_private_key(65537, 2048), "RS256", {"kid": "rsa"}))


def tampered(provider: Provider, claims: dict[str, Any]) -> str:
    good = provider.rs256(claims | {"sub": "mallory"}).split(".")
    return ".".join([good[0], provider.rs256(claims).split(".")[1], good[2]])


def short_key(provider: Provider, claims: dict[str, Any]) -> str:
    key = rsa.generate_private_key(65537, 1024)
    provider.keys = [jwk(key.public_key(), "short")]
    return str(jwt.encode(claims, key, "RS256", {"kid": "short"}))


def another_curve(provider: Provider, claims: dict[str, Any]) -> str:
    key = ec.generate_private_key(ec.SECP384R1())
    provider.keys = [jwk(key.public_key(), "ec")]
    return str(jwt.encode(claims, key, "ES384", {"kid": "ec"}))


def key_for_encryption(provider: Provider, claims: dict[str, Any]) -> str:
    provider.keys[0]["use"] = "enc"
    return provider.rs256(claims)


def two_keys_and_no_name(provider: Provider, claims: dict[str, Any]) -> str:
    provider.keys.append(jwk(rsa.generate_private_key(65537, 2048).public_key(), "rsa2"))
    return str(jwt.encode(claims, provider.rsa, "RS256"))


def shared_key_published(provider: Provider, claims: dict[str, Any]) -> str:
    provider.keys = [{"kty": "oct", "kid": "rsa", "k": "AAAA", "alg": "HS256"}]
    return by_hand(claims, "HS256", b"\0\0\0")


BAD: dict[str, Callable[[Provider, dict[str, Any]], Any]] = {
    "signed by somebody else": other_key,
    "changed": tampered,
    "alg none": lambda _, claims: by_hand(claims, "none"),
    "alg None": lambda _, claims: by_hand(claims, "None"),
    "alg missing": lambda _, claims: by_hand(claims, ""),
    "HS256 with the public key": lambda provider, claims: by_hand(claims, "HS256", provider.public_pem()),
    "HS256 with the client's secret": lambda _, claims: by_hand(claims, "HS256", SECRET.encode()),
    "HS256 with a key that it publishes": shared_key_published,
    "RS512": lambda provider, claims: jwt.encode(claims, provider.rsa, "RS512", {"kid": "rsa"}),
    "PS256": lambda provider, claims: jwt.encode(claims, provider.rsa, "PS256", {"kid": "rsa"}),
    "RS256 with the name of the other key": lambda provider, claims: provider.rs256(claims, kid="ec"),
    "a key that is not published": lambda provider, claims: provider.rs256(claims, kid="new"),
    "a key for encryption": key_for_encryption,
    "a key that is too short": short_key,
    "another curve": another_curve,
    "which of two keys": two_keys_and_no_name,
    "a demand that is not understood": lambda provider, claims: provider.rs256(claims, crit=["exp"]),
    "no token": lambda *_: "nonsense",
    "a number": lambda *_: 7,
    "nothing": lambda *_: None,
}


@pytest.mark.parametrize("kind", BAD)
def test_a_token_that_is_not_signed_as_it_has_to_be_lets_nobody_in(
    alice: Somebody, provider: Provider, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.sign = lambda claims: BAD[kind](provider, claims)
    assert refused(provider.visit(alice.browser), alice.browser)
    provider.keys = [jwk(provider.rsa.public_key(), "rsa")]
    monkeypatch.setattr(oidc, "KEPT_FOR", -1)
    provider.sign = provider.rs256
    assert onward(provider.visit(alice.browser)) == "/"  # all else was right


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "another"},
        {"aud": [CLIENT, "another"]},
        {"aud": [CLIENT, "another"], "azp": "another"},
        {"aud": CLIENT, "azp": "another"},
        {"aud": []},
        {"aud": None},
        {"exp": 1_000_000_000},
        {"exp": None},
        {"iat": 1 << 33},
        {"iat": None},
        {"nbf": 1 << 33},
        {"nonce": "another"},
        {"nonce": None},
        {"nonce": 7},
        {"iss": "https://evil.example"},
        {"iss": None},
        {"sub": None},
    ],
    ids=str,
)
def test_a_token_for_somebody_something_or_some_time_else_lets_nobody_in(
    alice: Somebody, provider: Provider, claims: dict[str, Any]
) -> None:
    provider.claims |= claims
    assert refused(provider.visit(alice.browser), alice.browser)


def test_a_token_for_several_clients_says_which_one_asked(alice: Somebody, provider: Provider) -> None:
    provider.claims |= {"aud": [CLIENT, "another"], "azp": CLIENT}
    assert onward(provider.visit(alice.browser)) == "/"


def test_a_new_key_of_the_provider_is_found(
    alice: Somebody, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.visit(alice.browser)
    provider.rsa = rsa.generate_private_key(65537, 2048)
    provider.keys = [jwk(provider.rsa.public_key(), "next")]
    provider.sign = lambda claims: jwt.encode(claims, provider.rsa, "RS256", {"kid": "next"})
    visitor = Client()
    assert refused(provider.visit(visitor), visitor)  # it was asked for its keys just now
    monkeypatch.setattr(oidc, "KEYS_AGAIN", -1)
    assert onward(provider.visit(visitor)) == "/"


# Answers that are not for this browser, or not now


def test_an_answer_is_good_once(alice: Somebody, provider: Provider) -> None:
    provider.forgetful = True  # it takes a code as often as it is shown
    query = provider.go(alice.browser)
    cookie = alice.browser.cookies[single.COOKIE].value
    assert onward(provider.come_back(alice.browser, query)) == "/"
    thief = Client()
    thief.cookies[single.COOKIE] = cookie
    assert refused(provider.come_back(thief, query), thief)
    # The provider has given the token twice: what was refused is the second use of the visit.
    assert provider.asked.count("/token") == 2


def test_an_answer_is_good_in_the_browser_that_went_there(alice: Somebody, provider: Provider) -> None:
    query = provider.go(alice.browser)
    thief = Client()
    assert refused(provider.come_back(thief, query), thief)
    # A thief's own visit does not open it, and a victim is not signed in as the thief.
    of_thief = provider.go(thief)
    assert refused(provider.come_back(thief, {**of_thief, "state": query["state"]}), thief)
    of_thief = provider.go(thief)
    assert refused(provider.come_back(alice.browser, of_thief), alice.browser)
    assert "/token" not in provider.asked


def test_a_stolen_code_is_not_good_in_another_visit(alice: Somebody, provider: Provider) -> None:
    stolen = provider.go(alice.browser)["code"]
    thief = Client()
    assert refused(provider.come_back(thief, {**provider.go(thief), "code": stolen}), thief)


def test_a_nonce_holds_where_the_provider_looks_at_no_challenge(alice: Somebody, provider: Provider) -> None:
    stolen = provider.go(alice.browser)["code"]
    thief = Client()
    query = provider.go(thief)
    provider.codes[stolen].challenge = provider.codes[query["code"]].challenge
    assert refused(provider.come_back(thief, {**query, "code": stolen}), thief)
    assert provider.asked.count("/token") == 1


def test_an_answer_that_comes_too_late_or_changed_is_refused(
    alice: Somebody, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = provider.go(alice.browser)
    for changed in (
        {"state": ""},
        {"state": "\N{SNOWMAN}"},
        {"iss": "https://evil.example"},
        {"error": "access_denied"},
    ):
        query = provider.go(alice.browser)
        assert refused(provider.come_back(alice.browser, {**query, **changed}), alice.browser)
    query = provider.go(alice.browser)
    alice.browser.cookies[single.COOKIE] = alice.browser.cookies[single.COOKIE].value + "x"
    assert refused(provider.come_back(alice.browser, query), alice.browser)
    query = provider.go(alice.browser)
    monkeypatch.setattr(single, "AWAY_FOR", -1)
    assert refused(provider.come_back(alice.browser, query), alice.browser)
    assert "/token" not in provider.asked


@pytest.mark.parametrize("elsewhere", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:1"])
def test_it_leads_to_no_other_host(alice: Somebody, provider: Provider, elsewhere: str) -> None:
    from urllib.parse import quote

    assert onward(provider.visit(alice.browser, f"/login/provider/?next={quote(elsewhere)}")) == "/"


def test_it_leads_on_to_the_page_that_was_wanted(keeper: Keeper, provider: Provider) -> None:
    boss = somebody(keeper, "boss", role="administrator")
    provider.claims["sub"] = "boss"
    page = boss.get(boss.get("/admin/directory/host/").headers["Location"]).content.decode()
    found = re.search(r'href="(/login/provider/\?next=[^"]*)"', page)
    assert found
    assert onward(provider.visit(boss.browser, found[1])) == "/admin/directory/host/"


# Sessions that end there


def test_a_session_that_ends_there_ends_here_and_no_other_does(alice: Somebody, provider: Provider) -> None:
    sessions = [Somebody(alice.person, alice.keeper, alice.key) for _ in range(3)]
    for each, sid in zip(sessions, ("one", "two", None), strict=True):
        provider.claims["sid"] = sid
        assert onward(provider.visit(each.browser)) == "/"
    alice.sign_in()
    response = provider.end(sid="one", sub="alice")
    assert (response.status_code, response.content) == (200, b"")
    assert "no-store" in response.headers["Cache-Control"]
    assert not response.cookies
    assert [each.get("/").status_code for each in (*sessions, alice)] == [302, 200, 200, 200]
    assert not signed_in(sessions[0].browser)
    # All of hers there: not the one with password and code here.
    assert provider.end(sub="alice").status_code == 200
    assert [each.get("/").status_code for each in (*sessions, alice)] == [302, 302, 302, 200]


def test_after_it_one_signs_in_there_anew(alice: Somebody, provider: Provider) -> None:
    provider.claims["sid"] = "one"
    provider.visit(alice.browser)
    provider.end(sid="one")
    assert alice.get("/").status_code == 302
    assert onward(provider.visit(alice.browser)) == "/"
    assert alice.get("/").status_code == 200


def test_it_ends_what_is_halfway_and_what_a_code_here_has_finished(
    alice: Somebody, provider: Provider, settings: Any
) -> None:
    setting(settings, acr=())
    provider.claims["sid"] = "one"
    assert onward(provider.visit(alice.browser)) == "/login/code/"
    late = Client()
    provider.visit(late)
    alice.post("/login/code/", {"code": alice.code()})
    assert signed_in(alice.browser)
    assert late.get("/login/code/", secure=True).status_code == 200
    assert provider.end(sid="one").status_code == 200
    assert alice.get("/").status_code == 302
    assert late.get("/login/code/", secure=True).headers["Location"] == "/login/"
    assert late.post("/login/code/", {"code": alice.code()}, secure=True).headers["Location"] == "/login/"
    assert not signed_in(late)
    # A password after that is another visit.
    alice.sign_in()
    assert alice.get("/").status_code == 200


def test_a_logout_token_is_good_once_and_for_a_few_minutes(alice: Somebody, provider: Provider) -> None:
    assert provider.end(sub="alice", jti="one").status_code == 200
    provider.visit(alice.browser)
    for claims in ({"jti": "one"}, {"iat": int(time.time()) - oidc.LOGOUT_FOR - 1}):
        response = provider.end(sub="alice", **claims)
        assert (response.status_code, response.json()) == (400, {"error": "invalid_request"})
        assert alice.get("/").status_code == 200
    assert provider.end(sub="alice", exp=int(time.time()) + 60).status_code == 200
    assert alice.get("/").status_code == 302


@pytest.mark.parametrize(
    "claims",
    [
        *({"iss": "https://evil.example"}, {"iss": None}, {"aud": "another"}, {"aud": None}, {"iat": None}),
        *({"iat": 1 << 33}, {"iat": "1"}, {"exp": 1_000_000_000}, {"jti": None}, {"jti": ""}, {"jti": 7}),
        *({"nonce": "n"}, {"nonce": ""}, {"events": None}, {"events": {}}, {"events": [EVENT]}, {"events": EVENT}),
        *({"events": {EVENT: None}}, {"events": {EVENT: "yes"}}, {"events": {"other": {}}}),
        *({"sid": None, "sub": None}, {"sid": "", "sub": ""}, {"sid": 7, "sub": None}),
    ],
    ids=str,
)
def test_a_token_that_is_no_logout_token_for_this_client_ends_nothing(
    alice: Somebody, provider: Provider, claims: dict[str, Any]
) -> None:
    provider.claims["sid"] = "one"
    provider.visit(alice.browser)
    assert provider.end(**{"sid": "one", "sub": "alice", **claims}).status_code == 400
    assert alice.get("/").status_code == 200


@pytest.mark.parametrize("kind", BAD)
def test_a_logout_token_that_is_not_signed_as_it_has_to_be_ends_nothing(
    alice: Somebody, provider: Provider, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.visit(alice.browser)
    monkeypatch.setattr(oidc, "KEPT_FOR", -1)
    provider.sign = lambda claims: BAD[kind](provider, claims) or ""
    assert provider.end(sub="alice").status_code == 400
    assert alice.get("/").status_code == 200


def test_an_id_token_ends_nothing_and_a_logout_token_lets_nobody_in(alice: Somebody, provider: Provider) -> None:
    made: list[dict[str, Any]] = []
    sign = provider.sign
    provider.sign = lambda claims: made.append(claims) or sign(claims)  # type: ignore[func-returns-value]  # append returns nothing, so sign is called
    provider.visit(alice.browser)
    provider.sign = lambda _: sign(made[0])
    assert provider.end().status_code == 400
    assert alice.get("/").status_code == 200
    provider.claims |= {"nonce": None, "events": {EVENT: {}}, "jti": "one"}
    provider.sign = sign
    visitor = Client()
    assert refused(provider.visit(visitor), visitor)


def test_who_knows_the_session_s_id_brings_nothing_back(alice: Somebody, provider: Provider) -> None:
    """Notes of what has ended are in the table of sessions: nobody can send the key of one as a cookie, and end it."""
    provider.claims["sid"] = "one"
    provider.visit(alice.browser)
    assert provider.end(sid="one", jti="jti").status_code == 200
    known = {"sid": "one", "iss": provider.issuer}
    for text in ("one", "logout jti", "jti", *oidc.marks(known)):
        thief = Client()
        thief.cookies["__Host-session"] = sha256(text.encode()).hexdigest()[:40]
        thief.post("/logout/", secure=True)
    assert alice.get("/").status_code == 302
    assert provider.end(sid="one", jti="jti").status_code == 400


def test_logouts_without_end_are_turned_away_for_a_while(
    alice: Somebody, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.visit(alice.browser)
    monkeypatch.setattr(throttle.Throttle, "count", lambda *_: 7)
    assert provider.end(sub="alice").status_code == 429


# A provider that fails, or lies


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://evil.example"},
        {"issuer": None},
        {"authorization_endpoint": "http://localhost/authorization"},
        {"authorization_endpoint": "javascript:alert(1)//https://"},
        {"authorization_endpoint": None},
    ],
    ids=str,
)
def test_a_provider_that_says_something_else_of_itself_is_not_gone_to(
    alice: Somebody, provider: Provider, metadata: dict[str, Any]
) -> None:
    provider.metadata = metadata
    assert refused(alice.get("/login/provider/"), alice.browser)


@pytest.mark.parametrize(
    "metadata",
    [
        {"jwks_uri": "http://localhost/keys"},
        {"jwks_uri": None},
        {"token_endpoint": "http://localhost/token"},
        {"token_endpoint": "https://localhost:port/token"},
        {"token_endpoint": "https://localhost:1/token"},
        {"token_endpoint": ["https://localhost/token"]},
    ],
    ids=str,
)
def test_neither_tokens_nor_keys_come_from_where_they_cannot(
    alice: Somebody, provider: Provider, metadata: dict[str, Any]
) -> None:
    provider.metadata = metadata
    assert refused(provider.visit(alice.browser), alice.browser)


@pytest.mark.parametrize("status", [302, 400, 500])
def test_a_provider_that_fails_lets_nobody_in_and_passwords_still_do(
    alice: Somebody, provider: Provider, status: int
) -> None:
    query = provider.go(alice.browser)
    provider.status = status
    assert refused(provider.come_back(alice.browser, query), alice.browser)
    assert alice.sign_in().headers["Location"] == "/"
    assert signed_in(alice.browser)


def test_a_provider_that_is_not_there_holds_nobody_up(
    alice: Somebody, provider: Provider, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")  # nobody knows its certificate
    for _ in range(2):
        assert refused(alice.get("/login/provider/"), alice.browser)
    assert provider.asked == []
    calls: list[str] = []
    setting(settings, issuer="https://localhost:1")
    asked = oidc._asked

    def counted(place: str, *more: Any) -> tuple[int, bytes]:
        calls.append(place)
        return asked(place, *more)

    monkeypatch.setattr(oidc, "_asked", counted)
    for _ in range(3):
        assert refused(alice.get("/login/provider/"), alice.browser)
    assert len(calls) == 1
    assert alice.sign_in().headers["Location"] == "/"


def test_a_network_that_asks_too_often_is_held_up(
    alice: Somebody, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = provider.go(alice.browser)
    asked = len(provider.asked)
    monkeypatch.setattr(throttle.Throttle, "count", lambda *_: 7)
    assert alice.get("/login/provider/").status_code == 429
    assert provider.come_back(alice.browser, query).status_code == 429
    assert len(provider.asked) == asked


def test_an_answer_without_an_end_is_refused(alice: Somebody, provider: Provider) -> None:
    query = provider.go(alice.browser)
    provider.sign = lambda claims: provider.rs256(claims) + "x" * oidc.LIMIT
    assert refused(provider.come_back(alice.browser, query), alice.browser)


@pytest.mark.parametrize("mode", [0o604, 0o660, 0o602])
def test_a_secret_that_others_can_read_is_not_used(
    alice: Somebody, provider: Provider, settings: Any, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = settings.CONFIG.oidc.client_secret_file
    query = provider.go(alice.browser)
    os.chmod(path, mode)
    assert refused(provider.come_back(alice.browser, query), alice.browser)
    assert "can be read by others" in caplog.text
    assert "/token" not in provider.asked


def test_neither_secret_nor_code_nor_token_is_logged_or_shown(
    alice: Somebody, provider: Provider, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    tokens: list[str] = []

    def kept(claims: dict[str, Any]) -> str:
        tokens.append(provider.rs256(claims, crit=["x"]))
        return tokens[-1]

    provider.sign = kept
    query = provider.go(alice.browser)
    page = provider.come_back(alice.browser, query).content.decode()
    for secret in (SECRET, query["state"], tokens[0], tokens[0].split(".")[2]):
        assert secret not in caplog.text + page
    assert SECRET not in repr(settings.CONFIG)


def test_signing_out_ends_the_session_here_and_offers_the_providers_end(alice: Somebody, provider: Provider) -> None:
    provider.visit(alice.browser)
    place = alice.post("/logout/").headers["Location"]
    assert not signed_in(alice.browser)
    page = alice.get(place).content.decode()
    assert f'href="{provider.issuer}/end_session?client_id={CLIENT}&amp;post_logout_redirect_uri=https' in page
    provider.metadata["end_session_endpoint"] = "javascript:alert(1)"
    oidc.provider.cache_clear()
    assert "javascript" not in alice.get(place).content.decode()


# By every role, as the table of pages has it where nothing is set up


@pytest.mark.parametrize(
    ("role", "answers"),
    [
        ("nobody", [302, 403, 200]),
        *((role, [302, 403, 302]) for role in ("user", "auditor", "helpdesk", "administrator")),
    ],
)
def test_its_pages_by_every_role(keeper: Keeper, provider: Provider, role: str, answers: list[int]) -> None:
    visitor = Somebody(Person(name="visitor"), keeper)
    if role != "nobody":
        visitor = somebody(keeper, "visitor", role=role)
        visitor.sign_in()
    assert [visitor.get(path).status_code for path in PAGES] == answers
    leads = visitor.get(PAGES[0]).headers["Location"]
    assert leads.startswith(provider.issuer) if role == "nobody" else leads == "/"
    for path in PAGES:
        assert visitor.post(path).status_code == 405
        assert "no-store" in visitor.get(path).headers["Cache-Control"]
    # Coming back with nothing takes nothing away either.
    assert signed_in(visitor.browser) == (role != "nobody")


def test_the_password_of_a_person_is_as_good_as_before(alice: Somebody, provider: Provider) -> None:
    assert alice.password(PASSWORD).headers["Location"] == "/login/code/"
