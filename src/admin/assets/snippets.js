// Code that works as it stands, for the router's address and a key just made.

/** For each SDK: what its models are called, and one of them. */
const MODELS = {
  openai: [/^(openai\/)?(gpt-|chatgpt-|o\d)/, "gpt-4o"],
  anthropic: [/^(anthropic\/)?claude/, "claude-sonnet-4-5"],
  google: [/^(google\/)?gemini/, "gemini-2.5-flash"],
};
/** Models that hold no conversation. */
const SILENT = /embed|whisper|tts|moderation|image|audio|realtime|dall-e/;

/**
 * A model that the SDK can use with this key, or null. Its own kind comes first; the demo's speaks all dialects, and each
 * provider OpenAI's. A well-known one where nothing is known of the key.
 */
function choose(sdk, models) {
  if (!models.length) return MODELS[sdk][1];
  const talking = models.filter((model) => !SILENT.test(model));
  const of = ([pattern, usual]) => {
    const fitting = talking.filter((model) => pattern.test(model));
    return fitting.find((model) => model.endsWith(usual)) ?? fitting[0];
  };
  const demo = talking.find((model) => model.startsWith("demo/"));
  if (sdk !== "openai") return of(MODELS[sdk]) ?? demo ?? null;
  return Object.values(MODELS).map(of).find(Boolean) ?? demo ?? talking[0] ?? null;
}

/** [name, text] pairs: how an application uses a key, with each SDK that it can use. `models` are the key's, where they are known. */
export function snippets(url, token, models = []) {
  const base = url.replace(/\/$/, "");
  const chosen = { openai: choose("openai", models), anthropic: choose("anthropic", models), google: choose("google", models) };
  const usable = all(base, token, chosen).filter(([, sdk]) => chosen[sdk]);
  // A key that can hold no conversation at all is shown how one would look.
  return (usable.length ? usable : all(base, token, { openai: MODELS.openai[1] }).filter(([, sdk]) => sdk === "openai")).map(([name, , text]) => [name, text]);
}

/** [name, SDK, text] of each. */
function all(base, token, { openai, anthropic, google }) {
  return [
    ["curl", "openai", `curl -sS ${base}/v1/chat/completions \\
  -H "Authorization: Bearer ${token}" -H "Content-Type: application/json" \\
  -d '{"model": "${openai}", "messages": [{"role": "user", "content": "Hello"}]}'`],
    ["OpenAI, Python", "openai", `from openai import OpenAI

client = OpenAI(base_url="${base}/v1", api_key="${token}")
answer = client.chat.completions.create(
    model="${openai}",
    messages=[{"role": "user", "content": "Hello"}],
)
print(answer.choices[0].message.content)`],
    ["OpenAI, Node", "openai", `import OpenAI from "openai";

const client = new OpenAI({ baseURL: "${base}/v1", apiKey: "${token}" });
const answer = await client.chat.completions.create({
  model: "${openai}",
  messages: [{ role: "user", content: "Hello" }],
});
console.log(answer.choices[0].message.content);`],
    ["Anthropic, Python", "anthropic", `from anthropic import Anthropic

client = Anthropic(base_url="${base}", api_key="${token}")
answer = client.messages.create(
    model="${anthropic}",
    max_tokens=1000,
    messages=[{"role": "user", "content": "Hello"}],
)
print(answer.content[0].text)`],
    ["Google, Python", "google", `from google import genai

client = genai.Client(api_key="${token}", http_options={"base_url": "${base}"})
answer = client.models.generate_content(
    model="${google}",
    contents="Hello",
)
print(answer.text)`],
  ];
}
