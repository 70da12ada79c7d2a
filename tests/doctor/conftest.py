"""Each table runs as a whole on one suite, and on the other what depends on its sshd, its PAM or its Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.doctor import broken

if TYPE_CHECKING:
    import pytest

ONCE = {each.name for each in (*broken.PAM_ROWS, *broken.HOST_ROWS, *broken.PEOPLE_ROWS) if not each.real}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out on Debian 12 what is the same text on both, unless that is all that was asked for."""
    if config.getoption("full") or config.getoption("suite"):
        return
    left_out = []
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        each = parameters.get("each")
        if isinstance(each, broken.Broken) and parameters.get("suite") == "bookworm" and each.name in ONCE:
            left_out.append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
