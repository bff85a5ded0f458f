// The built program with its demo provider and a scripted one, on ports of its own, in a directory of its own.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const PROGRAM = process.env.MEMORYROUTER ?? join(import.meta.dirname, "../../target/release/memoryrouter");
export const GOOD_PROVIDER_KEY = "sk-scripted-good-1234";
/** A model whose answers begin. */
export const NEVER_ENDS = "gpt-never-ends";

/** Answers as OpenAI does, and keeps what it was asked. `scripts` are by model what answers otherwise. */
async function scriptedProvider() {
  const received = [];
  const scripts = new Map();
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const part of request) body += part;
    received.push({ url: request.url, authorization: request.headers.authorization, body });
    const send = (status, answer) => {
      response.writeHead(status, { "content-type": "application/json" });
      response.end(JSON.stringify(answer));
    };
    if (request.headers.authorization !== `Bearer ${GOOD_PROVIDER_KEY}`) {
      send(401, { error: { message: "Incorrect API key provided", type: "invalid_request_error" } });
    } else if (request.method === "GET") {
      send(200, { object: "list", data: [{ id: "gpt-4o", object: "model" }] });
    } else {
      const asked = JSON.parse(body);
      (scripts.get(asked.model) ?? answer)(asked, response, send);
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { received, scripts, url: `http://127.0.0.1:${server.address().port}`, stop: () => server.close() };
}

function answer(asked, response, send) {
  const usage = { prompt_tokens: 21, completion_tokens: 9, total_tokens: 30 };
  const words = ["Noted: ", "you like ", "liquorice ", "<b>very</b> ", "much."];
  const base = { id: "chatcmpl-scripted", created: 1, model: asked.model };
  if (!asked.stream) {
    send(200, { ...base, object: "chat.completion", choices: [{ index: 0, message: { role: "assistant", content: words.join("") }, finish_reason: "stop" }], usage });
    return;
  }
  response.writeHead(200, { "content-type": "text/event-stream" });
  const event = (value) => response.write(`data: ${JSON.stringify({ ...base, object: "chat.completion.chunk", ...value })}\n\n`);
  for (const content of words) event({ choices: [{ index: 0, delta: { content } }] });
  if (asked.model === NEVER_ENDS) return;
  event({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] });
  if (asked.stream_options?.include_usage) event({ choices: [], usage });
  response.end("data: [DONE]\n\n");
}

async function command(directory, words) {
  const child = spawn(PROGRAM, [...words, "--dir", directory], { stdio: ["ignore", "pipe", "pipe"] });
  let printed = "";
  child.stdout.on("data", (part) => { printed += part; });
  let failed = "";
  child.stderr.on("data", (part) => { failed += part; });
  const [code] = await once(child, "close");
  if (code !== 0) throw new Error(`${words.join(" ")}: ${failed}`);
  return printed;
}

export async function startRouter() {
  const place = await mkdtemp(join(tmpdir(), "memoryrouter-browser-"));
  const directory = join(place, "data");
  const provider = await scriptedProvider();
  await command(directory, ["init"]);
  await writeFile(join(directory, "memoryrouter.toml"), [
    "[server]", 'listen = ["127.0.0.1:0"]', "[admin]", 'listen = "127.0.0.1:0"', "[demo]", "enabled = true",
    "[providers.openai]", `base_url = "${provider.url}/v1"`, "",
  ].join("\n"));
  const child = spawn(PROGRAM, ["serve", "--dir", directory], { stdio: ["ignore", "ignore", "pipe"] });
  const printed = [];
  const found = {};
  const lines = createInterface({ input: child.stderr });
  await new Promise((resolve, reject) => {
    child.on("exit", () => reject(new Error(`the router did not start:\n${printed.join("\n")}`)));
    lines.on("line", (line) => {
      printed.push(line);
      found.admin ??= /admin port on ([\w.:[\]]+\d)/.exec(line)?.[1];
      found.data ??= / listening on ([\w.:[\]]+\d)/.exec(line)?.[1];
      if (found.admin && found.data) resolve();
    });
  });
  return {
    provider,
    printed,
    url: `http://${found.data}`,
    admin: `http://${found.admin}`,
    adminToken: (await readFile(join(directory, "admin.token"), "utf8")).trim(),
    stop: async () => {
      child.removeAllListeners("exit");
      child.kill("SIGTERM");
      await Promise.race([once(child, "exit"), new Promise((resolve) => { setTimeout(resolve, 10_000); })]);
      child.kill("SIGKILL");
      provider.stop();
      await rm(place, { recursive: true, force: true });
    },
  };
}
