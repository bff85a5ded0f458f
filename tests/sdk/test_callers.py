"""How well-known programs call, byte for byte as they do it; and the snippets that users copy."""

import http.client
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard

README = Path(__file__).parents[2] / "README.md"
CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}


def post(router, path, body, headers):
    connection = http.client.HTTPConnection(router.url.removeprefix("http://"), timeout=20)
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", path, raw, {"Content-Type": "application/json", **headers})
    response = connection.getresponse()
    return response.status, response.headers, response.read()


def test_claude_code(router):
    headers = {"Authorization": f"Bearer {router.key}", "anthropic-version": "2023-06-01"}
    headers |= {"anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14", "x-claude-code-session-id": "s-1"}
    body = {"model": "claude-sonnet-4", "max_tokens": 9, "stream": True, "system": [{"type": "text", "text": "x"}]}
    body["messages"] = [{"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]}]
    status, _, answer = post(router, "/v1/messages?beta=true", body, headers)
    assert status == 200 and b"event: message_stop" in answer
    last = router.provider.last()
    assert last["path"] == "/v1/messages?beta=true"
    assert last["headers"]["anthropic-beta"] == headers["anthropic-beta"]
    assert last["body"] == json.dumps(body).encode()
    connection = http.client.HTTPConnection(router.url.removeprefix("http://"), timeout=3)
    connection.request("GET", "/v1/models?limit=1000", headers=headers)
    response = connection.getresponse()
    assert response.status == 200 and json.load(response)["data"]


def test_codex(router):
    body = {"model": "gpt-5", "stream": True, "store": False, "input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}]}
    packed = zstandard.ZstdCompressor().compress(json.dumps(body).encode())
    headers = {"Authorization": f"Bearer {router.key}", "Content-Encoding": "zstd", "Accept": "text/event-stream"}
    status, _, answer = post(router, "/v1/responses", packed, headers)
    assert status == 200 and b"event: response.completed" in answer
    last = router.provider.last()
    assert last["body"] == json.dumps(body).encode()
    assert "content-encoding" not in last["headers"]


def test_cursor(router):
    """A Responses-shaped body on the chat endpoint."""
    body = {"model": "gpt-4o", "input": [{"role": "user", "content": "hi"}], "stream": False}
    status, _, answer = post(router, "/v1/chat/completions", body, {"Authorization": f"Bearer {router.key}"})
    assert (status, json.loads(answer)["echo"]) == (200, body["input"])


def snippets():
    """The code blocks of the README that an application's author copies."""
    text = README.read_text()
    section = text.split("<!-- snippets -->")[1].split("<!-- /snippets -->")[0]
    return re.findall(r"```(python|sh)\n(.*?)```", section, re.DOTALL)


def test_there_are_four_snippets():
    assert [language for language, _ in snippets()] == ["python", "python", "sh", "sh"]


@pytest.mark.parametrize("number", range(4))
def test_a_snippet_runs_as_it_stands(router, number, tmp_path):
    language, code = snippets()[number]
    # What a reader fills in: where the router is, and the two keys.
    code = code.replace("http://127.0.0.1:8080", router.url)
    code = code.replace("sk-your-provider-key", "sk-mine")
    code = re.sub(r"mk_your_memory_key", router.key, code)
    command = [sys.executable, "-c", code] if language == "python" else ["sh", "-ec", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "echo: " in done.stdout
    passes_through = "sk-mine" in code
    sent = router.provider.last()["headers"]
    credential = sent.get("authorization", sent.get("x-api-key"))
    assert credential.endswith("sk-mine" if passes_through else "-key")
