// The admin API: one function that asks, one kind of error that says what went wrong in the router's own words.

const BASE = "/admin/v1";
let csrf = null;

/** What the API refused, or that it could not be reached. */
export class ApiError extends Error {
  constructor(status, message, hint) {
    super(message);
    this.status = status;
    this.hint = hint ?? "";
  }
}

/** Called when a session has ended. */
export const session = { onEnd: () => {} };

function headers(method, body) {
  const all = {};
  if (csrf && method !== "GET") all["X-CSRF"] = csrf;
  if (body !== undefined) all["Content-Type"] = typeof body === "string" || body instanceof Blob ? "application/x-ndjson" : "application/json";
  return all;
}

/** The bare answer; throws where the router cannot be reached or the session is over. */
export async function ask(method, path, options = {}) {
  const sent = csrf;
  const answer = await send(method, path, options);
  // Another tab may have logged in anew: its session is this one's too, and has a word of its own.
  if (answer.status !== 403 || method === "GET" || !own(path, answer)) return answer;
  await currentSession();
  return csrf === sent ? answer : send(method, path, options);
}

/** Whether an answer is the router's own, and not one that the playground passes on. */
function own(path, answer) {
  return path !== "/playground" || answer.headers.get("x-mr-playground") === "refused";
}

async function send(method, path, { body, signal }) {
  const plain = body === undefined || typeof body === "string" || body instanceof Blob;
  let answer;
  try {
    answer = await fetch(BASE + path, {
      method,
      signal,
      headers: headers(method, body),
      body: plain ? body : JSON.stringify(body),
      credentials: "same-origin",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The router does not answer", "It may be restarting.");
  }
  if (answer.status === 401 && own(path, answer) && path !== "/login") {
    csrf = null;
    session.onEnd();
    throw new ApiError(401, "You are logged out", "");
  }
  return answer;
}

/** What a refusal says, from its body. */
export async function refusal(answer) {
  let said = {};
  try {
    said = await answer.json();
  } catch {
    // No JSON: the status has to do.
  }
  const message = typeof said?.error === "string" ? said.error : said?.error?.message;
  return new ApiError(answer.status, message ?? `The router answered ${answer.status}`, said?.hint);
}

/** Asks and reads the JSON that comes back; a refusal is thrown. */
export async function call(method, path, options) {
  const answer = await ask(method, path, options);
  if (!answer.ok) throw await refusal(answer);
  return answer.status === 204 ? null : answer.json();
}

export const get = (path, signal) => call("GET", path, { signal });
export const post = (path, body = {}) => call("POST", path, { body });
export const patch = (path, body) => call("PATCH", path, { body });
export const put = (path, body) => call("PUT", path, { body });
export const remove = (path) => call("DELETE", path);

/** A path whose parts and query are escaped; empty query values are left out. */
export function path(parts, query = {}) {
  const wanted = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const search = new URLSearchParams(wanted).toString();
  return `/${parts.map(encodeURIComponent).join("/")}${search && `?${search}`}`;
}

/** Whether somebody is logged in, as the router sees it. */
export async function currentSession() {
  const answer = await ask("GET", "/session");
  if (!answer.ok) throw await refusal(answer);
  const state = await answer.json();
  csrf = state.csrf;
  return state;
}

export async function logIn(token) {
  const state = await call("POST", "/login", { body: { token } });
  csrf = state.csrf;
  return state;
}

export async function logOut() {
  await call("POST", "/logout", { body: {} });
  csrf = null;
}

/** Reads an answer line by line as it comes, whatever its lines end with. */
export async function* lines(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  // The two characters of one line end may come in two pieces.
  let split = false;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const [first, ...more] = (split ? value.replace(/^\n/, "") : value).split(/\r\n|\r|\n/);
    split = value.endsWith("\r");
    rest += first;
    for (const line of more) {
      yield rest;
      rest = line;
    }
  }
  if (rest) yield rest;
}

/** The data of each event of an answer (text/event-stream), the last one too where no empty line ends it. */
export async function* events(answer) {
  let data = [];
  for await (const line of lines(answer)) {
    if (line.startsWith("data:")) {
      data.push(line.slice(line[5] === " " ? 6 : 5));
    } else if (!line && data.length) {
      yield data.join("\n");
      data = [];
    }
  }
  if (data.length) yield data.join("\n");
}

/** Saves an answer's body as a file. */
export async function save(answer, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
