"""Models of a release in a real registry on loopback: by digest, whole, or not at all, whatever fails."""

import base64
import contextlib
import hashlib
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.conftest import ROOT, heed_interrupts, run

TAG, COMMIT = "v1.0.0", "0123456789abcdef0123456789abcdef01234567"
NAMES = {
    "coconet": ["coconet-denoiser-fp32.onnx", "coconet-denoiser-int8.onnx", "coconet-denoiser.npz", "coconet.md"],
    "vampnet": ["vampnet-c2f-fp32.onnx", "vampnet-c2f-fp32.weights", "vampnet-c2f-sampler-fp32.onnx", "vampnet-c2f.npz",
                "vampnet-groove-fp32.tflite", "vampnet.md"],
}
PASSWORD = "somebody:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n"  # which is: secret
KNOWN = {"ORAS_USER": "somebody", "ORAS_PASS": "secret"}
HASTY = "import sys; from scripts import command, push_models; push_models.PAUSES = (0.05, 0.05); " \
        "push_models.SILENT = (1, 1); sys.exit(command.run(push_models.main))"
# Ends with the most memory that it had, in kilobytes; (what the parent had counts in getrusage).
WEIGHED = "import re; from scripts import push_models; push_models.main(); " \
          "print(re.search('VmHWM:\\\\s*(\\\\d+)', open('/proc/self/status').read())[1])"
PULL = "import sys; from oras.provider import Registry; Registry(insecure=True).pull(sys.argv[1], outdir=sys.argv[2])"


# A release


def write_release(dist, weights="tiny", size=3000, salt=""):
    """dist/v1.0.0/ as make package writes it, of files that hold nothing sensible."""
    folder = dist / TAG
    folder.mkdir(parents=True)
    for name in [*NAMES["coconet"], *NAMES["vampnet"], "notes.md", "try_it.py"]:
        (folder / name).write_bytes(random.Random(name + salt).randbytes(size))
    models = {}
    for model, names in NAMES.items():
        artifacts = [{"file": name, "bytes": size, "sha256": sha256(folder / name)} for name in names
                     if name.endswith((".onnx", ".tflite"))]
        for one in artifacts:
            if "c2f" in one["file"]:
                one["weights_file"] = "vampnet-c2f-fp32.weights"
        models[model] = {"title": model.title(), "task": "Sings", "weights_licence": "CC-BY-NC-SA-4.0",
                         "attribution": "H. Flores García, ‘Music’", "upstream": "https://example.com/upstream",
                         "card": f"{model}.md", "artifacts": artifacts,
                         "vectors": [name for name in names if name.endswith(".npz")]}
    write_manifest(folder, {"version": TAG, "weights": weights, "commit": COMMIT, "models": models})
    return folder


def write_manifest(folder, told):
    (folder / "manifest.json").write_text(told if isinstance(told, str) else json.dumps(told))
    seal(folder)


def seal(folder):
    """Write SHA256SUMS over what is in a folder."""
    files = sorted(path for path in folder.iterdir() if path.name != "SHA256SUMS")
    (folder / "SHA256SUMS").write_text("".join(f"{sha256(path)}  {path.name}\n" for path in files))


def sha256(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.fixture
def release(tmp_path):
    return write_release(tmp_path / "dist")


# Registries


class Server:
    """A real registry on loopback. more: of its configuration."""

    def __init__(self, folder, host="127.0.0.1", http=None, **more):
        if not shutil.which("docker-registry"):
            pytest.skip("NO REGISTRY: docker-registry is not installed")
        self.folder = folder
        with socket.socket() as free:
            free.bind((host, 0))
            self.address = f"{host}:{free.getsockname()[1]}"
        folder.mkdir()
        (folder / "registry.yml").write_text(json.dumps({
            "version": "0.1", "http": {"addr": self.address, **(http or {})},
            "storage": {"filesystem": {"rootdirectory": str(folder / "data")}}, **more}))
        self.start()

    def start(self):
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(["docker-registry", "serve", str(self.folder / "registry.yml")], stdout=log,
                                            stderr=log)
        host, port = self.address.split(":")
        for _ in range(100):
            with socket.socket() as asked:
                if asked.connect_ex((host, int(port))) == 0:
                    return
            time.sleep(0.1)
        raise AssertionError((self.folder / "log").read_text())

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def blob(self, digest):
        value = digest.removeprefix("sha256:")
        return self.folder / "data/docker/registry/v2/blobs/sha256" / value[:2] / value / "data"

    def manifest(self, repository, reference=TAG):
        """The manifest that a repository has under a tag or a digest, or None."""
        url = f"http://{self.address}/v2/{repository}/manifests/{reference}"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers={
                    "Accept": "application/vnd.oci.image.manifest.v1+json"})) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            assert error.code == 404
            return None


@pytest.fixture
def registry(tmp_path):
    served = Server(tmp_path / "registry")
    yield served
    served.stop()


class Proxy:
    """In front of a registry; `asked` is what came, `fault` may answer instead: then it returns something true."""

    def __init__(self, behind):
        self.behind, self.asked, self.fault = behind, [], lambda handler: None
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def sent(self):
        """The requests that change something in the registry."""
        return [one for one in self.asked if one.split()[0] not in ("GET", "HEAD")]

    def handler(proxy):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                proxy.asked.append(f"{self.command} {urlsplit(self.path).path}")
                self.unread = int(self.headers.get("Content-Length", 0))
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    if not proxy.fault(self):
                        self.reply(*self.passed())

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer

            def passed(self, changed=lambda data: data):
                """What the registry behind says."""
                asked = http.client.HTTPConnection(proxy.behind.address)
                asked.request(self.command, self.path, self.body(), dict(self.headers))
                answer = asked.getresponse()
                return answer.status, changed(answer.read()), dict(answer.getheaders())

            def body(self):
                body, self.unread = self.rfile.read(self.unread), 0
                return body

            def reply(self, status, body=b"", headers=None):
                self.body()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                    if name not in ("Date", "Server", "Transfer-Encoding"):
                        self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)
                return True

            def log_message(self, *_):
                pass

        return Handler


@pytest.fixture
def proxy(registry):
    served = Proxy(registry)
    yield served
    served.close()


# Runs


@pytest.fixture(scope="session")
def toolchain():
    """The toolchain is there before HOME is another."""
    assert run("scripts/in", "release").returncode == 0


@pytest.fixture
def call(toolchain, tmp_path):
    """Runs `make push-models` as the Makefile does, in a home of its own; code: or another program."""
    home = {"HOME": str(tmp_path / "home"),
            "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")}
    (tmp_path / "home").mkdir()

    def call(folder, address, tag=TAG, code=None, **environment):
        program = ["-c", code] if code else ["-m", "scripts.push_models"]
        return run("scripts/in", "release", "python", *program, "--dist", folder.parent, "--tag", tag,
                   "--registry", address, **home, **environment)

    call.home = home
    return call


def pushed(done):
    """The digest of each model, which a run that went well has printed."""
    assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if "@sha256:" in line]
    said = [re.fullmatch(r"(?:pushed )?\S+/(\w+)@(sha256:[0-9a-f]{64})(?: was there already)?", line) for line in lines]
    assert [line[1] for line in said] == [*NAMES], done.stdout
    return {line[1]: line[2] for line in said}


def refused(done, *words):
    """A run said, in one sentence, why it refuses."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    return done.stderr


# Pushed


def test_each_model_is_pushed_by_digest_and_pulled(release, registry, call, tmp_path):
    digests = pushed(call(release, f"{registry.address}/foundry/models"))
    for model, names in NAMES.items():
        raw = registry.manifest(f"foundry/models/{model}", digests[model])
        assert raw == registry.manifest(f"foundry/models/{model}")
        assert digests[model] == "sha256:" + hashlib.sha256(raw).hexdigest()
        told = json.loads(raw)
        assert told["artifactType"] == "application/vnd.bellfoundry.model.v1"
        assert told["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"
        assert registry.blob(told["config"]["digest"]).read_bytes() == b"{}"
        assert [layer["annotations"]["org.opencontainers.image.title"] for layer in told["layers"]] == names
        types = {".onnx": "application/vnd.onnx.model", ".md": "text/markdown"}
        assert [layer["mediaType"] for layer in told["layers"]] == [
            types.get(Path(name).suffix, "application/octet-stream") for name in names]
        assert told["annotations"] == {
            "bellfoundry.weights": "tiny",
            "org.opencontainers.image.authors": "H. Flores García, ‘Music’",
            "org.opencontainers.image.description": "Sings",
            "org.opencontainers.image.licenses": "CC-BY-NC-SA-4.0",
            "org.opencontainers.image.revision": COMMIT,
            "org.opencontainers.image.source": "https://github.com/bellfoundry/bellfoundry",
            "org.opencontainers.image.title": model.title(),
            "org.opencontainers.image.url": "https://example.com/upstream",
            "org.opencontainers.image.version": TAG,
        }
        pull(f"{registry.address}/foundry/models/{model}@{digests[model]}", tmp_path / model)
        assert {path.name: sha256(path) for path in (tmp_path / model).iterdir()} == {
            name: sha256(release / name) for name in names}


def pull(address, folder):
    done = run("scripts/in", "release", "python", "-c", PULL, address, folder)
    assert done.returncode == 0, done.stderr


def test_equal_content_has_an_equal_digest_and_is_sent_once(release, registry, proxy, call, tmp_path):
    first = pushed(call(release, f"{proxy.address}/models"))
    assert proxy.sent()
    proxy.asked.clear()
    assert pushed(again := call(release, f"{proxy.address}/models")) == first
    assert again.stdout.count("was there already") == 2 and "pushed" not in again.stdout
    assert not [one for one in proxy.sent() if "/blobs/" in one]
    # Another folder, later, written in another order.
    other = tmp_path / "elsewhere" / TAG
    other.mkdir(parents=True)
    for path in sorted(release.iterdir(), reverse=True):
        (other / path.name).write_bytes(path.read_bytes())
    told = json.loads((other / "manifest.json").read_text())
    told["models"]["vampnet"] = dict(reversed(told["models"]["vampnet"].items()))
    told["models"]["vampnet"]["artifacts"].reverse()
    write_manifest(other, told)
    assert pushed(call(other, f"{registry.address}/others")) == first


def test_other_content_has_another_digest(release, registry, call, tmp_path):
    digests = pushed(call(release, f"{registry.address}/models"))
    other = pushed(call(write_release(tmp_path / "other", salt="x"), f"{registry.address}/others"))
    assert not set(digests.values()) & set(other.values())


def test_two_runs_at_once_end_alike(release, registry, call):
    with contextlib.ExitStack() as runs:
        found = []
        threads = [threading.Thread(target=lambda: found.append(call(release, f"{registry.address}/models")))
                   for _ in range(2)]
        for thread in threads:
            thread.start()
            runs.callback(thread.join)
    assert pushed(found[0]) == pushed(found[1])


def test_a_large_file_is_not_read_whole(registry, call, tmp_path):
    release = write_release(tmp_path / "dist")
    with (release / "vampnet-c2f-fp32.weights").open("wb") as file:
        file.truncate(400_000_000)
    seal(release)
    done = call(release, f"{registry.address}/models", code=WEIGHED)
    pushed(done)
    assert int(done.stdout.splitlines()[-1]) < 200_000  # kilobytes


# Not whole


def flip(folder):
    data = bytearray((folder / "coconet-denoiser.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "coconet-denoiser.npz").write_bytes(data)


def replace(folder):
    (folder / "coconet.md").unlink()
    (folder / "coconet.md").mkdir()


def append(line):
    return lambda folder: (folder / "SHA256SUMS").open("a").write(line)


def told(**changes):
    """A planted defect of manifest.json, at the top."""
    return lambda folder: write_manifest(folder, {**json.loads((folder / "manifest.json").read_text()), **changes})


def told_of_coconet(**changes):
    """The same of a model; what is None is left out."""
    def plant(folder):
        whole = json.loads((folder / "manifest.json").read_text())
        own = {**whole["models"]["coconet"], **changes}
        whole["models"]["coconet"] = {key: value for key, value in own.items() if value is not None}
        write_manifest(folder, whole)
    return plant


def rename_model(folder):
    whole = json.loads((folder / "manifest.json").read_text())
    write_manifest(folder, {**whole, "models": {"../Coconet": whole["models"]["coconet"]}})


SUMS_LINE = "SHA256SUMS:14: expected a SHA-256, two spaces and a name"
NO_MANIFEST = "manifest.json: expected what make package writes"
NO_MODEL = "manifest.json: expected of coconet what make package writes"
DEFECTS = {
    "flipped": (flip, "coconet-denoiser.npz: expected SHA-256 "),
    "missing": (lambda folder: (folder / "vampnet.md").unlink(), "vampnet.md: expected a file, as SHA256SUMS has it"),
    "extra": (lambda folder: (folder / "notes.txt").touch(), "notes.txt: expected no file that SHA256SUMS"),
    "hidden": (lambda folder: (folder / ".more").touch(), ".more: expected no file that SHA256SUMS doesn't have"),
    "folder": (replace, "coconet.md: expected SHA-256"),
    "no sums": (lambda folder: (folder / "SHA256SUMS").unlink(), "expected a packaged release with its SHA256SUMS"),
    "elsewhere": (append(f"{'0' * 64}  ../secret\n"), SUMS_LINE),
    "twice": (append(f"{'0' * 64}  coconet.md\n"), SUMS_LINE.replace("a name", "another name")),
    "not text": (append("\0\n"), SUMS_LINE),
    "no manifest": (lambda folder: ((folder / "manifest.json").unlink(), seal(folder)), NO_MANIFEST),
    "no JSON": (lambda folder: write_manifest(folder, "{"), NO_MANIFEST),
    "a list": (lambda folder: write_manifest(folder, "[]"), NO_MANIFEST),
    "no model": (told(models={}), NO_MANIFEST),
    "models of nothing": (told(models={"coconet": None}), NO_MODEL),
    "other tag": (told(version="v0.9.0"), "expected the release v1.0.0, found v0.9.0"),
    "no licence": (told_of_coconet(weights_licence=None), NO_MODEL),
    "no card": (told_of_coconet(card="README.md"), "only files that SHA256SUMS tells, found README.md"),
    "outside": (told_of_coconet(vectors=["../../secret"]), "only files that SHA256SUMS tells, found ../../secret"),
    "other hash": (told_of_coconet(artifacts=[{"file": "coconet-denoiser-int8.onnx", "sha256": "0" * 64}]),
                   "only files that SHA256SUMS tells, found coconet-denoiser-int8.onnx otherwise"),
    "strange name": (rename_model, "expected models with names of small letters"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_nothing_is_pushed_of_what_is_not_whole(release, proxy, call, defect):
    plant, words = DEFECTS[defect]
    plant(release)
    remedy = "" if defect in ("strange name", "extra", "hidden") else "make package"
    refused(call(release, f"{proxy.address}/models"), str(release), words, remedy)
    assert not proxy.asked


# Not there


@pytest.mark.parametrize(("weights", "address"), [
    ("tiny", "ghcr.io/bellfoundry"), ("seeded", "127.0.0.1.example.com:5000/models"),
    ("Released", "127.0.0.2:1/models")])
def test_only_released_weights_leave_this_machine(call, tmp_path, weights, address):
    refused(call(write_release(tmp_path / "dist", weights), address), f"found {weights} ones",
            "make package WEIGHTS=released")


@pytest.fixture
def safe(tmp_path):
    """What a registry at 127.0.0.2 speaks HTTPS with, and an environment that trusts it."""
    made = run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.2",
               "-addext", "subjectAltName=IP:127.0.0.2", "-keyout", tmp_path / "key.pem", "-out", tmp_path / "own.pem")
    assert made.returncode == 0, made.stderr
    return ({"tls": {"certificate": str(tmp_path / "own.pem"), "key": str(tmp_path / "key.pem")}},
            {"REQUESTS_CA_BUNDLE": str(tmp_path / "own.pem"), "no_proxy": "127.0.0.2", "NO_PROXY": "127.0.0.2"})


def test_released_weights_go_out_over_https_alone(call, safe, tmp_path):
    release = write_release(tmp_path / "dist", "released")
    tls, trusting = safe
    served = Server(tmp_path / "safe", "127.0.0.2", tls)
    try:
        assert len(pushed(call(release, f"{served.address}/models", **trusting))) == 2
        refused(call(release, f"{served.address}/models", **{**trusting, "REQUESTS_CA_BUNDLE": ""}),
                "expected HTTPS with a certificate that this machine trusts")
    finally:
        served.stop()
    served = Server(tmp_path / "open", "127.0.0.2")
    try:
        refused(call(release, f"{served.address}/models", **trusting), "HTTP alone is spoken on loopback only")
    finally:
        served.stop()


def test_a_registry_over_https_may_not_send_files_over_http(call, safe, tmp_path):
    tls, trusting = safe
    served = Server(tmp_path / "safe", "127.0.0.2", {**tls, "host": "http://127.0.0.2:1"})  # what it says that it is
    try:
        refused(call(write_release(tmp_path / "dist", "released"), f"{served.address}/models", **trusting),
                "expected to be sent to addresses with HTTPS alone", "http://127.0.0.2:1/")
    finally:
        served.stop()


def test_loopback_is_reached_without_a_proxy_and_sends_nowhere_else(release, registry, proxy, call):
    other = Proxy(registry)
    try:
        surroundings = dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy"), f"http://{other.address}")
        pushed(call(release, f"{registry.address}/models", no_proxy="", NO_PROXY="", **surroundings))
        assert not other.asked
    finally:
        other.close()

    def elsewhere(handler):
        return handler.command == "POST" and handler.reply(202, headers={"Location": "http://127.0.0.2:1/here"})

    proxy.fault = elsewhere
    refused(call(release, f"{proxy.address}/more"), "from loopback to loopback", "http://127.0.0.2:1/here")


@pytest.mark.parametrize("address", [
    "http://127.0.0.1:5000/models", "127.0.0.1:5000/models/", "localhost/models", "Example.com/models",
    "user@example.com/models", "127.0.0.1:5000/models:v1"])
def test_what_is_no_address_is_said(release, call, address):
    refused(call(release, address), f"REGISTRY={address}: expected host/path")


def test_a_tag_and_an_address_are_needed(release, call):
    refused(call(release, ""), "expected TAG=v1.0.0 and REGISTRY=host/path", "found no registry")
    refused(call(release, "127.0.0.1:1/models", tag=""), "expected TAG=v1.0.0 and REGISTRY=host/path", "found no tag")
    refused(call(release, "127.0.0.1:1/models", tag="../v1.0.0"), "TAG=../v1.0.0: expected letters")
    refused(call(release, "127.0.0.1:1/models", tag="v2.0.0"), "v2.0.0: expected a packaged release", "TAG=v2.0.0")


# Taken


def test_a_tag_that_has_other_content_is_refused_before_anything_is_pushed(release, registry, proxy, call, tmp_path):
    pushed(call(write_release(tmp_path / "older", salt="older"), f"{registry.address}/models"))
    before = {model: registry.manifest(f"models/{model}") for model in NAMES}
    shutil.rmtree(registry.folder / "data/docker/registry/v2/repositories/models/coconet")
    said = refused(call(release, f"{proxy.address}/models"), f"{proxy.address}/models/vampnet:{TAG}: expected sha256:",
                   "a release never changes")
    assert "sha256:" + hashlib.sha256(before["vampnet"]).hexdigest() in said
    assert not proxy.sent()
    assert registry.manifest("models/vampnet") == before["vampnet"] and registry.manifest("models/coconet") is None


def test_a_tag_that_is_taken_meanwhile_is_left_alone(release, registry, proxy, call, tmp_path):
    other = write_release(tmp_path / "other", salt="other")

    def overtaken(handler):
        if handler.command == "PUT" and "/models/coconet/manifests/sha256:" in handler.path:
            proxy.fault = lambda handler: None
            pushed(call(other, f"{registry.address}/models"))

    proxy.fault = overtaken
    refused(call(release, f"{proxy.address}/models"), f"models/coconet:{TAG}: expected sha256:",
            "a release never changes")


# Killed


def test_a_run_that_was_killed_at_any_moment_is_finished_by_the_next(call, tmp_path):
    release = write_release(tmp_path / "dist", size=5_000_000)
    chance = random.Random(13)
    served = Server(tmp_path / "registry")
    try:
        expected = pushed(call(release, f"{served.address}/never-killed"))
        killed, longest = 0, 1.0
        for number in range(12):
            process = start(call, release, f"{served.address}/round{number}")
            process.stdout.readline()  # the first file is on its way
            began = time.monotonic()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(0, longest))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            else:
                longest = time.monotonic() - began
            rest = process.communicate()[0]
            killed += process.returncode == -signal.SIGKILL
            for model in NAMES:  # a tag is there when all of it is, and was said only then
                raw = served.manifest(f"round{number}/{model}")
                assert raw is None or "sha256:" + hashlib.sha256(raw).hexdigest() == expected[model]
                assert raw is not None or f"/{model}@" not in rest
            assert pushed(call(release, f"{served.address}/round{number}")) == expected
        assert killed >= 6
        for model in NAMES:
            pull(f"{served.address}/round0/{model}@{expected[model]}", tmp_path / model)
            assert all(sha256(tmp_path / model / name) == sha256(release / name) for name in NAMES[model])
    finally:
        served.stop()


def start(call, release, address):
    return subprocess.Popen(
        ["scripts/in", "release", "python", "-u", "-m", "scripts.push_models", "--dist", release.parent, "--tag", TAG,
         "--registry", address], cwd=ROOT, env={**os.environ, "ENGINE": "venv", **call.home}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, preexec_fn=heed_interrupts)


def test_what_has_come_is_not_sent_again(release, proxy, call):
    def cut(handler):
        return handler.command == "PUT" and "/vampnet/" in handler.path and "/blobs/" in handler.path \
            and proxy.asked.count("POST /v2/models/vampnet/blobs/uploads/") > 3 and handler.reply(507)

    proxy.fault = cut
    refused(call(release, f"{proxy.address}/models"), "expected the answer 201, found 507")
    proxy.asked.clear()
    proxy.fault = lambda handler: None
    pushed(call(release, f"{proxy.address}/models"))
    assert sum(one.startswith("POST") for one in proxy.asked) == 1 + len(NAMES["vampnet"]) - 3


def test_ctrl_c_is_one_line(call, registry, tmp_path):
    release = write_release(tmp_path / "dist", size=5_000_000)
    process = start(call, release, f"{registry.address}/models")
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    rest = process.communicate()[0]
    assert process.returncode == 130 and rest.endswith("interrupted: what was finished is kept\n"), rest


# Failing


def test_a_registry_that_does_not_answer_is_said_at_once(release, registry, call):
    registry.stop()
    began = time.monotonic()
    refused(call(release, f"{registry.address}/models"),
            f"REGISTRY={registry.address}: expected a registry that answers", "no connection")
    assert time.monotonic() - began < 20  # and not after two minutes, as the library would


def test_a_host_that_is_no_registry_is_said(release, proxy, call):
    proxy.fault = lambda handler: handler.reply(404, b"nothing here")
    refused(call(release, f"{proxy.address}/models"), "expected a registry, found a host that answers 404 Not Found")


def test_a_registry_that_ends_in_the_middle_is_said(release, registry, proxy, call):
    def end(handler):
        if handler.command == "PUT" and "/vampnet/" in handler.path:
            registry.stop()
            handler.close_connection = True
            proxy.fault = lambda handler: setattr(handler, "close_connection", True) or True
            return True

    proxy.fault = end
    refused(call(release, f"{proxy.address}/models", code=HASTY), "expected an answer from the registry, found none",
            "3 times in a row", "push again later")
    proxy.fault = lambda handler: None
    registry.start()
    pushed(call(release, f"{proxy.address}/models"))


def busy(handler):
    return handler.reply(503, b'{"errors": [{"code": "UNKNOWN", "message": "out of\\n order"}]}')


def reset(handler):
    """The connection ends in the middle of a request."""
    handler.rfile.read(min(1000, handler.unread))
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)
    return True


def half(handler):
    """The connection ends in the middle of an answer."""
    status, body, headers = handler.passed()
    handler.reply(status, body[:len(body) // 2], {**headers, "Content-Length": str(len(body))})
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)
    return True


def silent(handler):
    time.sleep(2)
    handler.close_connection = True
    return True


WAYS = {"busy": (busy, "answers 503 Service Unavailable (out of order)"), "reset": (reset, ""),
        "half": (half, "cut off"), "silent": (silent, "no answer in time")}
PLACES = {"asking for a tag": ("GET", f"/manifests/{TAG}"), "asking for a file": ("HEAD", "/blobs/sha256:"),
          "opening": ("POST", "/blobs/uploads/"), "sending": ("PUT", "/blobs/uploads/"),
          "reading back": ("GET", "/blobs/sha256:"), "the manifest": ("PUT", "/manifests/sha256:"),
          "tagging": ("PUT", f"/manifests/{TAG}")}


def test_what_fails_for_once_is_tried_again(release, registry, proxy, call):
    """Each place is out of order the first time, and ends the connection the second time."""
    left = {place: [busy, reset] for place in PLACES}

    def twice(handler):
        for place, ways in left.items():
            if failing_at(place)(handler) and ways:
                return ways.pop(0)(handler)

    proxy.fault = twice
    patient = HASTY.replace("(0.05, 0.05)", "[0.05] * 6")  # a file has three places where it may fail
    digests = pushed(call(release, f"{proxy.address}/models", code=patient))
    assert not any(left.values()) and registry.manifest("models/coconet", digests["coconet"])


@pytest.mark.parametrize(("way", "place"), [
    *((way, "sending") for way in WAYS if way != "half"), ("busy", "asking for a tag"), ("reset", "the manifest"),
    ("half", "reading back"), ("silent", "reading back"), ("busy", "tagging")])
def test_what_fails_again_and_again_is_one_sentence(release, registry, proxy, call, way, place):
    proxy.fault = lambda handler: failing_at(place)(handler) and WAYS[way][0](handler)
    refused(call(release, f"{proxy.address}/models", code=HASTY), "3 times in a row", proxy.address, WAYS[way][1])
    assert registry.manifest("models/coconet") is None
    proxy.fault = lambda handler: None
    pushed(call(release, f"{proxy.address}/models"))


def failing_at(place):
    method, part = PLACES[place]
    return lambda handler: handler.command == method and part in handler.path


def test_a_registry_that_takes_no_files_or_does_not_say_where_is_said(release, proxy, call):
    proxy.fault = lambda handler: handler.command == "POST" and handler.reply(405)
    refused(call(release, f"{proxy.address}/models"), "expected the answer 202, found 405 Method Not Allowed")
    proxy.fault = lambda handler: handler.command == "POST" and handler.reply(202)
    refused(call(release, f"{proxy.address}/models"), "expected to be told where files go")


def test_a_file_that_changes_on_its_way_is_refused_by_the_registry(release, proxy, call):
    def change(handler):
        if failing_at("sending")(handler):
            handler.rfile = Flipped(handler.rfile)

    class Flipped:
        def __init__(self, stream):
            self.stream = stream

        def read(self, size):
            return bytes(byte ^ 1 for byte in self.stream.read(size))

        def __getattr__(self, name):
            return getattr(self.stream, name)

    proxy.fault = change
    refused(call(release, f"{proxy.address}/models"), "expected the answer 201, found 400 Bad Request",
            "digest did not match")


@pytest.mark.parametrize("place", ["reading back", "the manifest read back"])
def test_what_comes_back_changed_is_not_tagged(release, registry, proxy, call, place):
    part = {"reading back": "/blobs/sha256:", "the manifest read back": "/manifests/sha256:"}[place]

    def change(handler):
        if handler.command == "GET" and part in handler.path:
            return handler.reply(*handler.passed(lambda data: data[:-2] + bytes([data[-2] ^ 1, data[-1]])))

    proxy.fault = change
    refused(call(release, f"{proxy.address}/models"), f"{proxy.address}/models/coconet@sha256:", "is damaged")
    assert registry.manifest("models/coconet") is None


def test_a_copy_that_was_damaged_in_the_registry_is_noticed(release, registry, call):
    pushed(call(release, f"{registry.address}/models"))
    blob = registry.blob("sha256:" + sha256(release / "vampnet-c2f.npz"))
    data = bytearray(blob.read_bytes())
    data[7] ^= 1
    blob.write_bytes(data)
    refused(call(release, f"{registry.address}/models"), "expected vampnet-c2f.npz to be sha256:", "is damaged")


# Not let in


@pytest.fixture
def closed(tmp_path):
    """A registry that asks for a password."""
    (tmp_path / "passwords").write_text(PASSWORD)
    served = Server(tmp_path / "closed",
                    auth={"htpasswd": {"realm": "the foundry", "path": str(tmp_path / "passwords")}})
    yield served
    served.stop()


def test_a_registry_wants_a_password(release, closed, call, tmp_path):
    address = f"{closed.address}/models"
    said = refused(call(release, address), f"{address}/coconet: expected leave to push, found 401 Unauthorized",
                   f"docker login {closed.address}")
    said += refused(call(release, address, **{**KNOWN, "ORAS_PASS": "secret1"}), "expected leave to push")
    assert "secret" not in said
    noted = tmp_path / "home/.docker/config.json"
    noted.parent.mkdir()
    for text in ("{", "[]", '{"auths": 3}'):
        noted.write_text(text)
        refused(call(release, address), "~/.docker/config.json: expected what docker login writes")
    noted.write_text(json.dumps({"credsStore": "none-such"}))
    refused(call(release, address), "expected leave to push")
    noted.write_text(json.dumps({"auths": {closed.address: {"auth": base64.b64encode(b"somebody:secret").decode()}}}))
    digests = pushed(call(release, address))
    noted.unlink()
    assert pushed(call(release, address, **KNOWN)) == digests


class Tokens:
    """Makes a proxy want tokens, as registries of many users do: each for one repository, for some requests only."""

    def __init__(self, proxy, uses):
        self.proxy, self.uses, self.given, self.asked = proxy, uses, {}, []
        proxy.fault = self.answer

    def answer(self, handler):
        if handler.path.startswith("/token"):
            known = handler.headers.get("Authorization") == "Basic " + base64.b64encode(b"somebody:secret").decode()
            scope = parse_qs(urlsplit(handler.path).query)["scope"][0]
            self.asked.append(scope)
            may = scope if known else scope.replace("pull,push", "pull")  # everybody may read
            token = f"token-{len(self.given)}"
            self.given[token] = [self.uses, may]
            return handler.reply(200, json.dumps({"token": token}).encode())
        token = self.given.get(handler.headers.get("Authorization", "").removeprefix("Bearer "), [0, ""])
        token[0] -= 1
        repository = "/".join(urlsplit(handler.path).path.split("/")[2:4])
        wanted = "push" if handler.command in ("POST", "PUT") else "pull"
        if token[0] >= 0 and (repository == "" or (f":{repository}:" in token[1] and wanted in token[1])):
            return False
        return handler.reply(401, b'{"errors": [{"message": "authentication required"}]}', {
            "WWW-Authenticate": f'Bearer realm="http://{self.proxy.address}/token",service="foundry",'
                                f'scope="repository:{repository}:{wanted}"'})


@pytest.mark.parametrize("uses", [1, 2, 1000])
def test_tokens_are_asked_for_and_renewed(release, registry, proxy, call, uses):
    expected = pushed(call(release, f"{registry.address}/elsewhere"))
    tokens = Tokens(proxy, uses)
    assert pushed(call(release, f"{proxy.address}/models", **KNOWN)) == expected
    assert set(tokens.asked) == {f"repository:models/{model}:pull,push" for model in NAMES}
    assert len(tokens.asked) == 2 if uses == 1000 else len(tokens.asked) > 10


def test_who_may_only_read_is_not_let_in(release, proxy, call):
    Tokens(proxy, 1000)
    said = refused(call(release, f"{proxy.address}/models"), "expected leave to push", "authentication required")
    assert "ORAS_USER" in said
    proxy.fault = lambda handler: handler.path.startswith("/v2/models") and handler.reply(403)
    refused(call(release, f"{proxy.address}/models", **KNOWN), "expected leave to push, found 403 Forbidden")


def test_no_other_host_is_told_who_is_asking(release, registry, proxy, call):
    tokens, other = Tokens(proxy, 1000), Proxy(registry)
    heard = []

    def curious(handler):
        heard.append(handler.headers.get("Authorization"))
        return handler.reply(401, headers={"WWW-Authenticate": f'Bearer realm="http://{other.address}/token"'})

    def elsewhere(handler):
        return handler.reply(202, headers={"Location": f"http://{other.address}/here"}) \
            if handler.command == "POST" else tokens.answer(handler)

    proxy.fault, other.fault = elsewhere, curious
    try:
        refused(call(release, f"{proxy.address}/models", **KNOWN), "expected leave to push, found 401")
    finally:
        other.close()
    assert other.asked == ["PUT /here"] and heard == [None] and tokens.asked
