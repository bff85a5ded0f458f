"""Holds the router's parsers against h11 and llhttp (httptools) over mutated streams.

    compare.py VERDICT COUNT [SEED]

Where the router takes a message, both others must take it too and see the same target, body and end: a router that
reads a message otherwise than what stands behind it can be made to smuggle. Refusing more is fine.
"""

import json
import random
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

import h11
import httptools

CASES = json.loads((Path(__file__).parent.parent / "data/http_cases.json").read_text())["cases"]
TOKENS = [
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b",", b";", b"0", b"5", b"f", b"+", b"-", b"0x", b"\x0b", b"\x7f", b"\x80", b"\xff",
    b"chunked", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Host: b\r\n",
    b"Connection: close\r\n", b"X-A: b\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"5\r\nabcde\r\n", b"HTTP/1.0", b"HTTP/1.1", b"GET ", b"POST ",
    b"/", b"http://gw.test/", b"%00", b"?", b"#", b"T: 1\r\n", b"1;a=b", b"\"", b"(", b"Expect: 100-continue\r\n",
]  # fmt: skip


def seeds():
    for case in CASES:
        raw = case["raw"].replace("${KEY}", "mk_x")
        if "${" not in raw:
            yield raw.encode("latin-1")
    yield b"GET /v1/models HTTP/1.1\r\nHost: gw.test\r\n\r\n"
    yield b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde"
    yield b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"
    yield b"POST /x HTTP/1.0\r\nHost: a\r\nContent-Length: 2\r\n\r\nab"


def mutate(seed, rng):
    raw = bytearray(seed)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3))):
        at = rng.randrange(len(raw) + 1)
        kind = rng.randrange(6)
        if kind == 0 and at < len(raw):
            raw[at] = rng.randrange(256)
        elif kind == 1:
            raw[at:at] = rng.choice(TOKENS)
        elif kind == 2:
            del raw[at : at + rng.randrange(1, 6)]
        elif kind == 3 and at < len(raw):
            raw[at] ^= 0x20
        elif kind == 4:
            lines = bytes(raw).split(b"\r\n")
            lines.insert(rng.randrange(len(lines)), rng.choice(lines))
            raw = bytearray(b"\r\n".join(lines))
        else:
            raw[at : at + rng.randrange(4)] = rng.choice(TOKENS)
    return bytes(raw)


def by_h11(raw):
    # One empty line before the request line is allowed (RFC 9112 section 2.2); h11 takes none.
    skipped = 2 if raw.startswith(b"\r\n") else 0
    raw = raw[skipped:]
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(raw)
    target, body = None, b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                target = bytes(event.target)
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return target, body, skipped + len(raw) - len(connection.trailing_data[0])
            else:
                return "incomplete"
    except h11.RemoteProtocolError as error:
        return f"refused: {error}"


class Seen:
    """What llhttp tells of the first message."""

    def __init__(self):
        self.target, self.body, self.done = b"", b"", False

    def on_url(self, url):
        if not self.done:
            self.target += url

    def on_body(self, body):
        if not self.done:
            self.body += body

    def on_message_complete(self):
        self.done = True


def by_llhttp(raw):
    seen = Seen()
    parser = httptools.HttpRequestParser(seen)
    # Byte by byte, so that the end of the first message is known.
    for index in range(len(raw)):
        try:
            parser.feed_data(raw[index : index + 1])
        except httptools.HttpParserUpgrade:
            # From here on it reads another protocol, which is what a router must not do.
            return "upgrade"
        except httptools.HttpParserError as error:
            return f"refused: {error}"
        if seen.done:
            return seen.target, seen.body, index + 1
    return "incomplete"


def same(ours, theirs):
    """The target in absolute form is one for us without scheme and host; the end may count an empty line before."""
    if isinstance(theirs, str):
        return False
    target, body, used = theirs
    if target.lower().startswith((b"http://", b"https://")):
        target = b"/" + target.split(b"://", 1)[1].partition(b"/")[2]
    return (target, body, used) == ours


def known(name, stream, theirs):
    """Where another parser refuses what RFC 9110 and 9112 allow, and why we take it all the same."""
    head = stream.lstrip(b"\r\n").split(b"\r\n\r\n")[0].lower()
    names = [line.split(b":")[0] for line in head.split(b"\r\n")[1:]]
    if theirs == "upgrade":
        # We ignore the offer, as a server may.
        return b"upgrade" in names
    if "ontent-Length" in theirs or "Transfer-Encoding" in theirs:
        # In a trailer, where they mean nothing: trailers are dropped.
        return b"content-length" not in names and names.count(b"transfer-encoding") == 1
    # A list of methods; we answer others with 405 ourselves.
    return name == "llhttp" and theirs in ("refused: Invalid method encountered", "refused: Expected space after method")


def main():
    verdict, count = sys.argv[1], int(sys.argv[2])
    rng = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    pool = list(seeds())
    streams = [mutate(rng.choice(pool), rng) for _ in range(count)]
    packed = b"".join(struct.pack("<I", len(stream)) + stream for stream in streams)
    lines = subprocess.run([verdict], input=packed, capture_output=True, check=True).stdout.decode("latin-1").splitlines()
    assert len(lines) == count
    tally, bugs = Counter(), []
    for stream, line in zip(streams, lines):
        words = line.split(" ")
        tally[words[0]] += 1
        # A CONNECT is refused whatever its target is, so nobody needs to agree about that.
        if words[0] != "taken" or stream.lstrip(b"\r\n").lower().startswith(b"connect "):
            continue
        target, used, body = " ".join(words[1:-2]), int(words[-2]), bytes.fromhex(words[-1])
        ours = (target.encode("latin-1"), body, used)
        for name, parse in (("h11", by_h11), ("llhttp", by_llhttp)):
            theirs = parse(stream)
            if same(ours, theirs):
                continue
            if isinstance(theirs, str) and known(name, stream, theirs):
                tally[f"{name} alone refuses"] += 1
                continue
            bugs.append((name, stream, ours, theirs))
    print(f"{count} streams:", ", ".join(f"{number} {what}" for what, number in sorted(tally.items())), f"; {len(bugs)} disagreements")
    for name, stream, ours, theirs in bugs[:20]:
        print(f"\n{name}\n  {stream!r}\n  ours   {ours}\n  theirs {theirs}")
    sys.exit(bool(bugs))


main()
