// Code that works as it stands, for the router's address and a key just made.

/** For each SDK: what its models are called, and one of them. */
const MODELS = {
  openai: [/^(openai\/)?gpt-/, "gpt-4o"],
  anthropic: [/^(anthropic\/)?claude/, "claude-sonnet-4-5"],
  google: [/^(google\/)?gemini/, "gemini-2.5-flash"],
};

/** One that fits the SDK, else any that the key can use (the demo's speaks all dialects), else a well-known one. */
function choose(sdk, models) {
  const [pattern, usual] = MODELS[sdk];
  const fitting = models.filter((model) => pattern.test(model));
  if (fitting.some((model) => model.endsWith(usual)) || !models.length) return usual;
  return fitting[0] ?? models.find((model) => model.startsWith("demo/")) ?? usual;
}

/** [name, text] pairs: how an application uses a key. `models` are those that the key can use, where that is known. */
export function snippets(url, token, models = []) {
  const base = url.replace(/\/$/, "");
  const chat = choose("openai", models);
  return [
    ["curl", `curl -sS ${base}/v1/chat/completions \\
  -H "Authorization: Bearer ${token}" -H "Content-Type: application/json" \\
  -d '{"model": "${chat}", "messages": [{"role": "user", "content": "Hello"}]}'`],
    ["OpenAI, Python", `from openai import OpenAI

client = OpenAI(base_url="${base}/v1", api_key="${token}")
answer = client.chat.completions.create(
    model="${chat}",
    messages=[{"role": "user", "content": "Hello"}],
)
print(answer.choices[0].message.content)`],
    ["OpenAI, Node", `import OpenAI from "openai";

const client = new OpenAI({ baseURL: "${base}/v1", apiKey: "${token}" });
const answer = await client.chat.completions.create({
  model: "${chat}",
  messages: [{ role: "user", content: "Hello" }],
});
console.log(answer.choices[0].message.content);`],
    ["Anthropic, Python", `from anthropic import Anthropic

client = Anthropic(base_url="${base}", api_key="${token}")
answer = client.messages.create(
    model="${choose("anthropic", models)}",
    max_tokens=1000,
    messages=[{"role": "user", "content": "Hello"}],
)
print(answer.content[0].text)`],
    ["Google, Python", `from google import genai

client = genai.Client(api_key="${token}", http_options={"base_url": "${base}"})
answer = client.models.generate_content(
    model="${choose("google", models)}",
    contents="Hello",
)
print(answer.text)`],
  ];
}
