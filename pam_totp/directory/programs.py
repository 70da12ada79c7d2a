"""Programs that use the administrators' API: their tokens."""

from __future__ import annotations

import secrets
from datetime import timedelta

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from pam_totp.directory import audit
from pam_totp.directory.models import ApiToken, hash_of
from pam_totp.errors import UsageError

# It tells scanners of published files what it is.
_MARK = "pta1."


@transaction.atomic
def new_token(actor: str, name: str, scopes: list[str], days: int) -> str:
    """A new token for a program, good for some scopes until its end. Raises UsageError."""
    token = _MARK + secrets.token_urlsafe(32)
    made = ApiToken(
        name=name,
        token_hash=hash_of(token),
        scopes=sorted(set(scopes)),
        created_by=actor,
        expires=timezone.now() + timedelta(days=days),
    )
    try:
        made.full_clean()
    except ValidationError as error:
        raise UsageError(f"a token {name!r} cannot be made: {'; '.join(error.messages)}") from None
    made.save()
    audit.note(actor, "api-token-made", name, scopes=made.scopes, days=days)
    return token


@transaction.atomic
def revoke_token(actor: str, name: str) -> None:
    """End a program's token. Raises UsageError."""
    if not ApiToken.objects.filter(name=name).delete()[0]:
        raise UsageError(f"there is no program {name!r}: see pam-totp-directory token list")
    audit.note(actor, "api-token-revoked", name)
