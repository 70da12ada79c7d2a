"""OpenID Connect: what the directory asks of a provider, and what the provider's answer has to be.

The authorization code flow with state, nonce and PKCE. Everything that the provider says comes over TLS from the issuer
that the settings name, and who somebody is only from an ID token that it has signed: with RS256 or ES256 and one of its
published keys, for this client, for this visit, and not yet expired. Anything else is nobody.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import ssl
import stat
import time
from contextlib import closing
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from pam_totp.errors import PamTotpError
from pam_totp.host import clock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pam_totp.directory.config import Oidc

# What a token may be signed with, and the kind of key for it: a public key is never taken for a shared one.
KINDS = {"RS256": "RSA", "ES256": "EC"}
SHORTEST_RSA = 2048
LONGEST_NAME = 64
# Seconds that clocks may differ by.
LEEWAY = 30
# A logout token is sent at once: an older one, in seconds, is somebody else's doing.
LOGOUT_FOR = 300
_LOGOUT = "http://schemas.openid.net/event/backchannel-logout"
PATIENCE = 10.0
LIMIT = 1 << 18
KEPT_FOR = 3600.0
# After a failure nobody is kept waiting for the next one.
SILENT_FOR = 10.0
# So often at most the keys are fetched anew because a token names one that is not known.
KEYS_AGAIN = 60.0


class ProviderError(PamTotpError):
    """The provider cannot be asked, or what it says is not good. Says why, for the log."""

    reason = "oidc"


class Provider:
    """The provider that the settings name."""

    def __init__(self, settings: Oidc) -> None:
        self.settings = settings
        self._said: dict[str, tuple[float, dict[str, Any]]] = {}
        self._failed: float | None = None

    @property
    def name(self) -> str:
        """What people know it by."""
        return str(urlsplit(self.settings.issuer).hostname)

    def authorization(self, redirect: str, state: str, nonce: str, verifier: str) -> str:
        """Where a browser goes to sign in. Raises ProviderError."""
        asked = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": redirect,
            "scope": "openid" if self.settings.claim == "sub" else "openid profile email",
            "state": state,
            "nonce": nonce,
            "code_challenge": _challenge(verifier),
            "code_challenge_method": "S256",
        }
        if self.settings.acr:
            asked["acr_values"] = " ".join(self.settings.acr)
        return _with(self._address("authorization_endpoint"), asked)

    def end_of_session(self, back: str) -> str:
        """Where a browser goes to sign out; empty where the provider names no such place."""
        try:
            place = self._address("end_session_endpoint")
        except ProviderError:
            return ""
        return _with(place, {"client_id": self.settings.client_id, "post_logout_redirect_uri": back})

    def token(self, code: str, redirect: str, verifier: str) -> str:
        """The ID token that the provider gives for a code. Raises ProviderError."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect,
            "code_verifier": verifier,
        }
        own, known = {"client_id": self.settings.client_id, "client_secret": secret(self.settings)}, ""
        methods = self._metadata().get("token_endpoint_auth_methods_supported")
        if isinstance(methods, list) and "client_secret_post" in methods:
            # Not every provider decodes what the other way has to encode.
            form |= own
        else:
            known = ":".join(quote(each, safe="") for each in own.values())
        token = self._ask(self._address("token_endpoint"), form, known).get("id_token")
        if not isinstance(token, str):
            raise ProviderError("the provider gave no ID token")
        return token

    def claims(self, token: str, nonce: str) -> dict[str, Any]:
        """What an ID token says that is good here and now, for this visit. Raises ProviderError."""
        claims = self._signed(token, "sub", "exp", "nonce")
        audience, party = claims["aud"], claims.get("azp", self.settings.client_id)
        if party != self.settings.client_id or (
            isinstance(audience, list) and len(audience) > 1 and "azp" not in claims
        ):
            raise ProviderError("the token is for another client")
        if claims["nonce"] != nonce:
            raise ProviderError("the token is of another visit")
        return claims

    def ended(self, token: str) -> dict[str, Any]:
        """What a logout token says: which session has ended there, or whose sessions have. Raises ProviderError.

        It is good once, by its ``jti``, which is for the caller to see to.
        """
        claims = self._signed(token, "jti", "events")
        events = claims["events"]
        if "nonce" in claims or not isinstance(events, dict) or not isinstance(events.get(_LOGOUT), dict):
            raise ProviderError("the token is no logout token")  # but an ID token perhaps
        if not claims["jti"] or not isinstance(claims["jti"], str) or not marks(claims):
            raise ProviderError("the logout token does not say what has ended")
        if not isinstance(claims["iat"], int | float) or clock.now().wall - claims["iat"] > LOGOUT_FOR:
            raise ProviderError("the logout token is an old one")
        return claims

    def _signed(self, token: str, *required: str) -> dict[str, Any]:
        """What a token of the provider says, for this client and of now. Raises ProviderError."""
        try:
            import jwt
        except ImportError:
            raise ProviderError("python3-jwt is missing: apt install python3-jwt") from None
        try:
            header = jwt.get_unverified_header(token)
            algorithm = header.get("alg")
            if algorithm not in KINDS or "crit" in header:
                raise ProviderError("the token is not signed with RS256 or ES256")
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key(algorithm, header.get("kid")),
                algorithms=[algorithm],
                audience=self.settings.client_id,
                issuer=self.settings.issuer,
                leeway=LEEWAY,
                options={"require": ["iss", "aud", "iat", *required]},
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise ProviderError(f"the token is not good: {type(error).__name__}") from None
        return claims

    def person(self, claims: dict[str, Any]) -> str:
        """The login name in a token. Raises ProviderError."""
        name = claims.get(self.settings.claim)
        if (
            not isinstance(name, str)
            or not 0 < len(name) <= LONGEST_NAME
            or not (name.isascii() and name.isprintable())
        ):
            raise ProviderError(f"the token has no login name in the claim {self.settings.claim}")
        if self.settings.claim == "email" and claims.get("email_verified") is not True:
            raise ProviderError("the provider has not verified the address")
        return name

    @property
    def tells_second_factors(self) -> bool:
        """Whether the settings say what a token says of one; where they do not, a code is asked for here."""
        return bool(self.settings.acr or self.settings.amr)

    def second_factor(self, claims: dict[str, Any]) -> bool:
        """Whether a token says that a second factor was used, in the words of the settings."""
        methods = claims.get("amr")
        used = methods if isinstance(methods, list) else []
        return (
            self.tells_second_factors
            and (not self.settings.acr or claims.get("acr") in self.settings.acr)
            and (not self.settings.amr or any(each in self.settings.amr for each in used))
        )

    def problems(self) -> Iterator[str]:
        """What keeps people from signing in there, and what to do."""
        try:
            import jwt  # noqa: F401  # is it there?
        except ImportError:
            yield "python3-jwt is missing, and nobody can sign in at the provider: apt install python3-jwt"
        try:
            secret(self.settings)
            for name in ("authorization_endpoint", "token_endpoint"):
                self._address(name)
            self._keys(0)
        except ProviderError as error:
            yield f"nobody can sign in at {self.settings.issuer}: {error}"

    def _address(self, name: str) -> str:
        found = self._metadata().get(name)
        if not isinstance(found, str) or not found.startswith("https://") or not found.isprintable():
            raise ProviderError(f"the provider names no {name} with https://")
        return found

    def _metadata(self) -> dict[str, Any]:
        place = f"{self.settings.issuer.rstrip('/')}/.well-known/openid-configuration"
        found = self._fetched(place, KEPT_FOR)
        if found.get("issuer") != self.settings.issuer:
            raise ProviderError("the provider says that it is another issuer than oidc.issuer in directory.toml")
        return found

    def _keys(self, most: float) -> list[dict[str, Any]]:
        found = self._fetched(self._address("jwks_uri"), most).get("keys")
        return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []

    def _key(self, algorithm: str, ident: object) -> Any:
        """The provider's key that a token was signed with. Raises ProviderError, or what jwt raises for a bad one."""
        from jwt import PyJWK

        for most in (KEPT_FOR, KEYS_AGAIN):
            fitting = [each for each in self._keys(most) if _fits(each, algorithm)]
            # A token that names no key is good where there is but one.
            meant = fitting if ident is None else [each for each in fitting if each.get("kid") == ident]
            if len(meant) == 1:
                key = PyJWK(meant[0], algorithm=algorithm).key
                if algorithm == "RS256" and key.key_size < SHORTEST_RSA:
                    raise ProviderError("the provider signs with an RSA key that is too short")
                return key
        raise ProviderError("the token is signed with a key that the provider has not published")

    def _fetched(self, place: str, most: float) -> dict[str, Any]:
        now = time.monotonic()
        at, found = self._said.get(place, (None, {}))
        if at is None or now - at > most:
            found = self._ask(place)
            self._said[place] = now, found
        return found

    def _ask(self, place: str, form: dict[str, str] | None = None, known: str = "") -> dict[str, Any]:
        if self._failed is not None and time.monotonic() - self._failed < SILENT_FOR:
            raise ProviderError("the provider did not answer just now")
        try:
            status, content = _asked(place, form, known)
        except (OSError, http.client.HTTPException) as error:
            self._failed = time.monotonic()
            raise ProviderError(f"the provider cannot be asked: {type(error).__name__}: {error}") from None
        self._failed = None
        try:
            found = json.loads(content) if len(content) <= LIMIT else None
        except (ValueError, RecursionError):
            found = None
        if status != http.client.OK or not isinstance(found, dict):
            raise ProviderError(f"the provider answered with {status}, or with what is no object of JSON")
        return found


# One in each process: it keeps what the provider has published.
provider = cache(Provider)


def marks(claims: dict[str, Any]) -> list[str]:
    """What tells a session there, as ID tokens and logout tokens have it: the session's id first, if there is one."""
    named = [(name, claims.get(name)) for name in ("sid", "sub")]
    return [json.dumps([claims["iss"], name, value]) for name, value in named if isinstance(value, str) and value]


def secret(settings: Oidc) -> str:
    """The client's secret, read anew each time. Raises ProviderError where others than the directory can read it."""
    path = settings.client_secret_file
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            about = os.fstat(descriptor)
            # A group that the web process is in may read it; root owns it, or the web process itself.
            groups = {os.getegid(), 0} if about.st_mode & 0o070 else {about.st_gid}
            others = about.st_mode & 0o037 or about.st_uid not in {0, os.geteuid()} or about.st_gid not in groups
            if not stat.S_ISREG(about.st_mode) or others:
                raise ProviderError(f"{path} can be read by others: chown root:pam-totp-directory and chmod 640 it")
            content = file.read(4097)
    except OSError as error:
        raise ProviderError(f"{path}: {error.strerror}") from None
    try:
        found = content.decode("ascii").strip()
    except UnicodeDecodeError:
        found = ""
    if not found or len(content) > 4096 or not found.isprintable():
        raise ProviderError(f"{path} holds no secret: write it in one line")
    return found


def _asked(place: str, form: dict[str, str] | None, known: str) -> tuple[int, bytes]:
    """Ask over TLS, with the authorities of this system. Nothing is followed to elsewhere, and no proxy is believed."""
    parts = urlsplit(place)
    path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    headers = {"Accept": "application/json"}
    if known:
        headers["Authorization"] = f"Basic {base64.b64encode(known.encode()).decode('ascii')}"
    if form is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    try:
        host, port = str(parts.hostname), parts.port
    except ValueError:
        raise ProviderError("the provider names an address that is none") from None
    context = ssl.create_default_context()
    with closing(http.client.HTTPSConnection(host, port, timeout=PATIENCE, context=context)) as connection:
        connection.request("GET" if form is None else "POST", path, None if form is None else urlencode(form), headers)
        answer = connection.getresponse()
        return answer.status, answer.read(LIMIT + 1)


def _fits(key: dict[str, Any], algorithm: str) -> bool:
    return (
        key.get("kty") == KINDS[algorithm]
        and key.get("use", "sig") == "sig"
        and key.get("alg", algorithm) == algorithm
        and (algorithm != "ES256" or key.get("crv") == "P-256")
        and "d" not in key
    )


def _challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode("ascii")


def _with(place: str, query: dict[str, str]) -> str:
    return f"{place}{'&' if urlsplit(place).query else '?'}{urlencode(query)}"
