"""Texts with HTML in them."""

from __future__ import annotations

import pytest

from app.calendars.texts import without_html


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("Two\nlines &amp; no tag", "Two\nlines &amp; no tag"),
        ("<p>One</p><p>Two<br>Three</p>", "One\n\nTwo\nThree"),
        ("A <b>bold</b> &amp; <a href='https://example.com/?a=1&b=2'>blue</a> word", "A bold & blue word"),
        ("<ul><li>One</li><li>Two&nbsp;</li></ul>", "One\n\nTwo"),
        ("<html><head><title>x</title><style>p {}</style></head><body>Seen<!-- not --></body></html>", "Seen"),
        ("<script>alert(1)</script>&lt;b&gt;", "<b>"),
        ("<style>never closed", ""),
    ],
)
def test_what_is_read_of_html(text: str, read: str) -> None:
    assert without_html(text) == read


@pytest.mark.parametrize(
    "part", ["<", "<a ", "<a>", "<?", "<!--", "<a><![CDATA[", "</a", "<style>", "&", "&#1", "\n", "<p>"]
)
def test_any_text_is_read_in_one_pass(part: str) -> None:
    """Python's parser takes a minute for some of these."""
    without_html("<p>" + part * 1_000_000)
