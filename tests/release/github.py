"""A GitHub on loopback: the part of its REST API that releases need, as its documentation has it, and its failures.

The API and the uploads are two hosts (two ports), and what is downloaded comes from the second, as at GitHub.
"""

import hashlib
import io
import json
import re
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

REPOSITORY = "bells/foundry"
TOKEN, READER = "ghp_mayWriteContents0123456789", "ghp_mayOnlyRead0123456789"
PAGE = 2  # entries of a list, however many are asked for
ROOT = f"/repos/{REPOSITORY}"
ROUTES = {
    "repository": f"GET {ROOT}", "commit": f"GET {ROOT}/commits/(.+)", "list": f"GET {ROOT}/releases",
    "create": f"POST {ROOT}/releases", "release": f"GET {ROOT}/releases/([0-9]+)",
    "publish": f"PATCH {ROOT}/releases/([0-9]+)", "delete": f"DELETE {ROOT}/releases/([0-9]+)",
    "assets": f"GET {ROOT}/releases/([0-9]+)/assets", "upload": f"POST {ROOT}/releases/([0-9]+)/assets",
    "asset": f"GET {ROOT}/releases/assets/([0-9]+)",
    "delete_asset": f"DELETE {ROOT}/releases/assets/([0-9]+)", "storage": "GET /storage/([0-9]+)",
}


class GitHub:
    """One repository, its tags (the commit of each) and its releases.

    `faults` has, by route, what to do instead: a function a request, the last for good. `watch` is told of the number
    of each request when it comes ("before"), in the middle of an upload ("amid") and before it is answered ("after").
    """

    def __init__(self, tags: dict[str, str]):
        self.tags = tags
        self.releases: dict[int, dict[str, Any]] = {}
        self.assets: dict[int, dict[str, Any]] = {}
        self.asked: list[str] = []  # routes
        self.edits: list[str] = []  # of what was published
        self.faults: dict[str, list[Fault]] = {}
        self.digests = True  # whether the API tells them
        self.watch: Callable[[int, str], None] = lambda number, moment: None
        self.lock, self.ids = threading.RLock(), iter(range(1, 10**6))
        self.servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler(self)) for _ in range(2)]
        self.url, self.uploads = (f"http://127.0.0.1:{server.server_port}" for server in self.servers)
        for server in self.servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def add(self, tag: str, draft: bool = True, **told: Any) -> int:
        """A release that is there; returns its id."""
        number = next(self.ids)
        self.releases[number] = {"tag_name": tag, "name": tag, "body": "", "draft": draft, "prerelease": False, **told}
        return number

    def attach(self, release: int, name: str, data: bytes, state: str = "uploaded") -> int:
        """An asset that a release has; returns its id."""
        number = next(self.ids)
        self.assets[number] = {"release": release, "name": name, "data": data, "state": state}
        return number

    def of(self, release: int) -> dict[int, dict[str, Any]]:
        """A release's assets by their ids."""
        return {number: one for number, one in sorted(self.assets.items()) if one["release"] == release}

    def published(self, tag: str) -> list[dict[str, bytes]]:
        """The files of each release of a tag that everybody sees."""
        return [{one["name"]: one["data"] for one in self.of(number).values()}
                for number, release in self.releases.items() if release["tag_name"] == tag and not release["draft"]]


Fault = Callable[[BaseHTTPRequestHandler, GitHub, str, list[str]], None]


def handler(github: GitHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self) -> None:
            asked = f"{self.command} {unquote(urlsplit(self.path).path)}"
            route, match = next(((name, match) for name, pattern in ROUTES.items()
                                 if (match := re.fullmatch(pattern, asked))), ("unknown", None))
            with github.lock:
                github.asked.append(route)
                self.number = len(github.asked)
                waiting = github.faults.get(route, [serve])
                fault = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            try:
                github.watch(self.number, "before")
                fault(self, github, route, list(match.groups()) if match else [])
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        do_GET = do_POST = do_PATCH = do_DELETE = respond

        def log_message(self, *_):
            pass

    return Handler


def answer(asked, github: GitHub, status: int, told: Any = None, headers: dict[str, str] | None = None) -> None:
    """Answer with bytes as they are, and with anything else as JSON."""
    github.watch(asked.number, "after")
    body = told if isinstance(told, bytes) else b"" if told is None else json.dumps(told).encode()
    asked.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
        asked.send_header(name, value)
    asked.end_headers()
    asked.wfile.write(body)


def refuse(asked, github: GitHub, status: int, message: str, **error: str) -> None:
    """Answer with an error, and with what is wrong where a request is well-formed."""
    answer(asked, github, status, {"message": message, "documentation_url": "https://docs.github.com/rest",
                                   **({"errors": [error]} if error else {})})


def body_of(asked, share: float = 1) -> bytes:
    """A request's body, or the first share of it."""
    return asked.rfile.read(int(int(asked.headers.get("Content-Length") or 0) * share))


def serve(asked, github: GitHub, route: str, parts: list[str]) -> None:
    """As GitHub in order: everybody sees what is published, and who may write sees drafts."""
    token = asked.headers.get("Authorization", "").partition(" ")[2]
    if route == "storage":
        return storage(asked, github, int(parts[0]))
    if route == "upload" and token == TOKEN:
        return upload(asked, github, int(parts[0]))
    body = body_of(asked)
    if token not in ("", TOKEN, READER):
        return refuse(asked, github, 401, "Bad credentials")
    if asked.command != "GET" and token != TOKEN:
        return refuse(asked, github, *((403, "Resource not accessible by personal access token") if token else
                                       (401, "Requires authentication")))
    if route not in ANSWERS or (asked.server is github.servers[1]):
        return refuse(asked, github, 404, "Not Found")
    with github.lock:
        ANSWERS[route](asked, github, json.loads(body or b"{}"), token == TOKEN, *parts)


def repository(asked, github, body, writer) -> None:
    answer(asked, github, 200, {"id": 1, "full_name": REPOSITORY, "url": github.url + ROOT})


def commit(asked, github, body, writer, name) -> None:
    found = github.tags.get(name.removeprefix("tags/"))
    if not found:
        return refuse(asked, github, 422, f"No commit found for SHA: {name}")
    answer(asked, github, 200, {"sha": found, "url": f"{github.url}{ROOT}/commits/{found}"})


def listing(asked, github, body, writer) -> None:
    """The newest first."""
    pages(asked, github, [release_of(github, number) for number in sorted(github.releases, reverse=True)
                          if writer or not github.releases[number]["draft"]])


def assets(asked, github, body, writer, number) -> None:
    if int(number) not in github.releases:
        return refuse(asked, github, 404, "Not Found")
    pages(asked, github, [asset_of(github, one) for one in github.of(int(number))])


def pages(asked, github, told) -> None:
    """One page of a list, and where the next one is."""
    path = urlsplit(asked.path)
    page = int(parse_qs(path.query).get("page", ["1"])[0])
    following = {"Link": f'<{github.url}{path.path}?page={page + 1}>; rel="next"'} if len(told) > page * PAGE else {}
    answer(asked, github, 200, told[(page - 1) * PAGE:page * PAGE], following)


def create(asked, github, body, writer) -> None:
    """Drafts of one tag may be many, what is published is one."""
    if any(one["tag_name"] == body["tag_name"] and not one["draft"] for one in github.releases.values()):
        return refuse(asked, github, 422, "Validation Failed", resource="Release", code="already_exists",
                      field="tag_name")
    tag = body.pop("tag_name")
    answer(asked, github, 201, release_of(github, github.add(tag, **body)))


def release(asked, github, body, writer, number) -> None:
    """Tell of a release, change it or delete it."""
    number = int(number)
    if number not in github.releases or (github.releases[number]["draft"] and not writer):
        return refuse(asked, github, 404, "Not Found")
    if asked.command == "GET":
        return answer(asked, github, 200, release_of(github, number))
    if not github.releases[number]["draft"]:
        github.edits.append(f"{asked.command} {asked.path}")
    if asked.command == "PATCH":
        github.releases[number].update(body)
        return answer(asked, github, 200, release_of(github, number))
    for one in github.of(number):
        del github.assets[one]
    del github.releases[number]
    answer(asked, github, 204)


def asset(asked, github, body, writer, number) -> None:
    """Tell of an asset, say where its bytes are, or delete it."""
    number = int(number)
    if number not in github.assets or (github.releases[github.assets[number]["release"]]["draft"] and not writer):
        return refuse(asked, github, 404, "Not Found")
    if asked.command == "DELETE":
        if not github.releases[github.assets[number]["release"]]["draft"]:
            github.edits.append(f"{asked.command} {asked.path}")
        del github.assets[number]
        return answer(asked, github, 204)
    if asked.headers.get("Accept") == "application/octet-stream":
        return answer(asked, github, 302, headers={"Location": f"{github.uploads}/storage/{number}"})
    answer(asked, github, 200, asset_of(github, number))


ANSWERS = {"repository": repository, "commit": commit, "list": listing, "create": create, "release": release,
           "publish": release, "delete": release, "assets": assets, "asset": asset, "delete_asset": asset}


def storage(asked, github, number) -> None:
    """A signed address, which takes no token beside its signature."""
    if "Authorization" in asked.headers:
        return answer(asked, github, 400, b"Only one auth mechanism allowed")
    answer(asked, github, 200, github.assets[number]["data"])


def upload(asked, github, number, change: Callable[[bytes], bytes] = bytes) -> None:
    """An asset is a starter until all of it arrived, and its name is taken from then on. change: what becomes of it."""
    name = re.sub(r"[^A-Za-z0-9._-]+", ".", parse_qs(urlsplit(asked.path).query)["name"][0]).strip(".")
    with github.lock:
        taken = any(one["name"] == name for one in github.of(number).values())
        if not taken:
            key = github.attach(number, name, b"", "starter")
            if not github.releases[number]["draft"]:
                github.edits.append(f"{asked.command} {name}")
    if taken:
        body_of(asked)
        return refuse(asked, github, 422, "Validation Failed", resource="ReleaseAsset", code="already_exists",
                      field="name")
    github.watch(asked.number, "amid")
    data = body_of(asked)
    if len(data) < int(asked.headers["Content-Length"]):
        raise ConnectionResetError
    with github.lock:
        if key not in github.assets:  # deleted meanwhile
            return refuse(asked, github, 404, "Not Found")
        github.assets[key].update(data=change(data), state="uploaded")
        told = asset_of(github, key)
    answer(asked, github, 201, told)


def release_of(github: GitHub, number: int) -> dict[str, Any]:
    """What the API tells of a release."""
    place, told = f"{ROOT}/releases/{number}", github.releases[number]
    return {"id": number, "url": github.url + place, "upload_url": f"{github.uploads}{place}/assets{{?name,label}}",
            "html_url": f"https://github.com/{REPOSITORY}/releases/tag/{told['tag_name']}",
            **{name: told[name] for name in ("tag_name", "name", "body", "draft", "prerelease")},
            "assets": [asset_of(github, one) for one in github.of(number)]}


def asset_of(github: GitHub, number: int) -> dict[str, Any]:
    """What the API tells of an asset."""
    told = github.assets[number]
    digest = f"sha256:{hashlib.sha256(told['data']).hexdigest()}" if told["state"] == "uploaded" else None
    return {"id": number, "url": f"{github.url}{ROOT}/releases/assets/{number}", "name": told["name"],
            "state": told["state"], "size": len(told["data"]), **({"digest": digest} if github.digests else {})}


# Faults


def says(status: int, message: str = "Server Error", **headers: str) -> Fault:
    """An answer, and nothing is done."""
    def fault(asked, github, route, parts):
        body_of(asked)
        answer(asked, github, status, {"message": message}, {name.replace("_", "-"): headers[name] for name in headers})
    return fault


def early(asked, github, route, parts) -> None:
    """An answer before the request is all there, and the connection is closed."""
    asked.close_connection = True
    answer(asked, github, 502, {"message": "Server Error"})


def page(asked, github, route, parts) -> None:
    """A gateway's page of HTML, and nothing is done."""
    body_of(asked)
    answer(asked, github, 502, b"<html>502 Bad Gateway</html>", {"Content-Type": "text/html"})


def done(asked, github, route, parts) -> None:
    """It is done, and nothing is answered."""
    real, asked.wfile = asked.wfile, io.BytesIO()
    try:
        serve(asked, github, route, parts)
    finally:
        asked.wfile = real


def unheard(asked, github, route, parts) -> None:
    """It is done, and the answer is lost at a gateway."""
    done(asked, github, route, parts)
    answer(asked, github, 502, b"<html>502 Bad Gateway</html>", {"Content-Type": "text/html"})


def late(asked, github, route, parts) -> None:
    """It is done, and nobody waits that long for the answer."""
    done(asked, github, route, parts)
    time.sleep(3)
    raise ConnectionResetError


def silent(asked, github, route, parts) -> None:
    """Nothing is done, and nothing is answered for too long."""
    body_of(asked)
    time.sleep(3)
    raise ConnectionResetError


def cut(asked, github, route, parts) -> None:
    """The connection is reset, in the middle of an upload, which leaves a starter."""
    if route == "upload":
        github.attach(int(parts[0]), parse_qs(urlsplit(asked.path).query)["name"][0], b"", "starter")
        body_of(asked, 0.5)
    asked.connection.shutdown(2)
    raise ConnectionResetError


def spoiled(asked, github, route, parts) -> None:
    """A bit of an upload changes on its way."""
    upload(asked, github, int(parts[0]), lambda data: bytes([data[0] ^ 1]) + data[1:])


def taken(asked, github, route, parts) -> None:
    """The asset is said to be there already, and isn't."""
    body_of(asked)
    refuse(asked, github, 422, "Validation Failed", resource="ReleaseAsset", code="already_exists", field="name")
