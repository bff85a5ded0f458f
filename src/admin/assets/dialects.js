// The three dialects as the playground speaks them: what is sent, and where the text stands in what comes back.

const enc = encodeURIComponent;

/** The text of a content: written out, or in parts. What a model only thought is none of it. */
function written(content) {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return "";
  return content.map((part) => (part?.thought ? "" : (part?.text ?? part))).filter((text) => typeof text === "string").join("");
}

/** `turns` are `{ role: "user" | "assistant", text }`, the newest last; `ends` tells an event that only a whole stream has. */
export const DIALECTS = {
  openai: {
    name: "OpenAI chat",
    path: () => "/v1/chat/completions",
    body: ({ model, system, turns, stream }) => ({
      model,
      stream,
      messages: [...(system ? [{ role: "system", content: system }] : []), ...turns.map(({ role, text }) => ({ role, content: text }))],
    }),
    delta: (event) => written(event?.choices?.[0]?.delta?.content),
    text: (answer) => written(answer?.choices?.[0]?.message?.content),
    ends: (event) => Boolean(event?.choices?.[0]?.finish_reason),
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
    delta: (event) => (event?.type === "content_block_delta" ? written([event.delta]) : ""),
    text: (answer) => written(answer?.content),
    ends: (event) => event?.type === "message_stop",
  },
  google: {
    name: "Gemini",
    path: ({ model, stream }) => `/v1beta/models/${model.split("/").map(enc).join("/")}:${stream ? "streamGenerateContent?alt=sse" : "generateContent"}`,
    body: ({ system, turns }) => ({
      ...(system ? { systemInstruction: { parts: [{ text: system }] } } : {}),
      contents: turns.map(({ role, text }) => ({ role: role === "assistant" ? "model" : "user", parts: [{ text }] })),
    }),
    delta: (event) => written(event?.candidates?.[0]?.content?.parts),
    text: (answer) => DIALECTS.google.delta(answer),
    ends: (event) => Boolean(event?.candidates?.[0]?.finishReason || event?.promptFeedback?.blockReason),
  },
};

/** What an error says: a text, a list, or an object that has it under one of the usual names. */
function said(error) {
  if (typeof error === "string") return error;
  if (error === null || typeof error !== "object") return "";
  if (Array.isArray(error)) return error.map(said).filter(Boolean).join("; ");
  const { loc, message, msg, detail, details } = error;
  const words = [message, msg, error.error, error.errors, detail, details].map(said).find(Boolean);
  // What is wrong with a request, some say with the place where it is.
  if (words) return Array.isArray(loc) ? `${loc.join(".")}: ${words}` : words;
  return Object.keys(error).length ? JSON.stringify(error) : "";
}

/** What a provider's error says, whatever its form; nothing where there is none. A good answer, `ok`, may have a message too. */
export function errorText(answer, ok) {
  if (Array.isArray(answer)) return answer.map((one) => errorText(one, ok)).find(Boolean) ?? "";
  if (answer === null || typeof answer !== "object") return "";
  const { error, errors, detail, message, hint } = answer;
  const found = [error, errors, detail, ok && typeof message !== "string" ? null : message].map(said).find(Boolean) ?? "";
  return found && hint ? `${found} – ${hint}` : found;
}
