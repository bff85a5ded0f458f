"""Google's Python SDK."""

import pytest
from google import genai
from google.genai import errors, types

MODEL = "gemini-2.0-flash"
WEATHER = types.Tool(function_declarations=[types.FunctionDeclaration(name="weather", description="d")])
BY_HAND = types.AutomaticFunctionCallingConfig(disable=True)


def client_of(router, key, version="v1beta", **headers):
    options = types.HttpOptions(base_url=router.url, api_version=version, headers=headers)
    return genai.Client(api_key=key, http_options=options)


@pytest.fixture
def client(router):
    return client_of(router, router.key)


def test_every_carrier(router):
    clients = {
        "x-goog-api-key": (client_of(router, router.key), "stored-google-key"),
        "on /v1": (client_of(router, router.key, "v1"), "stored-google-key"),
        "passed through": (client_of(router, "AIza-mine", **{"X-Memory-Key": router.poor_key}), "AIza-mine"),
        "x-provider-key": (client_of(router, router.poor_key, **{"X-Provider-Key": "AIza-mine"}), "AIza-mine"),
    }
    for name, (client, paid) in clients.items():
        assert client.models.generate_content(model=MODEL, contents="Grüße 🙂").text == "echo: Grüße 🙂 ✓", name
        last = router.provider.last()
        assert last["headers"]["x-goog-api-key"] == paid, name
        assert "key=" not in last["path"], name
        pieces = client.models.generate_content_stream(model=MODEL, contents="Grüße 🙂")
        assert "".join(piece.text or "" for piece in pieces) == "echo: Grüße 🙂 ✓", name


def test_usage_tools_and_images(client):
    plain = client.models.generate_content(model=MODEL, contents="hi")
    assert plain.usage_metadata.prompt_token_count == 11
    config = types.GenerateContentConfig(tools=[WEATHER], automatic_function_calling=BY_HAND)
    called = client.models.generate_content(model=MODEL, contents="hi", config=config)
    assert called.function_calls[0].args == {"city": "Zürich"}
    streamed = list(client.models.generate_content_stream(model=MODEL, contents="hi", config=config))
    assert streamed[0].function_calls[0].args == {"city": "Zürich"}
    picture = types.Part.from_bytes(data=b"\x89PNG" * 50_000, mime_type="image/png")
    assert client.models.generate_content(model=MODEL, contents=[picture, "what"]).text == "echo: [data] what ✓"


def test_other_methods(client):
    assert client.models.count_tokens(model=MODEL, contents="hi").total_tokens == 42
    vectors = client.models.embed_content(model="gemini-embedding-001", contents="hi")
    assert vectors.embeddings[0].values == [0.5]


def test_errors(router, client):
    for status in (400, 401, 429):
        router.provider.failing.append((status, {"Retry-After": "7"}))
        with pytest.raises(errors.ClientError) as caught:
            client.models.generate_content(model=MODEL, contents="hi")
        assert (caught.value.code, caught.value.message) == (status, "scripted failure")
    wrong = client_of(router, "mk_wrong")
    with pytest.raises(errors.ClientError) as caught:
        wrong.models.generate_content(model=MODEL, contents="hi")
    assert caught.value.code == 401
