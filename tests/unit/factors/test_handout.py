"""Pages for users."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from pam_totp.factors import handout

KEY = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
URI = f"otpauth://totp/host:alice?secret={KEY}&issuer=host"
SVG = "{http://www.w3.org/2000/svg}"


def lines(page: str) -> list[str]:
    return [each.text or "" for each in ET.fromstring(page).iter(f"{SVG}text")]


@pytest.mark.parametrize("pending", [True, False])
def test_a_page_has_the_key_as_text_and_says_when_to_destroy_it(pending: bool) -> None:
    page = handout.of_key("alice", "host", KEY, URI, pending=pending)
    assert "JBSW Y3DP EHPK 3PXP JBSW Y3DP EHPK 3PXP" in lines(page)
    said = " ".join(lines(page))
    assert said.startswith("Verification codes for alice at host")
    assert ("once your first login with a code has worked" in said) == pending
    assert len(list(ET.fromstring(page).iter(f"{SVG}path"))) == 1


def test_an_invitation_has_no_picture() -> None:
    page = handout.of_invitation("alice", "host", "abcde-fghij", "2027-01-31 18:00 UTC")
    assert "abcde-fghij" in lines(page)
    assert "before 2027-01-31 18:00 UTC." in " ".join(lines(page))
    assert list(ET.fromstring(page).iter(f"{SVG}path")) == []


@pytest.mark.parametrize("name", ["<script>&\"'", "zoë", "x" * 256, "a-b-" * 20])
def test_any_name_is_shown_as_it_is_and_stays_on_the_page(name: str) -> None:
    page = handout.of_key(name, "h" * 64, KEY, URI, pending=True)
    assert name in "".join(lines(page)).replace(" ", "")
    size = {"6": 45, "4": 72, "4.2": 40}
    for each in ET.fromstring(page).iter(f"{SVG}text"):
        assert len(each.text or "") <= size[each.attrib["font-size"]]
