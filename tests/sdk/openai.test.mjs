// OpenAI's SDK for Node, against the router that the environment names.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";

const { ROUTER_URL, MEMORY_KEY, POOR_KEY } = process.env;
const base = { baseURL: `${ROUTER_URL}/v1`, maxRetries: 0 };
const client = new OpenAI({ apiKey: MEMORY_KEY, ...base });
const messages = [{ role: "user", content: "Grüße 🙂" }];
const echo = "echo: Grüße 🙂 ✓";

test("plain and streamed, in each carrier and passed through", async () => {
  const clients = [
    client,
    new OpenAI({ apiKey: "sk-mine", defaultHeaders: { "X-Memory-Key": POOR_KEY }, ...base }),
    new OpenAI({ apiKey: POOR_KEY, defaultHeaders: { "X-Provider-Key": "sk-mine" }, ...base }),
  ];
  for (const one of clients) {
    const plain = await one.chat.completions.create({ model: "gpt-4o", messages });
    assert.equal(plain.choices[0].message.content, echo);
    const stream = await one.chat.completions.create({ model: "gpt-4o", messages, stream: true });
    let text = "";
    for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
    assert.equal(text, echo);
  }
});

test("tool calls", async () => {
  const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object", properties: {} } } }];
  const plain = await client.chat.completions.create({ model: "gpt-4o", messages, tools });
  assert.equal(plain.choices[0].message.tool_calls[0].function.arguments, '{"city":"Zürich"}');
});

test("responses, embeddings, models, images in messages", async () => {
  const response = await client.responses.create({ model: "gpt-4o", input: "hello" });
  assert.equal(response.output_text, "echo: hello");
  const kinds = [];
  for await (const event of await client.responses.create({ model: "gpt-4o", input: "hello", stream: true })) kinds.push(event.type);
  assert.equal(kinds.at(-1), "response.completed");
  const vectors = await client.embeddings.create({ model: "text-embedding-3-small", input: "a" });
  assert.deepEqual([...vectors.data[0].embedding], [0.25, -1.5, 3.0]);
  const models = await client.models.list();
  assert.ok(models.data.some((model) => model.id === "gpt-4o"));
  const content = [{ type: "text", text: "what" }, { type: "image_url", image_url: { url: "data:image/png;base64,AAAA" } }];
  const seen = await client.chat.completions.create({ model: "gpt-4o", messages: [{ role: "user", content }] });
  assert.equal(seen.choices[0].message.content, "echo: what [image_url] ✓");
});

test("errors", async () => {
  const wrong = new OpenAI({ apiKey: "mk_wrong", ...base });
  await assert.rejects(wrong.chat.completions.create({ model: "gpt-4o", messages }), (error) => {
    assert.ok(error instanceof OpenAI.AuthenticationError);
    assert.equal(error.status, 401);
    return true;
  });
  const statuses = [[400, OpenAI.BadRequestError], [401, OpenAI.AuthenticationError], [429, OpenAI.RateLimitError]];
  for (const [status, kind] of statuses) {
    await fetch(`${process.env.SCRIPT_URL}/fail/${status}`, { method: "PUT" });
    await assert.rejects(client.chat.completions.create({ model: "gpt-4o", messages }), (error) => {
      assert.ok(error instanceof kind);
      assert.equal(error.headers.get("retry-after"), "7");
      assert.equal(error.requestID, "req_scripted");
      return true;
    });
  }
});
