"""Memory through the real SDKs: told through one, known through all."""

import json
import time
import urllib.error
import urllib.request

import pytest
from anthropic import Anthropic
from google import genai
from google.genai import types
from openai import OpenAI

FACT = "My parrot is called Figaro."
QUESTION = "What is the name of my parrot?"
MARK = "recalled_memories"


def chat(router, key, text, stream):
    client = OpenAI(base_url=f"{router.url}/v1", api_key=key, max_retries=0)
    said = client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": text}], stream=stream)
    if stream:
        return "".join(chunk.choices[0].delta.content or "" for chunk in said if chunk.choices)
    return said.choices[0].message.content


def responses(router, key, text, stream):
    client = OpenAI(base_url=f"{router.url}/v1", api_key=key, max_retries=0)
    said = client.responses.create(model="gpt-4o", input=text, stream=stream)
    if stream:
        return "".join(event.delta for event in said if event.type == "response.output_text.delta")
    return said.output_text


def messages(router, key, text, stream):
    client = Anthropic(base_url=router.url, api_key=key, max_retries=0)
    request = {"model": "claude-sonnet-4", "max_tokens": 100, "messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]}
    if stream:
        with client.messages.stream(**request) as said:
            return "".join(said.text_stream)
    return client.messages.create(**request).content[0].text


def gemini(router, key, text, stream):
    client = genai.Client(api_key=key, http_options=types.HttpOptions(base_url=router.url, api_version="v1beta"))
    if stream:
        return "".join(part.text or "" for part in client.models.generate_content_stream(model="gemini-2.0-flash", contents=text))
    return client.models.generate_content(model="gemini-2.0-flash", contents=text).text


WAYS = [chat, responses, messages, gemini]


def vault(router, key, path, method="GET"):
    request = urllib.request.Request(f"{router.url}/v1/memory/{path}", method=method, headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request) as answer:
        return answer.read().decode()


def held(router, key, count):
    """Waits for so many memories: they are stored behind the answer."""
    for _ in range(200):
        lines = [json.loads(line) for line in vault(router, key, "export").splitlines()]
        if len(lines) >= count:
            return lines
        time.sleep(0.02)
    raise AssertionError(f"{lines}")


@pytest.mark.parametrize("told", WAYS)
@pytest.mark.parametrize("stream", [False, True])
def test_told_through_one_and_known_through_all(remembering, told, stream):
    key = json.loads(remembering.command("keys", "create", "--json"))["token"]
    for _ in range(100):
        # A new key is known within two seconds.
        if known(remembering, key):
            break
        time.sleep(0.05)
    assert FACT in told(remembering, key, FACT, stream)
    kept = held(remembering, key, 2)
    assert [line["role"] for line in kept] == ["user", "assistant"]
    assert kept[0]["content"] == FACT and FACT in kept[1]["content"]
    for asked in WAYS:
        # The provider echoes what it was sent: the question, and behind it the block.
        said = asked(remembering, key, QUESTION, not stream)
        assert QUESTION in said and MARK in said and "Figaro" in said, said
    # The echo held the block, and nothing of it was stored.
    everything = [line["content"] for line in held(remembering, key, 4)]
    assert not any(MARK in text for text in everything), everything
    assert everything.count(QUESTION) == 1


def known(router, key):
    try:
        vault(router, key, "stats")
    except urllib.error.HTTPError:
        return False
    return True


def test_an_agent_gets_the_same_block_in_each_step(remembering):
    client = OpenAI(base_url=f"{remembering.url}/v1", api_key=remembering.key, max_retries=0)
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
    client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "I live in Zürich."}])
    held(remembering, remembering.key, 2)
    said = [{"role": "user", "content": "How is the weather where I live, in Zürich?"}]
    blocks = []
    for step in range(3):
        client.chat.completions.create(model="gpt-4o", messages=said, tools=tools if step == 0 else [], extra_body={"step": step})
        sent = json.loads(remembering.provider.last()["body"])
        blocks.append(sent["messages"][0]["content"])
        assert sent["messages"][1:] == said[1:]
        call = {"id": f"call_{step}", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
        said += [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"call_{step}", "content": "sunny in Zürich"},
        ]
    assert MARK in blocks[0]
    assert blocks == blocks[:1] * 3
