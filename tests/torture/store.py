"""What happens to the object store: it goes, and comes back."""

from __future__ import annotations

import time

from app.dev.object_store import EmbeddedStore
from tests.torture.place import Finding, Place

FILE = {"files": {"file": ("hello.txt", b"Hello")}}


def stopped(place: Place) -> Finding:
    """Stop the store: what needs a file says so, and nothing else does."""
    token = place.token(place.tenant())
    store = EmbeddedStore(place.folder / "store")
    store.start()
    configured = store.configured(place.settings)
    names = [name for name in configured.__struct_fields__ if name.startswith("s3_")]
    there = {name.upper(): getattr(configured, name) for name in names} | {"DATABASE_URL": place.postgres.dsn()}
    wrong: list[str] = []
    slowest = 0.0
    with place.service(**there) as service:
        customer = service.call("POST", "/admin/customers", token, json={"name": "Ada"}).json()["id"]
        files = f"/admin/customers/{customer}/attachments"
        attachment = service.call("POST", files, token, **FILE).json()["id"]
        needing = [("GET", f"/admin/attachments/{attachment}/content", {}), ("POST", files, FILE)]
        others = [
            ("GET", "/admin/customers", {}),
            ("POST", "/admin/customers", {"json": {"name": "Bob"}}),
            ("GET", f"/admin/customers/{customer}", {}),
            ("GET", files, {}),
            ("GET", "/health", {}),
            ("GET", "/ready", {}),
        ]
        store.stop()
        for method, path, more in needing + others:
            began = time.monotonic()
            answer = service.call(method, path, token, **more)
            slowest = max(slowest, time.monotonic() - began)
            refused = answer.status_code == 503 and "retry-after" in answer.headers
            if refused is not ((method, path, more) in needing) or not (refused or answer.is_success):
                wrong.append(f"{method} {path}: {answer.status_code}")
        again = EmbeddedStore(place.folder / "store")
        again.start()
        back = service.call("GET", f"/admin/attachments/{attachment}/content", token).content
        listed = service.call("GET", files, token).json()["total"]
        again.stop()
    return Finding(
        f"store stopped: {len(needing)} routes that need a file, {len(others)} others, slowest {slowest:.1f} s",
        f"{len(wrong)} answered otherwise {wrong or ''}; the file {'is whole' if back == b'Hello' else 'IS BROKEN'}",
        not wrong and back == b"Hello" and listed == 1,
    )
