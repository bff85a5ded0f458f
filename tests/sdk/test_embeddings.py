"""Memories found by what they mean, with a real embedding model behind a real server."""

import json
import time
import urllib.request

import pytest

from conftest import Router
from embedder import Embedder

MEMORIES = [
    "We adopted a kitten from the shelter.",
    "The quarterly budget was approved by the board.",
    "Our flight to Lisbon leaves at noon.",
    "She plays the violin in an orchestra.",
    "The dentist removed two of my teeth.",
    "It rained all weekend in the mountains.",
]
# None shares a word with the memory that answers it.
QUESTIONS = {
    "Which pets live with us?": 0,
    "How are the finances of the company?": 1,
    "When does the plane to Portugal depart?": 2,
    "Which musical instrument is my sister good at?": 3,
    "How was the weather on the hike?": 5,
}


@pytest.fixture(scope="module")
def embedder():
    return Embedder()


@pytest.fixture(scope="module")
def knowing(tmp_path_factory, embedder):
    more = f'recall_timeout = "20s"\n[memory.embeddings]\nbase_url = "{embedder.url}"\nmodel = "all-MiniLM-L6-v2"\ndeadline = "5s"\n'
    router = Router(tmp_path_factory.mktemp("knowing") / "data", memory=True, more=more)
    yield router
    router.stop()


def ask(router, path, body):
    head = {"Authorization": f"Bearer {router.key}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{router.url}/v1/memory/{path}", data=body.encode(), headers=head)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def recalled(router, question):
    messages = [{"role": "user", "content": question}]
    return [memory["content"] for memory in ask(router, "prepare", json.dumps({"messages": messages}))["memories"]]


def test_found_by_meaning(knowing, embedder):
    # An hour between them: none stands beside another.
    now = int(time.time() * 1000)
    lines = [json.dumps({"content": text, "timestamp": now - 3_600_000 * at}) for at, text in enumerate(MEMORIES)]
    assert ask(knowing, "upload", "\n".join(lines))["stats"]["stored"] == len(MEMORIES)
    for _ in range(200):
        if recalled(knowing, next(iter(QUESTIONS)))[:1] == MEMORIES[:1]:
            break
        time.sleep(0.05)
    for question, place in QUESTIONS.items():
        assert recalled(knowing, question)[:1] == [MEMORIES[place]], question
    paths = {path for path, _, _ in embedder.seen}
    models = {call["model"] for _, _, call in embedder.seen}
    assert (paths, models) == ({"/v1/embeddings"}, {"all-MiniLM-L6-v2"})
    # No key was named, so none was sent: least of all one of the router's own.
    assert {key for _, key, _ in embedder.seen} == {None}
