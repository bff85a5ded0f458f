"""A provider for the SDKs: three dialects, plain and streamed, tools, images, errors. It keeps what it was sent."""

import json
import re
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
TOOL_ARGUMENTS = '{"city":"Zürich"}'


class Provider(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.received = []
        # Answers a number of coming requests with this status before it is itself again.
        self.failing = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def last(self):
        return self.received[-1]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.received.append({"path": self.path, "headers": headers, "body": body})
        if self.server.failing:
            status, fields = self.server.failing.pop(0)
            return self.fail(status, fields)
        if headers.get("content-type", "").startswith("multipart/form-data"):
            return self.form(body)
        request = json.loads(body)
        path = self.path.split("?")[0]
        for pattern, answer in ROUTES:
            if re.search(pattern, path):
                return answer(self, request)
        self.fail(404, {})

    def do_PUT(self):
        """`/fail/STATUS`: a test in another process scripts the next answer."""
        self.server.failing.append((int(self.path.rsplit("/", 1)[1]), {"Retry-After": "7"}))
        self.reply(200, {})

    def fail(self, status, fields):
        words = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error", 500: "api_error"}
        kind = words.get(status, "not_found_error")
        if "/messages" in self.path:
            body = {"type": "error", "error": {"type": kind, "message": "scripted failure"}, "request_id": "req_scripted"}
        elif "/models/" in self.path:
            body = {"error": {"code": status, "message": "scripted failure", "status": "FAILED"}}
        else:
            body = {"error": {"message": "scripted failure", "type": kind, "param": None, "code": "scripted"}}
        self.reply(status, body, fields)

    def reply(self, status, body, fields=()):
        raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
        self.send_response(status)
        kind = "audio/mpeg" if isinstance(body, bytes) else "application/json"
        sent = {"Content-Type": kind, "Content-Length": str(len(raw)), "x-request-id": "req_scripted", "request-id": "req_scripted"}
        for name, value in {**sent, **dict(fields)}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    def stream(self, events):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("x-request-id", "req_scripted")
        self.end_headers()
        for event in events:
            raw = event.encode()
            # In two pieces, so that characters and events are cut.
            for piece in (raw[: len(raw) // 2], raw[len(raw) // 2 :]):
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def form(self, body):
        if "/audio/" in self.path:
            return self.reply(200, {"text": f"heard {len(body)} bytes"})
        self.reply(200, {"created": 1, "data": [{"b64_json": "QUJD"}]})


def data(value):
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def named(value):
    return f"event: {value['type']}\n{data(value)}"


def newest_text(messages):
    content = next(m["content"] for m in reversed(messages) if m.get("role") == "user")
    if isinstance(content, str):
        return content
    return " ".join(part.get("text") or f"[{part['type']}]" for part in content)


def chat(handler, request):
    base = {"id": "chatcmpl-1", "created": 1, "model": request["model"]}
    if "input" in request:
        return handler.reply(200, {**base, "object": "response", "echo": request["input"]})
    text = f"echo: {newest_text(request['messages'])} ✓"
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": TOOL_ARGUMENTS}}
    tools = request.get("tools") and request["messages"][-1]["role"] != "tool"
    if not request.get("stream"):
        message = {"role": "assistant", "content": None, "tool_calls": [call]} if tools else {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if tools else "stop"}
        return handler.reply(200, {**base, "object": "chat.completion", "choices": [choice], "usage": USAGE})
    chunk = lambda delta, reason=None: data(
        {**base, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
    )
    events = [chunk({"role": "assistant", "content": ""})]
    if tools:
        start = {**call, "index": 0, "function": {"name": "weather", "arguments": ""}}
        events.append(chunk({"tool_calls": [start]}))
        events += [chunk({"tool_calls": [{"index": 0, "function": {"arguments": c}}]}) for c in TOOL_ARGUMENTS]
    else:
        events += [chunk({"content": c}) for c in text]
    events.append(chunk({}, "tool_calls" if tools else "stop"))
    if (request.get("stream_options") or {}).get("include_usage"):
        events.append(data({**base, "object": "chat.completion.chunk", "choices": [], "usage": USAGE}))
    handler.stream([*events, ": keep-alive\n\n", "data: [DONE]\n\n"])


def responses(handler, request):
    text = "echo: " + (request["input"] if isinstance(request["input"], str) else newest_text(request["input"]))
    message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
    message["content"] = [{"type": "output_text", "text": text, "annotations": []}]
    usage = {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18}
    usage |= {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    whole = {"id": "resp_1", "object": "response", "created_at": 1, "model": request["model"], "status": "completed"}
    whole |= {"output": [message], "usage": usage, "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    if not request.get("stream"):
        return handler.reply(200, whole)
    started = {**whole, "status": "in_progress", "output": [], "usage": None}
    item = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    events = [{"type": "response.created", "response": started}]
    events.append({"type": "response.output_item.added", "output_index": 0, "item": {**message, "content": [], "status": "in_progress"}})
    events.append({"type": "response.content_part.added", **item, "part": {"type": "output_text", "text": "", "annotations": []}})
    events += [{"type": "response.output_text.delta", **item, "delta": c, "logprobs": []} for c in text]
    events.append({"type": "response.output_text.done", **item, "text": text, "logprobs": []})
    events.append({"type": "response.content_part.done", **item, "part": message["content"][0]})
    events.append({"type": "response.output_item.done", "output_index": 0, "item": message})
    events.append({"type": "response.completed", "response": whole})
    handler.stream([named({**event, "sequence_number": n}) for n, event in enumerate(events)])


def embeddings(handler, request):
    texts = request["input"] if isinstance(request["input"], list) else [request["input"]]
    vector = [0.25, -1.5, 3.0]
    if request.get("encoding_format") == "base64":
        import base64

        vector = base64.b64encode(struct.pack("<3f", *vector)).decode()
    rows = [{"object": "embedding", "index": n, "embedding": vector} for n, _ in enumerate(texts)]
    handler.reply(200, {"object": "list", "data": rows, "model": request["model"], "usage": {"prompt_tokens": 3, "total_tokens": 3}})


def messages(handler, request):
    text = f"echo: {newest_text(request['messages'])} ✓"
    tools = request.get("tools") and not any(
        isinstance(m["content"], list) and m["content"][0].get("type") == "tool_result" for m in request["messages"]
    )
    call = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": json.loads(TOOL_ARGUMENTS)}
    content = call if tools else {"type": "text", "text": text}
    reason = "tool_use" if tools else "end_turn"
    usage = {"input_tokens": 11, "output_tokens": 7}
    whole = {"id": "msg_1", "type": "message", "role": "assistant", "model": request["model"], "content": [content]}
    whole |= {"stop_reason": reason, "stop_sequence": None, "usage": usage}
    if not request.get("stream"):
        return handler.reply(200, whole)
    empty = {**call, "input": {}} if tools else {"type": "text", "text": ""}
    delta = (lambda c: {"type": "input_json_delta", "partial_json": c}) if tools else (lambda c: {"type": "text_delta", "text": c})
    events = [{"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}}, {"type": "ping"}]
    events.append({"type": "content_block_start", "index": 0, "content_block": empty})
    events += [{"type": "content_block_delta", "index": 0, "delta": delta(c)} for c in (TOOL_ARGUMENTS if tools else text)]
    events.append({"type": "content_block_stop", "index": 0})
    events.append({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": {"output_tokens": 7}})
    events.append({"type": "message_stop"})
    handler.stream([named(event) for event in events])


def gemini(handler, request):
    parts = request["contents"][-1]["parts"]
    text = "echo: " + " ".join(part.get("text") or "[data]" for part in parts) + " ✓"
    tools = request.get("tools") and "functionResponse" not in parts[0]
    part = {"functionCall": {"name": "weather", "args": json.loads(TOOL_ARGUMENTS)}} if tools else {"text": text}
    usage = {"promptTokenCount": 11, "candidatesTokenCount": 7, "totalTokenCount": 18}

    def answer(part, last=True):
        candidate = {"content": {"role": "model", "parts": [part]}, "index": 0}
        return {"candidates": [candidate | ({"finishReason": "STOP"} if last else {})], "usageMetadata": usage, "modelVersion": "x"}

    if "streamGenerateContent" not in handler.path:
        return handler.reply(200, answer(part))
    pieces = [part] if tools else [{"text": c} for c in text]
    if "alt=sse" in handler.path:
        return handler.stream([data(answer(p, n + 1 == len(pieces))) for n, p in enumerate(pieces)])
    handler.reply(200, json.dumps([answer(p) for p in pieces]).encode())


ROUTES = [
    (r"/chat/completions$", chat),
    (r"/responses$", responses),
    (r"/embeddings$", embeddings),
    (r"/moderations$", lambda h, r: h.reply(200, {"id": "modr-1", "model": r["model"], "results": []})),
    (r"/images/generations$", lambda h, r: h.reply(200, {"created": 1, "data": [{"b64_json": "QUJD"}]})),
    (r"/audio/speech$", lambda h, r: h.reply(200, b"\x00\xffMP3")),
    (r"/messages/count_tokens$", lambda h, r: h.reply(200, {"input_tokens": 42})),
    (r"/messages$", messages),
    (r":countTokens$", lambda h, r: h.reply(200, {"totalTokens": 42})),
    (r":(embedContent|batchEmbedContents)$", lambda h, r: h.reply(200, {"embeddings": [{"values": [0.5]}]})),
    (r":(generateContent|streamGenerateContent)$", gemini),
]
