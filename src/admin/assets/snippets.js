// Code that works as it stands, for the router's address and a key just made.

const MODELS = { openai: "gpt-4o", anthropic: "claude-sonnet-4-5", google: "gemini-2.5-flash" };

/** [name, text] pairs: how an application uses a key. `model` is one that the key can use, where that is known. */
export function snippets(url, token, model) {
  const base = url.replace(/\/$/, "");
  const chat = model ?? MODELS.openai;
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
    model="${model ?? MODELS.anthropic}",
    max_tokens=1000,
    messages=[{"role": "user", "content": "Hello"}],
)
print(answer.content[0].text)`],
    ["Google, Python", `from google import genai

client = genai.Client(api_key="${token}", http_options={"base_url": "${base}"})
answer = client.models.generate_content(
    model="${model ?? MODELS.google}",
    contents="Hello",
)
print(answer.text)`],
  ];
}
