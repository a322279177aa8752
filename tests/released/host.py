"""A host on loopback that serves files as the authors' hosts do, and fails in every way that hosts fail."""

import base64
import hashlib
import json
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit


class Host:
    """Serves the files of a folder. `faults` has, by path, what to do instead: a function a request, the last for good.

    Under /storage/v1/b/ it lists a bucket as Cloud Storage does, two pages, under /api/records/ a record as Zenodo.
    """

    def __init__(self, folder: Path, certificate: Path | None = None):
        self.folder, self.asked, self.faults = folder, [], {}
        self.headers: dict[str, str] = {}  # of every file
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.server.daemon_threads = True
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"http{'s' * bool(certificate)}://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def handler(host) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                path = unquote(urlsplit(self.path).path)
                host.asked.append((path, self.headers.get("Range")))
                waiting = host.faults.get(path, [])
                fault = waiting.pop(0) if len(waiting) > 1 else waiting[0] if waiting else None
                try:
                    (fault or serve)(self, host, path)
                except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
                    self.close_connection = True

            def log_message(self, *_):
                pass

        return Handler


Fault = Callable[[BaseHTTPRequestHandler, Host, str], None]


def answer(handler: BaseHTTPRequestHandler, code: int, body: bytes, headers: dict[str, str]) -> None:
    handler.send_response(code)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def tags(data: bytes) -> dict[str, str]:
    return {"ETag": f'"{hashlib.md5(data).hexdigest()}"', "Last-Modified": "Fri, 09 Jul 2021 10:00:00 GMT"}


def serve(handler: BaseHTTPRequestHandler, host: Host, path: str) -> None:
    """As a host in order: ranges are honoured as long as the file is the one that was asked for."""
    if path.startswith("/storage/v1/b/"):
        return listing(handler, host)
    if path.startswith("/api/records/"):
        return record(handler, host)
    file = host.folder / path.lstrip("/")
    if not file.is_file():
        return answer(handler, 404, b"not here", {})
    data = file.read_bytes()
    told = {**tags(data), "Accept-Ranges": "bytes", **host.headers}
    wanted = handler.headers.get("Range")
    if wanted and handler.headers.get("If-Range") in (None, told["ETag"], told["Last-Modified"]):
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start >= len(data):
            return answer(handler, 416, b"", {**told, "Content-Range": f"bytes */{len(data)}"})
        return answer(handler, 206, data[start:],
                      {**told, "Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"})
    answer(handler, 200, data, told)


def listing(handler: BaseHTTPRequestHandler, host: Host) -> None:
    """Cloud Storage's JSON API: objects of a bucket under a prefix, the first half and then the rest."""
    asked = {name: values[0] for name, values in parse_qs(urlsplit(handler.path).query).items()}
    bucket = host.folder / urlsplit(handler.path).path.split("/")[4]
    paths = sorted(path for path in bucket.rglob("*") if path.is_file())
    items = [{"name": name, "size": str(path.stat().st_size),
              "md5Hash": base64.b64encode(hashlib.md5(path.read_bytes()).digest()).decode()}
             for path in paths if (name := path.relative_to(bucket).as_posix()).startswith(asked["prefix"])]
    folder = {"name": asked["prefix"], "size": "0"}
    half = len(items) // 2
    told = {"items": items[half:]} if "pageToken" in asked else {"items": [folder, *items[:half]], "nextPageToken": "2"}
    answer(handler, 200, json.dumps(told).encode(), {"Content-Type": "application/json"})


def record(handler: BaseHTTPRequestHandler, host: Host) -> None:
    """Zenodo's API: the files of a record."""
    folder = host.folder / urlsplit(handler.path).path.lstrip("/").removeprefix("api/") / "files"
    told = {"files": [{"key": path.name, "size": path.stat().st_size,
                       "checksum": f"md5:{hashlib.md5(path.read_bytes()).hexdigest()}"} for path in folder.iterdir()]}
    answer(handler, 200, json.dumps(told).encode(), {"Content-Type": "application/json"})


# Faults


def says(code: int, body: bytes = b"", **headers: str) -> Fault:
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler, host, path: answer(handler, code, body, told)


def cut(share: float, honest: bool = True) -> Fault:
    """A part of the file, then the connection is reset. honest: whether the length is announced that there is."""
    def fault(handler, host, path):
        data = (host.folder / path.lstrip("/")).read_bytes()
        part = data[:int(len(data) * share)]
        handler.send_response(200)
        for name, value in {"Content-Length": str(len(data if honest else part)), **tags(data), **host.headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(part)
        handler.wfile.flush()
        handler.close_connection = True
        if honest:
            handler.connection.shutdown(2)
    return fault


def without_ranges(handler, host, path) -> None:
    answer(handler, 200, (host.folder / path.lstrip("/")).read_bytes(), {})


def trickles(handler, host, path) -> None:
    """A byte now and then, as in the attack that is called slow loris."""
    data = (host.folder / path.lstrip("/")).read_bytes()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    for byte in data:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        time.sleep(0.05)


def silent(handler, host, path) -> None:
    time.sleep(5)
    handler.close_connection = True
