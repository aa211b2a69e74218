"""Libraries that are left out while others are loaded."""

from __future__ import annotations

import importlib
import json
import sys

import pytest

from app.libraries import without


def test_what_is_left_out_is_not_found_meanwhile_and_is_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "quopri", raising=False)
    with without("quopri"), pytest.raises(ModuleNotFoundError, match="'quopri'"):
        importlib.import_module("quopri")
    assert importlib.import_module("quopri").decodestring(b"=41") == b"A"


def test_what_is_loaded_already_stays() -> None:
    with without("json"):
        assert importlib.import_module("json") is json
