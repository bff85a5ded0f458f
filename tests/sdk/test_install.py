"""The scripts that make a service of the router: what they put where, and how closed the unit is."""

import os
import re
import subprocess
from pathlib import Path

from conftest import PROGRAM

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "scripts/memoryrouter.service"


def script(name, root, *words):
    subprocess.run([ROOT / "scripts" / name, *words], env={**os.environ, "DESTDIR": str(root)}, check=True)


def files(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_install_and_uninstall(tmp_path):
    script("install", tmp_path, "--socket")
    key = tmp_path / "etc/memoryrouter/master.key"
    assert re.fullmatch(r"[0-9a-f]{64}\n", key.read_text())
    assert key.stat().st_mode & 0o777 == 0o600
    assert len(files(tmp_path)) == 5
    # The program takes the key, as the unit gives it: a credential that systemd keeps.
    credentials = tmp_path / "credentials"
    credentials.mkdir(mode=0o700)
    (credentials / "master.key").write_bytes(key.read_bytes())
    (credentials / "master.key").chmod(0o440)
    environment = {"CREDENTIALS_DIRECTORY": str(credentials)}
    for words in (["init"], ["init", "--if-missing"], ["check"]):
        subprocess.run([PROGRAM, *words, "--dir", tmp_path / "data"], env=environment, check=True, capture_output=True)
    assert not (tmp_path / "data/master.key").exists()
    # A second run keeps the key; leaving keeps it too, unless told otherwise.
    before = key.read_text()
    script("install", tmp_path)
    assert key.read_text() == before
    script("uninstall", tmp_path)
    assert [name for name in files(tmp_path) if not name.startswith(("data", "credentials"))] == ["etc/memoryrouter/master.key"]
    script("uninstall", tmp_path, "--purge")
    assert not key.exists()


def test_the_unit_is_closed_but_for_what_is_needed():
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", UNIT], capture_output=True, text=True, check=True
    ).stdout
    exposure = float(re.search(r"Overall exposure level for .*: ([0-9.]+)", rated)[1])
    assert exposure <= 2.0, rated
    print("exposure", exposure)


def system_calls(group):
    listed = subprocess.run(["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True).stdout
    names = set()
    for line in listed.splitlines()[1:]:
        word = line.strip()
        if word.startswith("@"):
            names |= system_calls(word)
        elif word and not word.startswith("#"):
            names.add(word)
    return names


def test_the_unit_allows_the_ring_and_forbids_the_rest():
    lines = re.findall(r"^SystemCallFilter=(.*)$", UNIT.read_text(), re.MULTILINE)
    allowed = set()
    for line in lines:
        for group in line.lstrip("~").split():
            allowed = allowed - system_calls(group) if line.startswith("~") else allowed | system_calls(group)
    needed = {"io_uring_setup", "io_uring_enter", "io_uring_register", "epoll_wait", "accept4", "prctl", "prlimit64", "sched_setaffinity"}
    assert needed <= allowed, needed - allowed
    assert not {"mount", "ptrace", "reboot", "init_module", "bpf", "chroot", "setuid"} & allowed
