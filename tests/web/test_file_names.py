"""How a file's name is made safe."""

from __future__ import annotations

import pytest

from app.web.file_names import as_attachment, safe_name


def test_a_name_keeps_its_extension_and_255_characters() -> None:
    assert safe_name("ä" * 300 + ".tar") == "ä" * 251 + ".tar"
    assert safe_name("." + "x" * 300) == "." + "x" * 254
    assert safe_name("a." + "x" * 300) == "a." + "x" * 253


@pytest.mark.parametrize("sent", ["", "/", "..", ". .", "\0", "\u202e", "a/", "   ", "\u200b", "\u3000\u3164."])
def test_a_name_of_nothing_is_file(sent: str) -> None:
    assert safe_name(sent) == "file"


def test_a_name_is_composed_and_trimmed() -> None:
    assert safe_name(" \u3000Mu\u0308ller.pdf\xa0") == "Müller.pdf"


def test_a_header_has_a_plain_name_and_the_whole_one() -> None:
    assert as_attachment('naïve "50%".pdf') == (
        "attachment; filename=\"na_ve _50__.pdf\"; filename*=UTF-8''na%C3%AFve%20%2250%25%22.pdf"
    )
