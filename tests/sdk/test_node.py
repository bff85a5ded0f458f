"""OpenAI's SDK for Node, in its own runtime."""

import os
import subprocess
from pathlib import Path


def test_the_node_sdk(router):
    here = Path(__file__).parent
    names = {"ROUTER_URL": router.url, "MEMORY_KEY": router.key, "POOR_KEY": router.poor_key, "SCRIPT_URL": router.provider.url}
    done = subprocess.run(
        ["node", "--test", "openai.test.mjs"], cwd=here, env={**os.environ, **names}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# pass 4" in done.stdout or "pass 4" in done.stdout
