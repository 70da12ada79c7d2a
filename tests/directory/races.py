"""Many who claim one code at the same moment."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from pam_totp.factors import otp
from tests.directory.site import NAME

if TYPE_CHECKING:
    from tests.directory.site import Host, Site

RACERS = 24
RACE = f"""
import http.client, json, ssl, sys, threading
racers = json.load(sys.stdin)
context = ssl.create_default_context(cafile="/etc/pam-totp-directory/ca.crt")
gate, answers = threading.Barrier(len(racers)), []
def race(racer):
    connection = http.client.HTTPSConnection({NAME!r}, 443, timeout=60, context=context)
    connection.connect()
    gate.wait()
    headers = {{"Authorization": "Bearer " + racer["token"], "Content-Type": "application/json"}}
    connection.request("POST", "/api/v1/claim", racer["body"], headers)
    answer = connection.getresponse()
    answers.append((answer.status, json.loads(answer.read())))
threads = [threading.Thread(target=race, args=(each,)) for each in racers]
[each.start() for each in threads]
[each.join() for each in threads]
json.dump(answers, sys.stdout)
"""


def one_wins(site: Site, host: Host, name: str, *others: Host) -> None:
    """Have logins of a person claim one code at once, on one host or on each of several: one has it."""
    records = host.wait(lambda records: name in records and records[name].authenticators)
    (authenticator,) = records[name].authenticators
    step = otp.step_at(float(site.machine.run(["date", "+%s"]).stdout)) + 3
    asked = {"authenticator": authenticator.identifier, "step": step}
    hosts = [host, *others] if others else [host] * RACERS
    racers = [{"token": each.token, "body": json.dumps({**asked, "login": os.urandom(16).hex()})} for each in hosts]
    said = site.machine.run(["/usr/bin/python3", "-I", "-c", RACE], input=json.dumps(racers), timeout=120).stdout
    answers = json.loads(said)
    assert [status for status, _ in answers] == [200] * len(hosts)
    assert sum(body["claimed"] for _, body in answers) == 1
