"""The audit trail as JSON lines, the oldest first: for a log store, and to check the chain elsewhere."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from asgiref.sync import sync_to_async
from django.http import StreamingHttpResponse
from django.shortcuts import redirect, resolve_url
from django.views.decorators.http import require_safe

from pam_totp.directory import audit
from pam_totp.directory.portal import visit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from django.http import HttpRequest, HttpResponseBase

# Entries that are read at once: what is held of a trail of any length.
PART = 500


@require_safe
def audit_lines(request: HttpRequest) -> HttpResponseBase:
    """All of the trail, to whoever may look at it and has typed a code lately."""
    if not visit.confirmed(request):
        return redirect(f"{resolve_url('portal:confirm')}?{urlencode({'next': request.path}, safe='/')}")
    audit.note(visit.person(request).name, "audit-exported")
    response = StreamingHttpResponse(_lines(), content_type="application/x-ndjson")
    response.headers["Content-Disposition"] = 'attachment; filename="audit.jsonl"'
    return response


async def _lines() -> AsyncIterator[str]:
    """Parts of the trail. The application would read all of what is not asynchronous before it sends any of it.

    Each is a query of its own: neither the database nor a thread waits for a reader who is slow.
    """
    last: int | None = 0
    while last is not None:
        text, last = await sync_to_async(_part)(last)
        yield text


def _part(since: int) -> tuple[str, int | None]:
    """Some lines after an entry, and up to which one; None: that was all."""
    entries = list(audit.exported(since, PART))
    text = "".join(json.dumps(entry, sort_keys=True) + "\n" for entry in entries)
    return text, entries[-1]["id"] if len(entries) == PART else None
