"""The audit trail as JSON lines, the oldest first: for a log store, and to check the chain elsewhere."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from django.http import StreamingHttpResponse
from django.shortcuts import redirect, resolve_url
from django.views.decorators.http import require_safe

from pam_totp.directory import audit
from pam_totp.directory.portal import visit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.http import HttpRequest, HttpResponseBase


@require_safe
def audit_lines(request: HttpRequest) -> HttpResponseBase:
    """All of the trail, to whoever may look at it and has typed a code lately."""
    if not visit.confirmed(request):
        return redirect(f"{resolve_url('portal:confirm')}?{urlencode({'next': request.path}, safe='/')}")
    audit.note(visit.person(request).name, "audit-exported")
    response = StreamingHttpResponse(_lines(), content_type="application/x-ndjson")
    response.headers["Content-Disposition"] = 'attachment; filename="audit.jsonl"'
    return response


def _lines() -> Iterator[str]:
    for entry in audit.exported():
        yield json.dumps(entry, sort_keys=True) + "\n"
