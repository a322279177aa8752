"""`make push-models`: the models of a packaged release, dist/<tag>/, as OCI artifacts in a registry, one a model.

REGISTRY/<model>:<tag> holds a model's card, its artifacts, the weights beside them and its test vectors, each a layer
under its file's name; its annotations say what it is, whose, under which licence and from which commit. The manifest
is a function of that alone, so equal files have an equal digest, by which it is printed, and pulled into a folder:

    oras pull REGISTRY/coconet@sha256:…

(The program oras compares what it pulls with the digests; the Python library of that name doesn't: after that,
`sha256sum --check --ignore-missing` with the release's SHA256SUMS does.)

Only a whole release is pushed, and only weights of the kind `released` leave this machine. A tag never changes: it is
set when everything has been read back, and one that has other content is refused. What the registry has isn't sent
again, so a run that was killed is finished by the next one. Whom to push as is read from ORAS_USER and ORAS_PASS, or
else from what `docker login` has noted in ~/.docker/config.json. Runs in the toolchain `release`.
"""

import contextlib
import functools
import hashlib
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urljoin, urlsplit

import oras.auth.utils
import oras.defaults
import oras.provider
import oras.utils
import requests
from oras.auth import BasicAuth, TokenAuth, get_auth_backend
from oras.auth.base import AuthBackend
from oras.container import Container
from requests.adapters import HTTPAdapter

from scripts import command, gates, manifest
from scripts.images import SOURCE
from scripts.job import Refusal, progress
from scripts.transfer import BUSY, Interrupted, reason

LOOPBACK = {"127.0.0.1", "[::1]", "localhost"}
SILENT = (15, 300)  # seconds that a registry may take to connect, and to answer: it may hash for a while
PAUSES = (1, 5, 25)  # seconds before what was cut short is tried again
BLOCK = 1 << 20

ARTIFACT = "application/vnd.bellfoundry.model.v1"
EMPTY = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": oras.defaults.blank_config_hash, "size": 2}
# By suffix, so that a client can take the graphs, or the card, alone. IANA registers no type for ONNX: this one names
# the vendor, as such types do. Weights and vectors mean nothing without the graph that reads them.
TYPES = {".onnx": "application/vnd.onnx.model", ".md": "text/markdown"}
OTHER = "application/octet-stream"

TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
ADDRESS = re.compile(r"(?P<host>\[[0-9a-f:]+\]|[a-z0-9-]+(?:\.[a-z0-9-]+)*)(?::\d+)?"
                     r"(?:/[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*)*")

Told = dict[str, Any]
Brought = TypeVar("Brought")


class Artifact(NamedTuple):
    """A model as it is to be in the registry."""
    container: Container  # its address there
    layers: list[Told]
    manifest: bytes

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)

    @property
    def pinned(self) -> str:
        return f"{self.container.registry}/{self.container.api_prefix}@{self.digest}"


class Registry(oras.provider.Registry):
    """The library's registry, but for how it asks and how it sends a file; all else that it does goes through these.

    (The library's own waits for a silent registry for ever, asks one that lets nobody in for two minutes, keeps a
    token that has run out or was for reading, signs what goes to other hosts, and reads a file whole.)
    """
    container: Container  # where a token must let us push

    def do_request(self, url: str, method: str = "GET", data: Any = None, headers: dict[str, str] | None = None,
                   json: Told | None = None, stream: bool = False) -> requests.Response:
        """Ask, and sign in where the registry wants that. data: bytes, or an open file, which is sent block by block.

        Raises Interrupted where another attempt may be answered, and Refusal where none will be.
        """
        told = {"data": data, "json": json, "stream": stream}
        answer = self.ask(method, url, headers, **told)
        if answer.status_code == 401 and self.sign_in(answer):
            answer = self.ask(method, url, headers, **told)
        if answer.status_code in (401, 403):
            raise Refusal(f"{self.hostname}/{self.container.api_prefix}: expected leave to push, found {said(answer)}: "
                          f"run docker login {self.hostname}, or set ORAS_USER and ORAS_PASS")
        if answer.status_code in BUSY:
            raise Interrupted(f"{self.hostname} answers {said(answer)}")
        return answer

    def ask(self, method: str, url: str, headers: dict[str, str] | None, **told: Any) -> requests.Response:
        """One request, signed if it goes to the registry itself."""
        signed = self.auth.get_auth_header() if self.owns(url) else {}
        if hasattr(told["data"], "seek"):
            told["data"].seek(0)
        with failing(self.hostname):
            return self.session.request(method, url, headers={**(headers or {}), **signed}, **told)

    def owns(self, url: str) -> bool:
        """Whether an address is the registry's own, and not another host's that it or a redirect named."""
        return urlsplit(url).netloc == self.hostname

    def sign_in(self, answer: requests.Response) -> bool:
        """Whether there is something new to sign with, of the kind that an answer wants: a token, or a password."""
        if not self.owns(answer.url):
            return False
        challenge = answer.headers.get("WWW-Authenticate", "")
        if challenge.lower().startswith("basic "):
            known = introduced("basic", self)
            if isinstance(self.auth, BasicAuth) or not hasattr(known, "_basic_auth"):
                return False
            self.auth = known
            return True
        wanted = oras.auth.utils.parse_auth_header(challenge)
        if not wanted.realm or not isinstance(self.auth, TokenAuth):
            return False
        wanted.scope = f"repository:{self.container.api_prefix}:pull,push"
        with failing(self.hostname):
            token = self.auth.request_token(wanted)
        self.auth.set_token_auth(token)
        return bool(token)

    def put_upload(self, blob: str, container: Container, layer: Told) -> requests.Response:
        """Send a file in one request, which every registry takes: GitHub's takes no chunks of more than 4 MiB."""
        if "annotations" in layer:
            progress(f"  {container.repository:<12} {Path(blob).name}, {layer['size']:,} bytes")
        opened = self.do_request(f"{self.prefix}://{container.upload_blob_url()}", "POST")
        require(opened, 202)
        if "Location" not in opened.headers:
            raise Refusal(f"{self.hostname}: expected to be told where files go, found no such address in its answer: "
                          "ask whoever runs the registry")
        place = urljoin(opened.url, opened.headers["Location"])
        with open(blob, "rb") as file:
            return self.do_request(oras.utils.append_url_params(place, {"digest": layer["digest"]}), "PUT", data=file,
                                   headers={"Content-Type": OTHER})


def push(folder: Path, tag: str, address: str) -> None:
    """Push the models of a release's folder to an address, host/path, and print each by its digest.

    Raises Refusal where the release isn't whole or may not go there, a tag is taken, or the registry fails.
    """
    require_place(address)
    if not TAG.fullmatch(tag):
        raise Refusal(f"TAG={tag}: expected letters, digits, dots and dashes, for instance v1.0.0")
    known = whole(folder)
    told = release(folder, tag)
    if told["weights"] != "released" and not local(address):
        raise Refusal(f"{folder}: expected the weights that go out to others to be released ones, found "
                      f"{told['weights']} ones: run make package WEIGHTS=released TAG={tag}, or push to a registry on "
                      "this machine, for instance REGISTRY=127.0.0.1:5000/models")
    artifacts = [artifact(model, told, folder, known, address) for model in told["models"]]
    opened = [(connect(one.container), one) for one in artifacts]
    for registry, one in opened:
        tagged(registry, one)
    for registry, one in opened:
        put(registry, one, folder)


def whole(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file of a release. Raises Refusal unless they are those of its SHA256SUMS, and no others."""
    if not (folder / gates.SUMS).is_file():
        raise Refusal(f"{folder}: expected a packaged release with its {gates.SUMS}, found none: run make package "
                      f"TAG={folder.name}")
    known = gates.recorded(folder)
    found = {path.name: manifest.sha256(path) if path.is_file() else "" for path in folder.iterdir()}
    if flaw := gates.hashes(folder, known, found):
        raise Refusal(flaw)
    return known


def release(folder: Path, tag: str) -> Told:
    """What a release's manifest.json tells."""
    try:
        told = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        found, _, _, (_, *_) = (told[key] for key in ("version", "weights", "commit", "models"))  # one model at least
    except (OSError, ValueError, KeyError, TypeError):
        raise Refusal(f"{folder}/manifest.json: expected what make package writes, found something else: run make "
                      f"package TAG={tag} again") from None
    if found != tag:
        raise Refusal(f"{folder}/manifest.json: expected the release {tag}, found {found}: run make package TAG={tag}")
    return told


def artifact(model: str, told: Told, folder: Path, known: dict[str, str], address: str) -> Artifact:
    """A model of a release as an OCI artifact. told: the release's manifest.json; known: its SHA256SUMS."""
    try:
        own = told["models"][model]
        hashes = {one["file"]: one["sha256"] for one in own["artifacts"]}
        beside = {one["weights_file"] for one in own["artifacts"] if one.get("weights_file")}
        names = sorted({own["card"], *own["vectors"], *hashes, *beside})
        annotations = {
            "org.opencontainers.image.title": own["title"],
            "org.opencontainers.image.description": own["task"],
            "org.opencontainers.image.version": told["version"],
            "org.opencontainers.image.licenses": own["weights_licence"],
            "org.opencontainers.image.authors": own["attribution"],
            "org.opencontainers.image.url": own["upstream"],
            "org.opencontainers.image.source": SOURCE,
            "org.opencontainers.image.revision": told["commit"],
            "bellfoundry.weights": told["weights"],
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise Refusal(f"{folder}/manifest.json: expected of {model} what make package writes, found none of it at "
                      f"{error}: run make package TAG={told['version']} again") from None
    for name in names:
        if name not in known or hashes.get(name, known[name]) != known[name]:
            raise Refusal(f"{folder}/manifest.json: expected of {model} only files that {gates.SUMS} tells, found "
                          f"{name} otherwise: run make package TAG={told['version']} again")
    if not ADDRESS.fullmatch(f"{address}/{model}"):
        raise Refusal(f"{folder}/manifest.json: expected models with names of small letters, digits, dots and dashes, "
                      f"as registries have them, found {model!r}: rename the folder in models/")
    layers = [{"mediaType": TYPES.get(Path(name).suffix, OTHER), "digest": f"sha256:{known[name]}",
               "size": (folder / name).stat().st_size, "annotations": {oras.defaults.annotation_title: name}}
              for name in names]
    described = {"schemaVersion": 2, "mediaType": oras.defaults.default_manifest_media_type, "artifactType": ARTIFACT,
                 "config": EMPTY, "layers": layers, "annotations": annotations}
    return Artifact(Container(f"{address}/{model}:{told['version']}"), layers,
                    json.dumps(described, sort_keys=True, separators=(",", ":")).encode())


def require_place(address: str) -> None:
    """Raises Refusal for what isn't host/path, with a dot or a port in the host, by which it isn't taken for a path."""
    if not ADDRESS.fullmatch(address) or not re.search("[.:]", address.partition("/")[0]):
        raise Refusal(f"REGISTRY={address}: expected host/path in small letters, for instance ghcr.io/bellfoundry or "
                      "localhost:5000/models, found something else: mend it")


def local(address: str) -> bool:
    """Whether an address is on this machine: there plain HTTP is spoken, and anything may go."""
    return ADDRESS.fullmatch(address)["host"] in LOOPBACK


def connect(container: Container) -> Registry:
    """The registry of an address. Over HTTPS alone; or on loopback alone, without proxies."""
    inside = local(container.registry)
    registry = Registry(container.registry, insecure=inside)
    registry.container = container
    session = registry.session
    session.request = functools.partial(session.request, timeout=SILENT)
    session.trust_env = not inside
    session.adapters.clear()
    host = ADDRESS.fullmatch(container.registry)["host"]
    for reached in (f"http://{host}:", f"http://{host}/") if inside else ("https://",):
        session.mount(reached, HTTPAdapter())
    registry.auth = introduced("token", registry)
    try:
        answer = registry.do_request(f"{registry.prefix}://{container.registry}/v2/")
    except Interrupted as cut:
        raise Refusal(f"REGISTRY={container.registry}: expected a registry that answers, found none ({cut}): start "
                      "it, or mend REGISTRY") from cut
    if answer.status_code != 200:
        raise Refusal(f"REGISTRY={container.registry}: expected a registry, found a host that answers {said(answer)}: "
                      "mend REGISTRY")
    return registry


def introduced(kind: str, registry: Registry) -> AuthBackend:
    """What signs requests to a registry, of a kind that the library knows; told who is asking, if that is known."""
    made = get_auth_backend(kind, registry.session, registry.prefix == "http")
    user, password = os.environ.get("ORAS_USER"), os.environ.get("ORAS_PASS")
    if user and password:
        made.set_basic_auth(user, password)
        return made
    try:
        made.load_configs(registry.container)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise Refusal("~/.docker/config.json: expected what docker login writes, and a helper that answers, found "
                      f"something else: run docker login {registry.hostname}, or set ORAS_USER and "
                      "ORAS_PASS") from None
    return made


def tagged(registry: Registry, one: Artifact) -> bool:
    """Whether an artifact has its tag already. Raises Refusal where something else has it."""
    there = found_at(registry, one.container, one.container.tag)
    if there not in (None, one.manifest):
        raise Refusal(f"{one.container}: expected {one.digest} there, or nothing, found {digest_of(there)}: a release "
                      "never changes, give this one another TAG")
    return there is not None


def put(registry: Registry, one: Artifact, folder: Path) -> None:
    """Send what the registry lacks of an artifact, read all of it back, and tag it then."""
    for layer in one.layers:
        name = layer["annotations"][oras.defaults.annotation_title]
        require(patiently(registry.upload_blob, str(folder / name), one.container, layer), 200, 201)
    with oras.provider.temporary_empty_config() as empty:
        require(patiently(registry.upload_blob, empty, one.container, EMPTY), 200, 201)
    put_manifest(registry, one, one.digest)
    prove(registry, one)
    if tagged(registry, one):
        print(f"{one.pinned} was there already")
        return
    put_manifest(registry, one, one.container.tag)
    if not tagged(registry, one):
        raise Refusal(f"{one.container}: expected the tag that was set, found none: push again")
    print(f"pushed {one.pinned}", flush=True)


def put_manifest(registry: Registry, one: Artifact, reference: str) -> None:
    """Put an artifact's manifest under its digest, or under a tag."""
    url = f"{registry.prefix}://{one.container.manifest_url(reference)}"
    require(patiently(registry.do_request, url, "PUT", one.manifest,
                      {"Content-Type": oras.defaults.default_manifest_media_type}), 201)


def found_at(registry: Registry, container: Container, reference: str) -> bytes | None:
    """The manifest that a registry has under a digest or a tag, whosever it is, or None."""
    answer = patiently(registry.do_request, f"{registry.prefix}://{container.manifest_url(reference)}", "GET", None,
                       {"Accept": ", ".join(oras.defaults.default_manifest_accepted_media_types)})
    if answer.status_code == 404:
        return None
    require(answer, 200)
    return answer.content


def prove(registry: Registry, one: Artifact) -> None:
    """Raises Refusal unless a registry gives an artifact back as it was sent, its manifest and every layer."""
    remedy = "the registry's copy is damaged, have it deleted there and push again"
    there = found_at(registry, one.container, one.digest)
    if there != one.manifest:
        found = "none" if there is None else digest_of(there)
        raise Refusal(f"{one.pinned}: expected the manifest back that was sent, found {found}: {remedy}")
    for layer in (EMPTY, *one.layers):
        if (found := patiently(read_back, registry, one.container, layer["digest"])) != layer["digest"]:
            name = layer.get("annotations", {}).get(oras.defaults.annotation_title, "the empty configuration")
            raise Refusal(f"{one.pinned}: expected {name} to be {layer['digest']}, found {found}: {remedy}")


def read_back(registry: Registry, container: Container, digest: str) -> str:
    """The digest of what a registry gives for one."""
    running = hashlib.sha256()
    with registry.get_blob(container, digest, stream=True) as answer:
        require(answer, 200)
        with failing(registry.hostname):
            for block in answer.iter_content(BLOCK):
                running.update(block)
    return f"sha256:{running.hexdigest()}"


def patiently(attempt: Callable[..., Brought], *told: Any) -> Brought:
    """What an attempt returns, made again where it is cut short. Raises Refusal when it always is."""
    for pause in (*PAUSES, None):
        try:
            return attempt(*told)
        except Interrupted as cut:
            if pause is None:
                raise Refusal(f"expected an answer from the registry, found none, {len(PAUSES) + 1} times in a row: "
                              f"{cut}: push again later, which goes on where this ended") from cut
            progress(f"  {cut}: trying again in {pause:g} s")
            time.sleep(pause)


@contextlib.contextmanager
def failing(host: str) -> Iterator[None]:
    """Requests that fail are Interrupted; Refusal where no other attempt would help."""
    try:
        yield
    except requests.exceptions.SSLError as error:
        raise Refusal(f"{host}: expected HTTPS with a certificate that this machine trusts, found none: set "
                      "REQUESTS_CA_BUNDLE to your network's certificates; HTTP alone is spoken on loopback "
                      "only") from error
    except requests.exceptions.InvalidSchema as error:
        raise Refusal(f"{host}: expected to be sent to addresses with HTTPS alone, or from loopback to loopback, found "
                      f"another ({error}): have whoever runs the registry mend that") from error
    except requests.exceptions.ChunkedEncodingError as error:
        raise Interrupted(f"{host}: cut off") from error
    except requests.RequestException as error:
        raise Interrupted(f"{host}: {reason(error)}") from error


def require(answer: requests.Response, *expected: int) -> None:
    """Raises Refusal for an answer of another status than those that are expected."""
    if answer.status_code not in expected:
        raise Refusal(f"{answer.url.partition('?')[0]}: expected the answer {expected[-1]}, found {said(answer)}: "
                      "push again, and if that doesn't help ask whoever runs the registry")


def said(answer: requests.Response) -> str:
    """The status of an answer, with the registry's own words for it."""
    try:
        words = "; ".join(error["message"] for error in answer.json()["errors"])
    except (OSError, ValueError, KeyError, TypeError):
        words = ""
    return " ".join(f"{answer.status_code} {answer.reason}{f' ({words})' * bool(words)}".split())[:300]


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def main() -> int:
    parser = command.Parser(prog="scripts.push_models", description=__doc__)
    parser.add_argument("--tag", default="")
    parser.add_argument("--registry", default="")
    parser.add_argument("--dist", type=Path, default=Path("dist"))
    asked = parser.parse_args()
    if not asked.tag or not asked.registry:
        raise Refusal("expected TAG=v1.0.0 and REGISTRY=host/path, which make push-models needs, found "
                      f"{'no registry' if asked.tag else 'no tag'}: give both")
    logging.getLogger("oras").setLevel(logging.CRITICAL)  # what goes wrong is said here
    push(asked.dist / asked.tag, asked.tag, asked.registry)
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
