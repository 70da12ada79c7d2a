"""Web single sign-on on a machine: LemonLDAP::NG's portal, and two applications that know only what it tells them.

One application speaks SAML (mod_auth_mellon), the other OpenID Connect (mod_auth_openidc).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from tests.lab import browser
from tests.lab.verify import ADDRESS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.browser import Browser
    from tests.lab.machine import Machine

PACKAGES = (
    *("lemonldap-ng", "apache2", "libapache2-mod-fcgid"),
    *("libapache2-mod-auth-mellon", "libapache2-mod-auth-openidc"),
    *browser.PACKAGES,
    *("ca-certificates", "curl", "openssl"),
    # What LemonLDAP::NG only recommends or suggests, and needs for a portal with SAML, OpenID Connect and its command.
    *("libapache-session-browseable-perl", "libauthen-pam-perl", "libconvert-base32-perl", "libcookie-baker-xs-perl"),
    *("libcrypt-jwt-perl", "libcrypt-openssl-bignum-perl", "libdbi-perl", "libemail-sender-perl", "libfcgi-perl"),
    *("libgd-securityimage-perl", "libglib-perl", "libhttp-parser-xs-perl", "libimage-magick-perl"),
    *(
        "libio-string-perl",
        "libipc-run-perl",
        "liblasso-perl",
        "liblwp-protocol-https-perl",
        "libmime-tools-perl",
        "libnet-ldap-perl",
    ),
    *("libstring-random-perl", "libunicode-string-perl", "libxml-libxml-perl", "libxml-simple-perl"),
)
PORTAL = "https://auth.example.com/"
SAML = "https://saml.example.com/"
OIDC = "https://oidc.example.com/"
CONFIGURATION = "/var/lib/lemonldap-ng/conf"
CLI = "/usr/share/lemonldap-ng/bin/lemonldap-ng-cli"
BACKENDS: dict[str, dict[str, Any]] = {
    # Who comes with the portal, to try it: dwho and others, whose passwords are their names.
    "Demo": {"authentication": "Demo", "userDB": "Same"},
    # Who can log in to the machine, with the same password.
    "PAM": {"authentication": "PAM", "userDB": "Null", "pamService": "lab-sso"},
}
KEPT = "/etc/lab-sso"
ACCESS = f"{KEPT}/access.log"
NAMES = "127.0.0.2 auth.example.com\n127.0.0.3 saml.example.com oidc.example.com\n"
# An authority, a certificate for the three sites, and keys to sign with.
KEYS = r"""
set -e
mkdir -p "$1"
cd "$1"
new() { openssl req -newkey rsa:2048 -nodes "$@" 2>/dev/null; }
new -x509 -keyout ca.key -out ca.pem -days 30 -subj '/CN=Lab CA' -addext keyUsage=critical,keyCertSign,cRLSign
new -keyout site.key -out site.csr -subj /CN=auth.example.com
printf 'subjectAltName=DNS:auth.example.com,DNS:saml.example.com,DNS:oidc.example.com\n' >names
printf 'authorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n' >>names
openssl x509 -req -in site.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile names \
    -out site.pem 2>/dev/null
for name in saml oidc application; do new -x509 -keyout $name.key -out $name.pem -days 30 -subj /CN=$name; done
cp ca.pem /usr/local/share/ca-certificates/lab.crt
update-ca-certificates >/dev/null 2>&1
chown -R www-data "$1"
usermod --append --groups shadow www-data
printf '%s required pam_unix.so nodelay\n' auth account >/etc/pam.d/lab-sso
cat >>/etc/hosts
"""
METADATA = """<?xml version="1.0"?>
<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" xmlns:ds="http://www.w3.org/2000/09/xmldsig#"
  entityID="https://saml.example.com/mellon/metadata">
 <SPSSODescriptor AuthnRequestsSigned="true" WantAssertionsSigned="true"
   protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol">
  <KeyDescriptor use="signing">
   <ds:KeyInfo><ds:X509Data><ds:X509Certificate>CERTIFICATE</ds:X509Certificate></ds:X509Data></ds:KeyInfo>
  </KeyDescriptor>
  <SingleLogoutService Binding="urn:oasis:names:tc:SAML:2.0:bindings:LOGOUT"
    Location="https://saml.example.com/mellon/logout"/>
  <NameIDFormat>urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified</NameIDFormat>
  <AssertionConsumerService index="0" isDefault="true" Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST"
    Location="https://saml.example.com/mellon/postResponse"/>
 </SPSSODescriptor>
</EntityDescriptor>
"""
# How the portal tells the application that somebody has logged out. mod_auth_mellon answers 400 to what Debian 13's
# sends as SOAP, and Debian 12's has the browser go nowhere.
LOGOUT = {"bookworm": "SOAP", "trixie": "HTTP-Redirect"}
# What both servers have in common.
SERVER = """
ServerRoot /etc/apache2
PidFile /run/apache2/NAME.pid
Mutex file:/run/apache2 default
User www-data
Group www-data
ServerName lab
ErrorLog KEPT/error.log
LogFormat "%v %m %U%q %>s"
Include mods-available/mpm_event.load
Include mods-available/authn_core.load
Include mods-available/authz_core.load
Include mods-available/authz_host.load
Include mods-available/authz_user.load
Include mods-available/alias.load
Include mods-available/dir.load
Include mods-available/env.load
Include mods-available/filter.load
Include mods-available/headers.load
Include mods-available/include.load
Include mods-available/mime.load
Include mods-available/rewrite.load
Include mods-available/setenvif.load
Include mods-available/socache_shmcb.load
Include mods-available/ssl.load
TypesConfig /etc/mime.types
Listen ADDRESS:443
"""
TLS = """
SSLEngine on
SSLCertificateFile KEPT/site.pem
SSLCertificateKeyFile KEPT/site.key
"""
PORTAL_SERVER = """
Include mods-available/fcgid.load
FcgidIPCDir /run/apache2/fcgid
FcgidProcessTableFile /run/apache2/shm
Alias /javascript /usr/share/javascript
<Directory /usr/share/javascript>
 Require all granted
</Directory>
"""
APPLICATION = """
DocumentRoot /var/www/lab
<Directory /var/www/lab>
 Options +Includes
 AddOutputFilter INCLUDES .html
 Require all granted
</Directory>
"""
APPLICATIONS = """
Include mods-available/auth_mellon.load
Include mods-available/auth_openidc.load
CustomLog KEPT/access.log "%v %m %U%q %>s"
<VirtualHost *:443>
 ServerName saml.example.com
 TLS
 <Location />
  MellonEnable info
  MellonSPMetadataFile KEPT/application.xml
  MellonSPPrivateKeyFile KEPT/application.key
  MellonSPCertFile KEPT/application.pem
  MellonIdPMetadataFile KEPT/portal.xml
  MellonEndpointPath /mellon
  MellonUser uid
  MellonSecureCookie On
 </Location>
 <Location /private>
  AuthType Mellon
  MellonEnable auth
  Require valid-user
 </Location>
</VirtualHost>
<VirtualHost *:443>
 ServerName oidc.example.com
 TLS
 OIDCProviderMetadataURL https://auth.example.com/.well-known/openid-configuration
 OIDCClientID application
 OIDCClientSecret not-a-secret-in-a-lab
 OIDCRedirectURI https://oidc.example.com/redirect
 OIDCCryptoPassphrase not-a-secret-in-a-lab
 OIDCScope "openid profile email"
 OIDCRemoteUserClaim preferred_username
 OIDCCABundlePath /etc/ssl/certs/ca-certificates.crt
 <LocationMatch "^/(private|redirect)">
  AuthType openid-connect
  Require valid-user
 </LocationMatch>
</VirtualHost>
"""
PAGE = """<!DOCTYPE html>
<html lang="en"><title>KIND</title>
<style>body { font: 20px sans-serif; margin: 3em }</style>
<h1>TITLE</h1>
<p>Signed in as <b id="user"><!--#echo var="REMOTE_USER" --></b></p>
</html>
"""
START = """
set -e
mkdir -p /run/apache2
apache2 -f "$1/$2.conf" -t 2>/dev/null || apache2 -f "$1/$2.conf" -t
apache2 -f "$1/$2.conf" -k start
for _ in $(seq 300); do
    if curl --silent --fail --max-time 20 --output "$4" "$3"; then exit; fi
    sleep 0.1
done
tail -n 30 "$1/error.log" >&2
exit 1
"""
STOP = """
pid=$(cat "/run/apache2/$1.pid") || exit 0
kill "$pid"
while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
"""


@dataclass(frozen=True)
class Login:
    """How a login ended: whether a code was asked for, who the application says one is, what the portal said."""

    asked: bool
    user: str
    message: str

    @property
    def ok(self) -> bool:
        """Whether one is in."""
        return bool(self.user)


class Sso:
    """A context manager: while it is entered, the portal and the applications run.

    The portal asks for a password only, until its settings say otherwise (`pam-totp verify setup lemonldap`).
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def __enter__(self) -> Self:
        machine = self.machine
        machine.sh(KEYS, KEPT, input=NAMES)
        files = {name: machine.read(f"{KEPT}/{name}") for name in ("saml.key", "saml.pem", "oidc.key", "oidc.pem")}
        certificate = "".join(machine.read(f"{KEPT}/application.pem").splitlines()[1:-1])
        metadata = METADATA.replace("CERTIFICATE", certificate).replace("LOGOUT", LOGOUT[machine.suite])
        machine.write(f"{KEPT}/application.xml", metadata)
        self.settings(_settings(files, metadata))
        self._server("portal", "127.0.0.2", _portal(machine))
        self._server("applications", "127.0.0.3", APPLICATIONS)
        for name, title in (("saml", "An application that speaks SAML"), ("oidc", "One that speaks OpenID Connect")):
            machine.write(f"/var/www/lab/{name}.html", PAGE.replace("KIND", name).replace("TITLE", title))
        machine.sh(
            """
            cd /var/www/lab
            for name in saml oidc; do
                mkdir -p $name/private
                mv $name.html $name/private/index.html
                echo left >$name/index.html
            done
            """
        )
        self._start("portal", f"{PORTAL}saml/metadata", f"{KEPT}/portal.xml")
        self._start("applications", SAML)
        return self

    def __exit__(self, *_: object) -> None:
        for name in ("applications", "portal"):
            self.machine.sh(STOP, name, timeout=30)

    def _server(self, name: str, address: str, text: str) -> None:
        text = SERVER.replace("NAME", name).replace("ADDRESS", address) + text
        for site in ("saml", "oidc"):
            text = text.replace(" TLS\n", TLS + APPLICATION.replace("/var/www/lab", f"/var/www/lab/{site}"), 1)
        self.machine.write(f"{KEPT}/{name}.conf", text.replace("KEPT", KEPT))

    def _start(self, name: str, url: str, output: str = "/dev/null") -> None:
        self.machine.sh(START, KEPT, name, url, output, timeout=120)

    # -- the portal's settings

    def restart(self) -> None:
        """Have the portal use its newest settings. 2.16 looks every ten minutes only."""
        self.machine.sh(STOP, "portal", timeout=30)
        self._start("portal", f"{PORTAL}saml/metadata")

    def settings(self, new: dict[str, Any] | None = None) -> dict[str, Any]:
        """All settings of the portal as its command tells them, with these put in force first."""
        found: dict[str, Any] = json.loads(self.machine.run([CLI, "save"]).stdout)
        if new:
            self.machine.run([CLI, "restore", "-"], input=json.dumps({**found, **new}))
            found = json.loads(self.machine.run([CLI, "save"]).stdout)
            assert {name: found.get(name) for name in new} == new
        return found

    def protect(self, *options: str) -> None:
        """Have the portal ask the verify service for codes."""
        self.machine.run(["pam-totp", "verify", "setup", "lemonldap", "--listen", ADDRESS, "--yes", *options])
        self.restart()

    def unprotect(self) -> None:
        """Take that back."""
        self.machine.run(["pam-totp", "verify", "setup", "lemonldap", "--undo", "--yes"])
        self.restart()

    # -- people

    def assertions(self) -> int:
        """How often the portal has told an application who somebody is."""
        lines = self.machine.sh('cat "$1" 2>/dev/null || true', ACCESS).stdout.splitlines()
        return sum(line.startswith("saml.example.com POST /mellon/postResponse") or "code=" in line for line in lines)

    def log_in(
        self,
        browser: Browser,
        user: str,
        code: str | None = None,
        *,
        site: str = SAML,
        password: str = "correct horse",
        pictures: dict[str, Path] | None = None,
    ) -> Login:
        """Go to an application and log in on the way, as far as one gets; without a code one stops where it is asked.

        `pictures` may have a place for a picture of each step: "password", "code", "in".
        """
        pictures = pictures or {}
        asked = False
        browser.open(f"{site}private/")
        ends = ("#user", ".alert")
        found = browser.wait("#user", "input[name=user]")
        if found == "input[name=user]":
            browser.fill("input[name=user]", user)
            browser.fill("input[name=password]", password)
            if "password" in pictures:
                browser.picture(pictures["password"])
            browser.press("button[type=submit]")
            found = browser.wait("input[name=code]", *ends)
        if found == "input[name=code]":
            asked = True
            if "code" in pictures:
                browser.picture(pictures["code"])
            if code is None:
                return Login(asked, "", "")
            browser.fill("input[name=code]", code)
            browser.press("button[type=submit]")
            found = browser.wait(*ends)
        if found == "#user":
            if "in" in pictures:
                browser.picture(pictures["in"])
            return Login(asked, browser.text("#user"), "")
        return Login(asked, "", browser.text(ends[1]))

    def log_out(self, browser: Browser) -> None:
        """Log out at the portal, which tells the applications."""
        browser.open(f"{PORTAL}?logout=1")

    def is_in(self, browser: Browser, site: str) -> bool:
        """Whether an application knows who one is, without the portal's asking."""
        browser.open(f"{site}private/")
        return browser.wait("#user", "input[name=user]") == "#user"


def _portal(machine: Machine) -> str:
    """The portal as Debian's package has it, with TLS."""
    text = machine.read("/etc/lemonldap-ng/portal-apache2.X.conf")
    return PORTAL_SERVER + text.replace('"*:80"', '"*:443"').replace("</VirtualHost>", f"{TLS}</VirtualHost>")


def _settings(keys: dict[str, str], metadata: str) -> dict[str, Any]:
    """A portal that knows who can log in to the machine, and tells the two applications who somebody is."""
    return {
        **BACKENDS["PAM"],
        "portal": PORTAL,
        "domain": "example.com",
        "macros": {"uid": "$_user", "_whatToTrace": "lc($_user)"},
        "securedCookie": 1,
        "portalSkinBackground": "",
        "portalDisplayRegister": 0,
        "https": 1,
        "port": 443,
        "issuerDBSAMLActivation": 1,
        "samlServicePrivateKeySig": keys["saml.key"],
        "samlServicePublicKeySig": keys["saml.pem"],
        "samlServiceSignatureMethod": "RSA_SHA256",
        "samlServiceUseCertificateInResponse": 1,
        "samlSPMetaDataXML": {"application": {"samlSPMetaDataXML": metadata}},
        "samlSPMetaDataExportedAttributes": {"application": {"uid": "1;uid;;"}},
        "samlSPMetaDataOptions": {
            "application": {
                "samlSPMetaDataOptionsSignSSOMessage": 1,
                "samlSPMetaDataOptionsCheckSSOMessageSignature": 1,
                "samlSPMetaDataOptionsNameIDFormat": "unspecified",
                "samlSPMetaDataOptionsNameIDSessionKey": "uid",
                "samlSPMetaDataOptionsSignatureMethod": "RSA_SHA256",
            }
        },
        "issuerDBOpenIDConnectActivation": 1,
        "oidcServicePrivateKeySig": keys["oidc.key"],
        "oidcServicePublicKeySig": keys["oidc.pem"],
        "oidcServiceKeyIdSig": "lab",
        "oidcServiceAllowAuthorizationCodeFlow": 1,
        "oidcRPMetaDataOptions": {
            "application": {
                "oidcRPMetaDataOptionsClientID": "application",
                "oidcRPMetaDataOptionsClientSecret": "not-a-secret-in-a-lab",
                "oidcRPMetaDataOptionsRedirectUris": f"{OIDC}redirect",
                "oidcRPMetaDataOptionsPostLogoutRedirectUris": OIDC,
                "oidcRPMetaDataOptionsIDTokenSignAlg": "RS256",
                "oidcRPMetaDataOptionsBypassConsent": 1,
                "oidcRPMetaDataOptionsLogoutBypassConfirm": 1,
                "oidcRPMetaDataOptionsLogoutUrl": f"{OIDC}redirect?logout=get",
                "oidcRPMetaDataOptionsLogoutType": "front",
                "oidcRPMetaDataOptionsUserIDAttr": "uid",
            }
        },
        "oidcRPMetaDataExportedVars": {"application": {"preferred_username": "uid", "email": "mail", "name": "cn"}},
    }
