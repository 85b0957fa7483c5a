"""A server of chat completions on this machine: it answers by a function, counts, and fails as a test says."""

import base64
import hashlib
import json
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "made"
Handler = BaseHTTPRequestHandler
Fault = Callable[["Request"], bool]
"""Answers a request in another way; False where it does not."""


class Request:
    """One request of a client, and ways to answer it.

    body: parsed. key: of its messages, by which the server counts.
    """

    def __init__(self, handler: Handler, body: dict[str, Any]) -> None:
        self.handler, self.body = handler, body
        self.key = hashlib.sha256(json.dumps(body["messages"], sort_keys=True).encode()).hexdigest()
        self.headers = {name.lower(): value for name, value in handler.headers.items()}

    def images(self) -> list[bytes]:
        """The image files in its messages."""
        parts = [part for turn in self.body["messages"] for part in turn["content"] if isinstance(part, dict)]
        urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
        return [base64.b64decode(url.partition(",")[2]) for url in urls]

    def text(self) -> str:
        """All words in its messages."""
        texts = []
        for turn in self.body["messages"]:
            content = turn["content"]
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
            texts += [part["text"] for part in parts if part["type"] == "text"]
        return "\n".join(texts)

    def send(self, status: int, body: bytes, **headers: str) -> bool:
        """A whole response."""
        self.handler.send_response(status)
        for name, value in ({"Content-Type": "application/json", "Content-Length": str(len(body))} | headers).items():
            self.handler.send_header(name.replace("_", "-"), value)
        self.handler.end_headers()
        self.handler.wfile.write(body)
        return True

    def error(self, status: int, text: str = "made to fail", code: str | None = None, **headers: str) -> bool:
        """An error as OpenAI writes it."""
        content = {"error": {"message": text, "type": "made", "code": code, "param": None}}
        return self.send(status, json.dumps(content).encode(), **headers)

    def cut(self, sent: bytes) -> bool:
        """The beginning of a response that claims to be longer, and a connection that is reset."""
        self.handler.send_response(200)
        self.handler.send_header("Content-Type", "application/json")
        self.handler.send_header("Content-Length", "1000")
        self.handler.end_headers()
        self.handler.wfile.write(sent)
        self.handler.wfile.flush()
        self.handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.handler.connection.close()
        self.handler.close_connection = True
        return True


def completion(text: str | None, finish: str = "stop", **message: Any) -> bytes:
    """A completion's body."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    return json.dumps(
        {"id": "1", "object": "chat.completion", "model": MODEL, "choices": [choice], "usage": usage}
    ).encode()


class ApiServer:
    """The server while `serving` lasts.

    answer: request → text. fault: is asked first, of each request.
    """

    def __init__(self, answer: Callable[[Request], str], fault: Fault) -> None:
        self.answer, self.fault = answer, fault
        self.lock = threading.Lock()
        self.requests: list[Request] = []
        self.answered: Counter[str] = Counter()
        self.most_at_once = self._now = 0
        self.url = ""

    def respond(self, request: Request) -> None:
        """Answer one request."""
        with self.lock:
            self.requests.append(request)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            if self.fault(request):
                return
            text = self.answer(request)
            with self.lock:
                self.answered[request.key] += 1
            if request.body.get("stream"):
                request.send(200, stream_of(text), Content_Type="text/event-stream")
            else:
                request.send(200, completion(text))
        finally:
            with self.lock:
                self._now -= 1


def stream_of(text: str, finish: str = "stop") -> bytes:
    """The events of a stream, a word each."""
    pieces = [{"delta": {"content": word}, "index": 0, "finish_reason": None} for word in text.split(" ")]
    for piece in pieces[1:]:
        piece["delta"] = {"content": f" {piece['delta']['content']}"}  # type: ignore[index]
    pieces.append({"delta": {}, "index": 0, "finish_reason": finish})
    events = [{"id": "1", "object": "chat.completion.chunk", "model": MODEL, "choices": [piece]} for piece in pieces]
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"


@contextmanager
def serving(answer: Callable[[Request], str], fault: Fault = lambda request: False) -> Iterator[ApiServer]:
    """A server on a free port of 127.0.0.1."""
    server = ApiServer(answer, fault)

    class Respond(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}).encode()
            Request(self, {"messages": []}).send(200, body)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.respond(Request(self, body))

        def log_message(self, *args: Any) -> None:
            """Silent."""

        def handle(self) -> None:
            try:
                super().handle()
            except (ConnectionError, ValueError):
                """A client that left, or a connection that a test has cut."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Respond)
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
