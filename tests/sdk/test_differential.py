"""The router's parsers against those of others, over mutated streams."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_no_disagreement_but_refusing_more():
    compare = [sys.executable, ROOT / "tests/differential/compare.py", ROOT / "target/debug/examples/verdict", "50000"]
    done = subprocess.run(compare, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 disagreements" in done.stdout
