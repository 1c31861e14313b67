"""A small real HTTP server that speaks OpenAI's protocol, and does wrong on request: the prompt says what.

It writes its answers by hand onto the socket, so that it can break off in the middle, drip, or send rubbish.
"""

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]
MODELS = ("writer", "vectors")


class OpenAiServer(ThreadingHTTPServer):
    """What was asked is kept in `asked`; `hung_up` is set when a client leaves an answer."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[Json] = []
        self.headers: list[Json] = []
        self.hung_up = threading.Event()
        self.failures: list[int] = []
        """Statuses of the next answers, before it works again."""
        self.key = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


@contextmanager
def openai_server() -> Iterator[OpenAiServer]:
    server = OpenAiServer()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def words_of(request: Json) -> list[str]:
    """What the writer writes: decided by prompt and seed, as long as it may be."""
    prompt = request.get("prompt") or request["messages"][0]["content"]
    most = request["max_tokens"]
    seed = hashlib.sha256(f"{prompt}/{request['seed']}".encode()).hexdigest()
    return [f" {seed[at % 60 : at % 60 + 4]}" for at in range(most)]


def vector_of(text: str, dimensions: int) -> list[float]:
    seed = hashlib.sha256(text.encode()).digest()
    numbers = [seed[at % 32] - 127.5 for at in range(dimensions)]
    length = sum(number * number for number in numbers) ** 0.5
    return [number / length for number in numbers]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: OpenAiServer

    def do_GET(self) -> None:
        self._whole(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in MODELS]})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(request)
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        if self.server.failures:
            status = self.server.failures.pop(0)
            self._whole(status, {"error": {"message": f"no {self.headers.get('authorization', '')}"}})
        elif self.path == "/v1/embeddings":
            self._embed(request)
        else:
            self._write(request)

    def _embed(self, request: Json) -> None:
        texts = request["input"]
        data = [
            {"index": at, "embedding": vector_of(text, request["dimensions"])}
            for at, text in enumerate(texts)
        ]
        usage = {"prompt_tokens": sum(len(text.split()) for text in texts)}
        self._whole(200, {"object": "list", "data": data[::-1], "usage": usage})

    def _whole(self, status: int, body: Json) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        if status == 429:
            self.send_header("retry-after", "0")
        self.end_headers()
        self.wfile.write(raw)

    def _write(self, request: Json) -> None:
        prompt = str(request.get("prompt") or request["messages"][0]["content"])
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            self._stream(request, prompt)
        except (BrokenPipeError, ConnectionResetError):
            self.server.hung_up.set()

    def _stream(self, request: Json, prompt: str) -> None:
        words = words_of(request)
        if "silent" in prompt:
            self._wait_until_left()
            return
        if "empty" in prompt:
            words = []
        if "endless" in prompt:
            while True:
                self.wfile.write(b"x" * 65536)
        for at, word in enumerate(words):
            if "drip" in prompt:
                time.sleep(0.02)
            if "stall" in prompt and at == 2:
                self._wait_until_left()
                return
            if "break" in prompt and at == 2:
                return
            if "rubbish" in prompt and at == 2:
                self.wfile.write(b"data: {not json\n\n")
            if "error" in prompt and at == 2:
                self._event({"error": {"message": "out of slots"}})
            self._event(self._chunk(request, word))
        self._event(self._chunk(request, "", finish="length"))
        if "quiet" not in prompt:
            many = 10**9 if "greedy" in prompt else len(words)
            usage = {"prompt_tokens": 10**9 if "greedy" in prompt else 3, "completion_tokens": many}
            self._event({"choices": [], "usage": usage})
        self.wfile.write(b"data: [DONE]\n\n")

    def _chunk(self, request: Json, word: str, finish: str | None = None) -> Json:
        choice: Json = {"index": 0, "finish_reason": finish}
        if "messages" in request:
            choice["delta"] = {"content": word} if word else {}
        else:
            choice["text"] = word
        if request.get("logprobs") and word:
            choice["logprobs"] = {
                "content": [{"token": word, "logprob": -0.5}, {"token": "", "logprob": -0.1}]
            }
        return {"id": "1", "object": "chunk", "choices": [choice]}

    def _event(self, body: Json) -> None:
        self.wfile.write(b"data: " + json.dumps(body).encode() + b"\r\n\r\n")
        self.wfile.flush()

    def _wait_until_left(self) -> None:
        """Ends when the other side has closed."""
        self.connection.settimeout(20)
        if self.connection.recv(1) == b"":
            self.server.hung_up.set()

    def log_message(self, *_: Any) -> None:
        pass


__all__ = ["OpenAiServer", "openai_server", "vector_of", "words_of"]
