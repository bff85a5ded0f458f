"""An embedding server like OpenAI's: MiniLM, read from the package that carries its weights and run in plain numpy."""

import json
import re
import unicodedata
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread

import numpy

HEADS, LAYERS, TOKENS_MAX = 12, 6, 256


class MiniLM:
    def __init__(self):
        # Found, not imported: the package would ask for all of PyTorch.
        package = Path(find_spec("all_minilm_l6_v2").origin).parent
        with zipfile.ZipFile(package / "model.zip") as model:
            self.vocabulary = json.loads(model.read("tokenizer.json"))["model"]["vocab"]
            weights = model.read("model.safetensors")
        start = 8 + int.from_bytes(weights[:8], "little")
        self.weights = {}
        for name, about in json.loads(weights[8:start]).items():
            if about.get("dtype") == "F32":
                begin, end = about["data_offsets"]
                part = numpy.frombuffer(weights[start + begin : start + end], dtype="<f4")
                self.weights[name] = part.reshape(about["shape"])

    def tokens(self, text):
        text = unicodedata.normalize("NFD", text.lower())
        text = "".join(c for c in text if unicodedata.category(c) != "Mn")
        found = []
        for word in re.findall(r"\w+|[^\w\s]", text):
            pieces, start = [], 0
            while start < len(word):
                ends = range(len(word), start, -1)
                known = (("##" if start else "") + word[start:end] for end in ends)
                piece = next((piece for piece in known if piece in self.vocabulary), None)
                if piece is None:
                    pieces = ["[UNK]"]
                    break
                pieces.append(piece)
                start += len(piece) - (2 if start else 0)
            found += pieces
        return [self.vocabulary[piece] for piece in ["[CLS]", *found[: TOKENS_MAX - 2], "[SEP]"]]

    def linear(self, x, name):
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / numpy.sqrt((x * x).mean(-1, keepdims=True) + 1e-12)
        return x * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def embed(self, text):
        tokens = self.tokens(text)
        x = self.weights["embeddings.word_embeddings.weight"][tokens]
        x = x + self.weights["embeddings.position_embeddings.weight"][: len(tokens)]
        x = self.norm(x + self.weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for layer in range(LAYERS):
            name = f"encoder.layer.{layer}"
            split = lambda part: self.linear(x, f"{name}.attention.self.{part}").reshape(len(tokens), HEADS, -1).swapaxes(0, 1)
            query, key, value = split("query"), split("key"), split("value")
            scores = query @ key.swapaxes(1, 2) / numpy.sqrt(query.shape[-1])
            scores = numpy.exp(scores - scores.max(-1, keepdims=True))
            told = (scores / scores.sum(-1, keepdims=True) @ value).swapaxes(0, 1).reshape(len(tokens), -1)
            x = self.norm(x + self.linear(told, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm")
            wide = self.linear(x, f"{name}.intermediate.dense")
            wide = wide * 0.5 * (1 + numpy.tanh(0.7978845608 * (wide + 0.044715 * wide**3)))
            x = self.norm(x + self.linear(wide, f"{name}.output.dense"), f"{name}.output.LayerNorm")
        mean = x.mean(0)
        return mean / numpy.linalg.norm(mean)


class Embedder:
    """The server, on a free port."""

    def __init__(self):
        model = MiniLM()
        self.seen = seen = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                call = json.loads(self.rfile.read(int(self.headers["content-length"])))
                seen.append((self.path, self.headers.get("authorization"), call))
                vectors = [model.embed(text).tolist() for text in call["input"]]
                data = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)]
                body = json.dumps({"object": "list", "model": call["model"], "data": data}).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *about):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_port}/v1"
        Thread(target=server.serve_forever, daemon=True).start()
