"""OpenAI's Python SDK."""

import openai
import pytest
from openai import OpenAI

HELLO = [{"role": "user", "content": "Grüße 🙂"}]
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]


@pytest.fixture
def client(router):
    return OpenAI(base_url=f"{router.url}/v1", api_key=router.key, max_retries=0)


def carriers(router):
    base = f"{router.url}/v1"
    own = {"max_retries": 0, "base_url": base}
    return {
        "bearer": OpenAI(api_key=router.key, **own),
        "bearer without /v1": OpenAI(api_key=router.key, max_retries=0, base_url=router.url),
        "x-memory-key, stored": OpenAI(api_key="mk_ignored", default_headers={"X-Memory-Key": router.key}, **own),
        "x-memory-key, passed through": OpenAI(api_key="sk-mine", default_headers={"X-Memory-Key": router.poor_key}, **own),
        "x-api-key, passed through": OpenAI(api_key="sk-mine", default_headers={"x-api-key": router.poor_key}, **own),
        "x-goog-api-key": OpenAI(api_key="sk-mine", default_headers={"x-goog-api-key": router.poor_key}, **own),
        "x-provider-key": OpenAI(api_key=router.poor_key, default_headers={"X-Provider-Key": "sk-mine"}, **own),
    }


def test_every_carrier(router):
    for name, client in carriers(router).items():
        answer = client.chat.completions.create(model="gpt-4o", messages=HELLO)
        assert answer.choices[0].message.content == "echo: Grüße 🙂 ✓", name
        paid = router.provider.last()["headers"]["authorization"]
        assert paid == ("Bearer stored-openai-key" if name.startswith("bearer") or "stored" in name else "Bearer sk-mine"), name
        stream = client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "echo: Grüße 🙂 ✓", name


def test_plain_and_streamed_agree(client):
    plain = client.chat.completions.create(model="openai/gpt-4o", messages=HELLO)
    assert plain.model == "gpt-4o"
    assert plain.usage.prompt_tokens == 11
    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(model="openai/gpt-4o", messages=HELLO, stream=True, stream_options=options))
    assert chunks[-1].usage.completion_tokens == 7
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == plain.choices[0].message.content


def test_tool_calls(client):
    plain = client.chat.completions.create(model="gpt-4o", messages=HELLO, tools=TOOLS)
    call = plain.choices[0].message.tool_calls[0]
    assert (call.function.name, call.function.arguments) == ("weather", '{"city":"Zürich"}')
    stream = client.chat.completions.create(model="gpt-4o", messages=HELLO, tools=TOOLS, stream=True)
    arguments = ""
    for chunk in stream:
        for part in chunk.choices[0].delta.tool_calls or []:
            arguments += part.function.arguments or ""
    assert arguments == call.function.arguments
    turn = [*HELLO, plain.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    after = client.chat.completions.create(model="gpt-4o", messages=turn, tools=TOOLS)
    assert after.choices[0].message.content.startswith("echo: Grüße")


def test_images_in_messages(router, client):
    picture = "data:image/png;base64," + "iVBOR" * 100_000
    parts = [{"type": "text", "text": "what is it"}, {"type": "image_url", "image_url": {"url": picture}}]
    answer = client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": parts}])
    assert answer.choices[0].message.content == "echo: what is it [image_url] ✓"
    assert picture.encode() in router.provider.last()["body"]


def test_responses(client):
    plain = client.responses.create(model="gpt-4o", input="hello")
    assert plain.output_text == "echo: hello"
    stream = client.responses.create(model="gpt-4o", input="hello", stream=True)
    events = list(stream)
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == "echo: hello"
    assert events[-1].type == "response.completed"
    assert events[-1].response.usage.output_tokens == 7


def test_other_endpoints(router, client):
    vectors = client.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
    assert [list(row.embedding) for row in vectors.data] == [[0.25, -1.5, 3.0]] * 2
    assert client.moderations.create(model="omni-moderation-latest", input="x").id == "modr-1"
    assert client.images.generate(model="gpt-image-1", prompt="a cat").data[0].b64_json == "QUJD"
    assert client.audio.speech.create(model="tts-1", voice="alloy", input="hi").read() == b"\x00\xffMP3"
    heard = client.audio.transcriptions.create(model="whisper-1", file=("a.mp3", b"\x00\xff" * 5000))
    assert heard.text.startswith("heard 1")
    edited = client.images.edit(model="gpt-image-1", image=("a.png", b"\x89PNG"), prompt="more")
    assert edited.data[0].b64_json == "QUJD"
    models = client.models.list()
    assert "gpt-4o" in {model.id for model in models}


def test_the_providers_errors_arrive_as_its_own(router, client):
    for status, kind in ((400, openai.BadRequestError), (401, openai.AuthenticationError), (429, openai.RateLimitError)):
        for stream in (False, True):
            router.provider.failing.append((status, {"Retry-After": "7", "x-ratelimit-remaining-requests": "0"}))
            with pytest.raises(kind) as caught:
                client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=stream)
            assert caught.value.status_code == status
            assert caught.value.code == "scripted"
            assert caught.value.request_id == "req_scripted"
            assert caught.value.response.headers["retry-after"] == "7"
            assert caught.value.response.headers["x-ratelimit-remaining-requests"] == "0"


def test_the_routers_own_errors_are_understood(router):
    wrong = OpenAI(base_url=f"{router.url}/v1", api_key="mk_wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError) as caught:
        wrong.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert caught.value.response.json()["error"] == "Invalid or inactive memory key"
    assert caught.value.request_id == caught.value.response.headers["x-mr-request-id"]
    poor = OpenAI(base_url=f"{router.url}/v1", api_key=router.poor_key, max_retries=0)
    with pytest.raises(openai.BadRequestError) as caught:
        poor.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert caught.value.response.json()["error"] == "No API key configured for provider: openai"


def test_retries_of_the_sdk_reach_the_provider(router):
    router.provider.failing += [(429, {"retry-after-ms": "1"}), (500, {"retry-after-ms": "1"})]
    client = OpenAI(base_url=f"{router.url}/v1", api_key=router.key, max_retries=2)
    before = len(router.provider.received)
    assert client.chat.completions.create(model="gpt-4o", messages=HELLO).id == "chatcmpl-1"
    assert len(router.provider.received) == before + 3


def test_other_vendors_through_the_same_client(router, client):
    for model, path, key in (
        ("claude-sonnet-4", "/v1/chat/completions", "stored-anthropic-key"),
        ("gemini-2.0-flash", "/v1beta/openai/chat/completions", "stored-google-key"),
        ("meta-llama/llama-4", "/api/v1/chat/completions", "stored-openrouter-key"),
    ):
        answer = client.chat.completions.create(model=model, messages=HELLO)
        assert answer.model == model
        last = router.provider.last()
        assert (last["path"], last["headers"]["authorization"]) == (path, f"Bearer {key}")
