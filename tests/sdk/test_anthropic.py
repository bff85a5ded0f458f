"""Anthropic's Python SDK."""

import anthropic
import pytest
from anthropic import Anthropic

HELLO = [{"role": "user", "content": "Grüße 🙂"}]
TOOLS = [{"name": "weather", "input_schema": {"type": "object", "properties": {}}}]
MODEL = {"model": "claude-sonnet-4", "max_tokens": 100}


@pytest.fixture
def client(router):
    return Anthropic(base_url=router.url, api_key=router.key, max_retries=0)


def test_every_carrier(router):
    own = {"base_url": router.url, "max_retries": 0}
    clients = {
        "x-api-key": (Anthropic(api_key=router.key, **own), "stored-anthropic-key"),
        "bearer": (Anthropic(auth_token=router.key, **own), "stored-anthropic-key"),
        "with /v1": (Anthropic(api_key=router.key, base_url=f"{router.url}/v1", max_retries=0), "stored-anthropic-key"),
        "passed through": (Anthropic(api_key="sk-ant-mine", default_headers={"X-Memory-Key": router.poor_key}, **own), "sk-ant-mine"),
        "both at once": (Anthropic(
                auth_token=router.poor_key, default_headers={"x-api-key": "sk-ant-mine"}, **own
            ), "sk-ant-mine"),
        "x-provider-key": (Anthropic(api_key=router.poor_key, default_headers={"X-Provider-Key": "sk-ant-mine"}, **own), "sk-ant-mine"),
    }
    for name, (client, paid) in clients.items():
        assert client.messages.create(messages=HELLO, **MODEL).content[0].text == "echo: Grüße 🙂 ✓", name
        headers = router.provider.last()["headers"]
        assert headers["x-api-key"] == paid, name
        assert "authorization" not in headers, name
        with client.messages.stream(messages=HELLO, **MODEL) as stream:
            assert "".join(stream.text_stream) == "echo: Grüße 🙂 ✓", name


def test_a_login_token_goes_as_bearer(router):
    client = Anthropic(base_url=router.url, auth_token="sk-ant-oat01-x", default_headers={"X-Memory-Key": router.poor_key}, max_retries=0)
    assert client.messages.create(messages=HELLO, **MODEL).id == "msg_1"
    headers = router.provider.last()["headers"]
    assert headers["authorization"] == "Bearer sk-ant-oat01-x"
    assert "x-api-key" not in headers


def test_streams_carry_event_names_and_usage(client):
    with client.messages.stream(messages=HELLO, **MODEL) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert kinds[0] == "message_start" and kinds[-1] == "message_stop"
    assert (final.usage.input_tokens, final.usage.output_tokens) == (11, 7)


def test_tool_calls(client):
    plain = client.messages.create(messages=HELLO, tools=TOOLS, **MODEL)
    assert plain.content[0].input == {"city": "Zürich"}
    with client.messages.stream(messages=HELLO, tools=TOOLS, **MODEL) as stream:
        assert stream.get_final_message().content[0].input == {"city": "Zürich"}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"}
    turn = [*HELLO, {"role": "assistant", "content": plain.content}, {"role": "user", "content": [result]}]
    assert client.messages.create(messages=turn, tools=TOOLS, **MODEL).stop_reason == "end_turn"


def test_images_and_beta_headers(router, client):
    source = {"type": "base64", "media_type": "image/png", "data": "iVBOR" * 100_000}
    parts = [{"type": "image", "source": source}, {"type": "text", "text": "what"}]
    answer = client.messages.create(
        messages=[{"role": "user", "content": parts}], extra_headers={"anthropic-beta": "one-1,two-2"}, **MODEL
    )
    assert answer.content[0].text == "echo: [image] what ✓"
    headers = router.provider.last()["headers"]
    assert headers["anthropic-beta"] == "one-1,two-2"
    assert headers["anthropic-version"] == client.default_headers["anthropic-version"]


def test_count_tokens_and_models(client):
    assert client.messages.count_tokens(model="claude-sonnet-4", messages=HELLO).input_tokens == 42
    assert any(model.id.startswith("claude") for model in client.models.list(limit=1000))


def test_errors(router, client):
    for status, kind in (
        (400, anthropic.BadRequestError),
        (401, anthropic.AuthenticationError),
        (429, anthropic.RateLimitError),
        (500, anthropic.InternalServerError),
    ):
        router.provider.failing.append((status, {"retry-after": "7"}))
        with pytest.raises(kind) as caught:
            client.messages.create(messages=HELLO, **MODEL)
        assert caught.value.response.headers["retry-after"] == "7"
        assert caught.value.body["error"]["message"] == "scripted failure"
        assert caught.value.request_id == "req_scripted"
    wrong = Anthropic(base_url=router.url, api_key="mk_wrong", max_retries=0)
    with pytest.raises(anthropic.AuthenticationError) as caught:
        wrong.messages.create(messages=HELLO, **MODEL)
    assert caught.value.request_id == caught.value.response.headers["x-mr-request-id"]
