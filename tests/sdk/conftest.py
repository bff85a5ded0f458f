"""One router from the built program, in front of the scripted provider, for all tests."""

import json
import os
import re
import subprocess
import threading
from pathlib import Path

import pytest

from provider import Provider

PROGRAM = os.environ.get("MEMORYROUTER", str(Path(__file__).parents[2] / "target/debug/memoryrouter"))


class Router:
    """The running program, its memory key and its provider."""

    def __init__(self, directory, memory=False, more=""):
        self.directory = directory
        self.provider = Provider()
        self.command("init")
        names = {"openai": "/v1", "anthropic": "", "google": "", "openrouter": "/api/v1"}
        lines = [f'[providers.{name}]\nbase_url = "{self.provider.url}{path}"' for name, path in names.items()]
        settings = '[server]\nlisten = ["127.0.0.1:0"]\n[admin]\nlisten = "127.0.0.1:0"\n'
        # What the provider is told is to be what the test said, but where memory itself is tested.
        settings += f"[memory]\nenabled = {str(memory).lower()}\n{more}"
        (directory / "memoryrouter.toml").write_text(settings + "\n".join(lines))
        for name in names:
            self.command("providers", "set", name, text=f"stored-{name}-key")
        self.key = json.loads(self.command("keys", "create", "--json"))["token"]
        # Of an account without any provider key: what it pays with comes with the request.
        self.poor_key = json.loads(self.command("keys", "create", "--account", "poor", "--json"))["token"]
        self.process = subprocess.Popen([PROGRAM, "serve", "--dir", directory], stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if found := re.search(r"listening on (\S+)", line):
                self.url = f"http://{found[1]}"
                break
        else:
            raise RuntimeError("the router did not start")
        # The pipe is read on, so that the router never waits for it.
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def command(self, *words, text=""):
        line = [PROGRAM, *words, "--dir", self.directory]
        return subprocess.run(line, input=text, capture_output=True, text=True, check=True).stdout

    def stop(self):
        self.process.terminate()
        assert self.process.wait(timeout=30) == 0


@pytest.fixture(scope="session")
def router(tmp_path_factory):
    router = Router(tmp_path_factory.mktemp("router") / "data")
    yield router
    router.stop()


@pytest.fixture(scope="session")
def remembering(tmp_path_factory):
    """A router of its own, with memory."""
    router = Router(tmp_path_factory.mktemp("remembering") / "data", memory=True)
    yield router
    assert not any(b"mk_" in repr(request).encode() for request in router.provider.received)
    router.stop()


@pytest.fixture(autouse=True)
def no_memory_key_leaves(router):
    """Whatever a test does: nothing that goes to the provider holds a memory key."""
    before = len(router.provider.received)
    yield
    for request in router.provider.received[before:]:
        assert b"mk_" not in repr(request).encode()
    assert not router.provider.failing, "a scripted failure was not asked for"
