// The three dialects as the playground speaks them: what is sent, and where the text stands in what comes back.

const enc = encodeURIComponent;

/** `turns` are `{ role: "user" | "assistant", text }`, the newest last. */
export const DIALECTS = {
  openai: {
    name: "OpenAI chat",
    path: () => "/v1/chat/completions",
    body: ({ model, system, turns, stream }) => ({
      model,
      stream,
      messages: [...(system ? [{ role: "system", content: system }] : []), ...turns.map(({ role, text }) => ({ role, content: text }))],
    }),
    delta: (event) => event.choices?.[0]?.delta?.content ?? "",
    text: (answer) => answer.choices?.[0]?.message?.content ?? "",
  },
  anthropic: {
    name: "Anthropic messages",
    path: () => "/v1/messages",
    body: ({ model, system, turns, stream }) => ({
      model,
      stream,
      max_tokens: 4096,
      ...(system ? { system } : {}),
      messages: turns.map(({ role, text }) => ({ role, content: text })),
    }),
    headers: { "anthropic-version": "2023-06-01" },
    delta: (event) => (event.type === "content_block_delta" ? (event.delta?.text ?? "") : ""),
    text: (answer) => (answer.content ?? []).map((part) => part.text ?? "").join(""),
  },
  google: {
    name: "Gemini",
    path: ({ model, stream }) => `/v1beta/models/${model.split("/").map(enc).join("/")}:${stream ? "streamGenerateContent?alt=sse" : "generateContent"}`,
    body: ({ system, turns }) => ({
      ...(system ? { systemInstruction: { parts: [{ text: system }] } } : {}),
      contents: turns.map(({ role, text }) => ({ role: role === "assistant" ? "model" : "user", parts: [{ text }] })),
    }),
    delta: (event) => (event.candidates?.[0]?.content?.parts ?? []).map((part) => (part.thought ? "" : (part.text ?? ""))).join(""),
    text: (answer) => DIALECTS.google.delta(answer),
  },
};

/** What a provider's error says, whatever its form; none where there is none. */
export function errorText(answer) {
  const { error, hint } = answer ?? {};
  if (!error) return "";
  const said = typeof error === "string" ? error : (error.message ?? JSON.stringify(error));
  return hint ? `${said} – ${hint}` : said;
}
