"""Enrols many users at once, with the package's own parts; runs inside a machine as root.

Usage: fill.py COUNT UID. The users are user0000001 and so on, with uids from UID on; NSS need not know them. The cache
must be empty. A line "NAME HEXADECIMAL BASE32" for each goes to standard output.

One by one they would cost two durable writes each; here it is one transaction for all, of the same sealed values.
"""

import sys
import time
from base64 import b32encode

from pam_totp.cache import accounts, roster, store
from pam_totp.cache.ledger import Ledger
from pam_totp.factors import enroll
from pam_totp.host.paths import Paths


def main(count: int, uid: int) -> None:
    """Enrol `count` users. Raises CacheError or HostKeyError."""
    now = int(time.time())
    buckets: list[dict[str, str]] = [{} for _ in range(store.BUCKETS)]
    with accounts.Accounts(Paths()) as kept:
        rows, sealer = kept._store, kept.sealer
        rows.execute("PRAGMA cache_size = -1000000")  # KiB: everything stays in memory until it is committed
        with rows.transaction():
            for number in range(count):
                authenticator = enroll.fresh("phone", now)
                authenticator.state = accounts.ACTIVE
                account = accounts.Account(f"user{number + 1:07}", uid + number, [authenticator], Ledger())
                rows.put_account(account.name, account.uid, kept._next_ledger(account))
                rows.put_authenticator(account.name, kept._sealed_row(account, authenticator))
                entry = " ".join(map(str, accounts._entry(account)))
                for key, value in ((f"n:{account.name}", entry), (f"u:{account.uid}", account.name)):
                    buckets[roster.bucket_of(key)][key] = value
                secret = authenticator.secret
                print(account.name, secret.hex(), b32encode(secret).decode("ascii"))
            for number, entries in enumerate(buckets):
                rows.put_bucket(number, roster.sealed(sealer, number, entries))


main(*map(int, sys.argv[1:]))
