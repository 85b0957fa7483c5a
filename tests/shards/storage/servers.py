"""A web server on loopback that serves a folder, and misbehaves as it is told."""

import contextlib
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

Fault = Callable[[str, int], str]
"""(path, requests of it so far) → `drop`, `short`, `wrong`, `503`, `403`, `whole`, `other`, `stall`, or "" for a good answer."""


class WebFolder:
    """What a server serves, what it was asked for, and how it misbehaves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self.fault: Fault = lambda path, count: ""
        self.requests: list[tuple[str, str]] = []
        """(path, range)"""
        self.headers: list[dict[str, str]] = []
        self.counts: Counter[str] = Counter()
        self.released = threading.Event()

    def bodies(self, suffix: str) -> int:
        """Requests for files with this suffix."""
        return sum(path.endswith(suffix) for path, _ in self.requests)


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[WebFolder]:
    """A server of a folder, on a port of its own."""
    web = WebFolder(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = unquote(self.path)
            web.requests.append((path, self.headers.get("Range", "")))
            web.headers.append(dict(self.headers))
            fault = web.fault(path, web.counts[path])
            web.counts[path] += 1
            file = web.folder / path.lstrip("/")
            if fault.isdigit() or not file.is_file():
                self.send_error(int(fault) if fault else 404)
                return
            data = file.read_bytes()
            match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            begin, end = (int(match[1]), min(int(match[2]) + 1, len(data))) if match else (0, len(data))
            if fault == "whole":
                begin, end, match = 0, len(data), None
            if fault == "other":
                begin = max(begin - 1, 0)
            body = data[begin:end]
            if fault == "wrong":
                body = bytes(byte ^ 1 for byte in body)
            self.send_response(206 if match else 200)
            if match:
                self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(data)}")
            sent = len(body) // 2 if fault in ("drop", "short", "stall") else len(body)
            self.send_header("Content-Length", str(sent if fault == "short" else len(body)))
            self.end_headers()
            self.wfile.write(body[:sent])
            if fault == "stall":
                self.wfile.flush()
                web.released.wait(30)
            if sent < len(body):
                self.close_connection = True

        def log_message(self, *args) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    web.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        web.released.set()
        server.shutdown()
        server.server_close()
