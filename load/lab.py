"""What `load/compare` and `load/growth` measure with: processes, their CPU time and memory, peers, the generator.

CPU time comes from the scheduler (`/proc/PID/task/*/schedstat`), because that repeats on a noisy machine. Everything
that is started listens on 127.0.0.1 and ends with the script.
"""

import hashlib
import json
import os
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
PEERS = ROOT / "load/peers"
INSTALLED = TARGET.parent / "peers"
PINGORA = PEERS / "pingora/target/release/pingora-peer"
LITELLM = INSTALLED / "venv/bin/litellm"
PORTKEY = INSTALLED / "node_modules/@portkey-ai/gateway/build/start-server.js"
CHAT = "/v1/chat/completions"
STREAM = "/v1/chat/completions?stream=1"


def prepare():
    os.environ["PATH"] += ":/usr/sbin"
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    missing = [str(path) for path in (TARGET / "memoryrouter", example("mock"), example("generate")) if not path.exists()]
    if missing:
        sys.exit(f"missing: {', '.join(missing)} (cargo build --release --bins --examples)")


def example(name):
    return TARGET / "examples" / name


def pin(cpus):
    """For this process and all that it starts from now on."""
    os.sched_setaffinity(0, cpus)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def tree(pid):
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(process for child in children for process in tree(int(child)))]


class Process:
    """A server: its port, its time on the CPU, its memory."""

    def __init__(self, name, command, port, patience=20, **more):
        self.name, self.port, self.fields = name, port, more.pop("fields", [])
        self.token = more.pop("token", None)
        self.process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)
        self.pid = self.process.pid
        deadline = time.monotonic() + patience
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.stop()
                raise RuntimeError(f"{name} does not start")
            time.sleep(0.05)

    def cpu(self):
        """Seconds on the CPU, all threads and children."""
        total = 0
        for process in tree(self.pid):
            for thread in Path(f"/proc/{process}/task").iterdir():
                total += int((thread / "schedstat").read_text().split()[0])
        return total / 1e9

    def user_and_system(self):
        """Ticks in user space and in the kernel."""
        user = system = 0
        for process in tree(self.pid):
            fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
            user, system = user + int(fields[11]), system + int(fields[12])
        return user, system

    def rss(self):
        """Bytes of memory of its own."""
        total = 0
        for process in tree(self.pid):
            for line in Path(f"/proc/{process}/status").read_text().splitlines():
                if line.startswith("RssAnon"):
                    total += int(line.split()[1]) * 1024
        return total

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Lab:
    """A directory and the processes in it; all gone at its end."""

    def __enter__(self):
        self.directory = Path(tempfile.mkdtemp(prefix="load-"))
        self.started = []
        return self

    def __exit__(self, *_):
        for process in reversed(self.started):
            process.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def start(self, name, command, port, **more):
        process = Process(name, command, port, **more)
        self.started.append(process)
        return process

    def stop(self, *processes):
        for process in processes:
            process.stop()
            self.started.remove(process)

    def home(self, name):
        path = self.directory / f"{name}-{len(list(self.directory.iterdir()))}"
        path.mkdir()
        return path

    def mock(self, *options, name="mock"):
        port = free_port()
        return self.start(name, [example("mock"), port, *options], port)

    def router(self, mock, keys=10_000, workers=1, ca=None, name="memoryrouter", memory=False, upstream_idle=1024):
        program, home, port = TARGET / "memoryrouter", self.home(name), free_port()

        def run(*words, text=""):
            done = subprocess.run([program, *words, "--dir", home], input=text, capture_output=True, text=True, check=True)
            return done.stdout

        run("init")
        scheme = "https" if ca else "http"
        (home / "memoryrouter.toml").write_text(
            f'[server]\nlisten = ["127.0.0.1:{port}"]\nworkers = {workers}\n[admin]\nlisten = "127.0.0.1:{free_port()}"\n'
            f'[log]\naccess = false\n[memory]\nenabled = {"true" if memory else "false"}\n[limits]\nupstream_idle = {upstream_idle}\n'
            f'[providers.openai]\nbase_url = "{scheme}://127.0.0.1:{mock.port}/v1"\n' + (f'ca = "{ca}"\n' if ca else "")
        )
        run("providers", "set", "openai", text="sk-upstream")
        token = json.loads(run("keys", "create", "--json"))["token"]
        if keys > 1:
            many_keys(run, keys)
        router = self.start(name, [program, "serve", "--dir", home], port, token=token, patience=120)
        router.home, router.run = home, run
        return router

    def nginx(self, mock, threads=1, tls=False):
        home, port = self.home("nginx"), free_port()
        bound = "worker_cpu_affinity auto;" if threads > 1 else ""
        path = configured("nginx.conf", home, port, mock, threads, tls, bound)
        return self.start("nginx", ["nginx", "-p", home, "-c", path], port)

    def haproxy(self, mock, threads=1, tls=False):
        home, port = self.home("haproxy"), free_port()
        bound = f"cpu-map auto:1/1-{threads} 0-{threads - 1}" if threads > 1 else ""
        path = configured("haproxy.cfg", home, port, mock, threads, tls, bound)
        return self.start("haproxy", ["haproxy", "-f", path], port)

    def pingora(self, mock, threads=1):
        port = free_port()
        return self.start("pingora", [PINGORA, port, mock.port, threads], port)

    def litellm(self, mock):
        home, port = self.home("litellm"), free_port()
        (home / "config.yaml").write_text(
            "model_list:\n  - model_name: gpt-4o\n    litellm_params:\n      model: openai/gpt-4o\n"
            f"      api_base: http://127.0.0.1:{mock.port}/v1\n      api_key: sk-upstream\n"
        )
        command = [LITELLM, "--config", home / "config.yaml", "--host", "127.0.0.1", "--port", port]
        environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False",
                       "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}
        return self.start("litellm", command, port, patience=180, env=environment)

    def portkey(self, mock):
        port = free_port()
        fields = ["x-portkey-provider: openai", f"x-portkey-custom-host: http://127.0.0.1:{mock.port}/v1", "Authorization: Bearer sk-upstream"]
        return self.start("portkey", ["node", PORTKEY, f"--port={port}", "--headless"], port, patience=60, fields=fields)


def configured(name, home, port, mock, threads, tls, bound):
    """A peer's configuration in `home`; `bound` ties several threads to a CPU each, as the router's are."""
    text = (PEERS / name).read_text()
    for mark, value in {
        "@PORT@": port, "@MOCK@": mock.port, "@DIR@": home, "@THREADS@": threads,
        "@BOUND@": bound, "@SCHEME@": "https" if tls else "http", "@TLS@": "ssl verify none" if tls else "",
    }.items():
        text = text.replace(mark, str(value))
    path = home / name
    path.write_text(text)
    return path


def many_keys(run, count):
    """As many keys as a busy installation has: one export with copies of a record, imported."""
    exported = json.loads(run("snapshot", "export", "--plain"))
    record = exported["keys"][0]
    for number in range(count - 1):
        tokens = [{**entry, "digest": hashlib.sha256(b"%d" % number).hexdigest()} for entry in record["tokens"]]
        copy = {**record, "id": f"key_{number:016d}", "vault": f"vault_{number:016d}", "tokens": tokens}
        exported["keys"].append(copy)
    run("snapshot", "import", text=json.dumps(exported))


def generate(server, path=CHAT, attach=None, **options):
    """Runs the generator against a server; `attach` is called with the running generator."""
    words = [str(example("generate")), f"http://127.0.0.1:{server.port}{path}"]
    for name, value in options.items():
        words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    if server.token:
        words += ["--key", server.token]
    for field in server.fields:
        words += ["--field", field]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    if attach:
        attach(process)
    printed, _ = process.communicate(timeout=180)
    if process.returncode != 0:
        raise RuntimeError(f"the generator failed against {server.name}")
    return json.loads(printed)


class Figures:
    """CPU microseconds per unit of several servers, from interleaved runs."""

    def __init__(self):
        self.values, self.ticks, self.runs = ({} for _ in range(3))

    def measure(self, servers, rounds, unit=lambda run: run["requests"], **options):
        for server in servers:
            for kept in (self.values, self.ticks, self.runs):
                kept.setdefault(server.name, [])
            generate(server, **{**options, "seconds": 0.3})
        for _ in range(rounds):
            for server in servers + servers[::-1]:
                cpu, (user, system) = server.cpu(), server.user_and_system()
                run = generate(server, **options)
                cpu = server.cpu() - cpu
                after = server.user_and_system()
                if run["failures"] or not unit(run):
                    print(f"{server.name}: a run with {run['failures']} failures is thrown away", file=sys.stderr)
                    continue
                self.values[server.name].append(cpu / unit(run) * 1e6)
                self.ticks[server.name].append((after[0] - user, after[1] - system))
                self.runs[server.name].append(run)
        return self

    def user_share(self, name):
        """Of all runs together: a run alone has too few of the kernel's ticks, a hundred a second."""
        user, system = (sum(ticks) for ticks in zip(*self.ticks[name]))
        return user / max(user + system, 1)

    def median(self, name):
        return statistics.median(self.values[name]) if self.values.get(name) else None

    def show(self, name):
        values = self.values[name]
        return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})" if values else "–"

    def ratio(self, one, other):
        if not (self.values.get(one) and self.values.get(other)):
            return "–"
        return f"{self.median(one) / self.median(other):.2f}"


def syscalls(server, **options):
    """Calls into the kernel per request, counted by strace while the generator runs."""
    if not shutil.which("strace"):
        return None
    report = Path(tempfile.mkstemp(prefix="strace-")[1])
    tracers = []

    def attach(_):
        tracers.append(subprocess.Popen(["strace", "-f", "-c", "-q", "-o", report, "-p", ",".join(map(str, tree(server.pid)))]))

    run = generate(server, attach=attach, **options)
    tracers[0].send_signal(2)
    tracers[0].wait(timeout=20)
    total = re.search(r"^100\.00\s+\S+\s+\S*\s+(\d+)", report.read_text(), re.M)
    total = total or re.search(r"^100\.00\s+\S+\s+(\d+)\s", report.read_text(), re.M)
    report.unlink()
    return int(total[1]) / run["requests"] if total and run["requests"] else None


def idle_bytes(server, count=4000):
    """Memory of one connection that has served a request and waits."""
    generate(server, connections=64, seconds=0.5)
    before = server.rss()
    held = []

    def attach(_):
        time.sleep(4)
        held.append(server.rss())

    run = generate(server, attach=attach, connections=count, idle=5)
    return None if run["failures"] else (held[0] - before) / count


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def plot(path, title, unit, series, log=False):
    """An SVG of lines over concurrency: {name: [(x, y)]}. Both axes are spread by doubling; `log` the upright one too."""
    import math

    width, height, left, bottom = 640, 360, 70, 40
    points = [point for line in series.values() for point in line]
    if not points:
        return
    low_x, high_x = min(x for x, _ in points), max(x for x, _ in points)
    high_y = max(y for _, y in points) or 1
    low_y = min(y for _, y in points) if log else 0
    scale = (lambda y: math.log(max(y, 1e-9))) if log else (lambda y: y)

    def place(x, y):
        across = math.log(x / low_x) / max(math.log(high_x / low_x), 1e-9)
        up = (scale(y) - scale(low_y)) / max(scale(high_y) - scale(low_y), 1e-9)
        return left + across * (width - left - 130), height - bottom - up * (height - bottom - 40)

    colours = ["#0b6e4f", "#c1440e", "#2f4b7c", "#8a6d00", "#666666"]
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
           f'<rect width="{width}" height="{height}" fill="white"/>', f'<text x="{left}" y="22" font-size="14">{title}</text>']
    for x in sorted({x for x, _ in points}):
        at, _ = place(x, low_y or high_y)
        out.append(f'<text x="{at:.0f}" y="{height - 18}" text-anchor="middle">{x}</text>')
    steps = [low_y * (high_y / max(low_y, 1e-9)) ** (step / 4) if log else high_y * step / 4 for step in range(5)]
    for y in steps:
        _, at = place(low_x, y)
        out.append(f'<line x1="{left}" x2="{width - 130}" y1="{at:.0f}" y2="{at:.0f}" stroke="#ddd"/>')
        out.append(f'<text x="{left - 6}" y="{at + 4:.0f}" text-anchor="end">{y:,.0f}</text>')
    out.append(f'<text x="{left}" y="{height - 4}">connections; {unit}</text>')
    for colour, (name, line) in zip(colours, series.items()):
        places = [place(x, y) for x, y in line]
        out.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="' + " ".join(f"{x:.1f},{y:.1f}" for x, y in places) + '"/>')
        x, y = places[-1]
        out.append(f'<text x="{x + 6:.0f}" y="{y + 4:.0f}" fill="{colour}">{name}</text>')
    Path(path).write_text("\n".join(out) + "\n</svg>\n")
