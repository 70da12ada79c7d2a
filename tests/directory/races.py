"""Many who claim one code at the same moment."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from pam_totp.factors import otp
from tests.directory.site import NAME

if TYPE_CHECKING:
    from collections.abc import Sequence

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


def one_wins(
    site: Site, host: Host, name: str, *, hosts: Sequence[Host] = (), sites: Sequence[Site] = ()
) -> dict[str, object]:
    """Have logins of a person claim one code at once: one has it. Returns the claim.

    They are on one host, or on each of several; and ask one directory, or each of several with one database.
    """
    records = host.wait(lambda records: name in records and records[name].authenticators)
    (authenticator,) = records[name].authenticators
    step = otp.step_at(float(site.machine.run(["date", "+%s"]).stdout)) + 3
    asked = {"authenticator": authenticator.identifier, "step": step}
    at = [host, *hosts] if hosts else [host] * RACERS

    def race(where: Site) -> list[tuple[int, dict[str, bool]]]:
        racers = [{"token": each.token, "body": json.dumps({**asked, "login": os.urandom(16).hex()})} for each in at]
        command = ["/usr/bin/python3", "-I", "-c", RACE]
        answers = json.loads(where.machine.run(command, input=json.dumps(racers), timeout=120).stdout)
        assert isinstance(answers, list)
        return answers

    asking = (site, *sites)
    with ThreadPoolExecutor(len(asking)) as pool:
        said = [each for found in pool.map(race, asking) for each in found]
    assert [status for status, _ in said] == [200] * len(at) * len(asking)
    assert sum(body["claimed"] for _, body in said) == 1
    return asked
