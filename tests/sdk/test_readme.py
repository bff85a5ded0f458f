"""The README's commands, run in its order on a fresh clone."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
# What is run: the code for the shell, but for the snippets, which have a test of their own.
BLOCKS = re.findall(r"```sh\n(.*?)```", re.sub(r"<!-- snippets -->.*<!-- /snippets -->", "", README, flags=re.DOTALL), re.DOTALL)


def commands_of(line):
    return next(block for block in BLOCKS if line in block)


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    for port in (8080, 9090):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)), f"port {port} is taken; the README's commands need it"
    place = tmp_path_factory.mktemp("clone") / "memoryrouter"
    listed = subprocess.run(["git", "ls-files", "-zco", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)
    # What has been built is not built again.
    (place / "target").symlink_to(ROOT / "target")
    return place


def test_every_command_is_known():
    expected = [
        "cargo run --release -- serve",
        "demo/echo",
        "providers set openai",
        "scripts/test",
        "/v1/memory/export",
        "memoryrouter keys create --name my-app",
        "memoryrouter usage --since",
        "scripts/replace-snapshot",
        "/admin/v1/overview",
    ]
    assert len(BLOCKS) == len(expected)
    for block, line in zip(BLOCKS, expected):
        assert line in block


def test_the_commands_work_as_they_stand(clone):
    environment = {**os.environ, "PATH": f"{ROOT / 'target/release'}:{os.environ['PATH']}"}

    def run(block):
        return subprocess.run(["sh", "-ec", block], cwd=clone, env=environment, capture_output=True, text=True, timeout=120)

    serve = subprocess.Popen(
        ["sh", "-ec", "exec " + BLOCKS[0]], cwd=clone, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        threading.Thread(target=serve.stderr.read, daemon=True).start()
        printed = ""
        for line in serve.stdout:
            printed += line
            if line.startswith("curl "):
                break
        key = re.search(r"\bmk_[0-9A-Za-z]{49}\b", printed)[0]
        curl = next(line for line in printed.splitlines() if line.startswith("curl "))
        answer = run(curl.replace("curl ", "curl -sS ", 1))
        assert answer.returncode == 0 and "Hello" in answer.stdout, answer
        assert printed.count(key) == 2, "once by itself, once in the line to try"

        remembered(run, key)

        stored = run(commands_of("providers set openai"))
        assert stored.returncode == 0, stored
        commands = run(commands_of("memoryrouter keys create --name my-app"))
        assert commands.returncode == 0, commands
        assert "my-app" in commands.stdout and "openai" in commands.stdout
        used = run(commands_of("memoryrouter usage --since"))
        assert used.returncode == 0 and "echo" in used.stdout, used
        overview = run(commands_of("/admin/v1/overview"))
        assert overview.returncode == 0 and "version" in json.loads(overview.stdout), overview
        moved = run(commands_of("scripts/replace-snapshot"))
        assert moved.returncode == 0, moved
        assert '"status": "ready"' in moved.stdout
        # The keys that were made meanwhile are in use.
        fresh = re.search(r"\bmk_[0-9A-Za-z]{49}\b", commands.stdout)[0]
        models = f'curl -sS -o /dev/null -w "%{{http_code}}" -H "x-api-key: {fresh}" http://127.0.0.1:8080/v1/models'
        for _ in range(40):
            if (status := run(models).stdout) == "200":
                break
            time.sleep(0.25)
        assert status == "200"
    finally:
        serve.send_signal(signal.SIGTERM)
        assert serve.wait(timeout=70) == 0


def remembered(run, key):
    """Told in the second line, known in the third, unknown to another key in the fourth; and the vault's own commands."""
    told = run(commands_of("demo/echo").replace("mk_your_memory_key", key))
    assert told.returncode == 0, told
    hello, fact, mine, other = (json.loads(line) for line in told.stdout.replace("}{", "}\n{").splitlines())
    assert hello["choices"][0]["message"]["content"] == "You said: Hello"
    assert fact["choices"][0]["message"]["content"].endswith("You said: My dog is called Rex")
    asked = "You said: What is my dog called?"
    said = mine["content"][0]["text"]
    assert said.startswith("I remember: ") and "My dog is called Rex" in said and said.endswith(asked), said
    assert other["content"][0]["text"] == asked

    vault = run(commands_of("/v1/memory/export").replace("mk_your_memory_key", key))
    assert vault.returncode == 0, vault
    uploaded, found, deleted, stats = (json.loads(line) for line in vault.stdout.replace("}{", "}\n{").splitlines())
    assert uploaded["stats"]["duplicates"] == uploaded["stats"]["total"] > 3
    assert "My dog is called Rex" in [memory["content"] for memory in found["memories"]]
    assert deleted["deleted"] == uploaded["stats"]["total"]
    assert stats["memories"] == 0


def test_the_second_command_is_what_it_says():
    script = ROOT / commands_of("scripts/test").strip()
    assert os.access(script, os.X_OK)
    text = script.read_text()
    for word in ("cargo test", "tests/sdk/run"):
        assert word in text


def test_the_configuration_table_names_real_keys():
    template = (ROOT / "src/config/memoryrouter.toml").read_text() + (ROOT / "src/config/demo.toml").read_text()
    table = README.split("## Configuration")[1].split("## Command line")[0]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    keys = [key for row in rows for key in re.findall(r"`([a-z_.A-Z]+)`", row)]
    assert len(keys) > 25
    for key in keys:
        section, name = key.rsplit(".", 1)
        assert f"[{section.split('.')[0]}" in template, key
        assert re.search(rf"^#? ?\[?(routing\.|memory\.)?{name}\b", template, re.MULTILINE), key
