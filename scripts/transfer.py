"""One file over HTTP: resumed where it was cut off, tried again while that helps, given up in time.

requests speaks HTTP, through proxies and TLS, and urllib3's Retry says how long to wait. What has come lies in
NAME.partial until the caller has proven it; NAME.partial.json beside it holds what tells that the host's file is still
the same. (Pooch, the usual choice for files of known hashes, starts over wherever it was cut off, and waits for a host
that trickles.)
"""

import json
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import requests
from urllib3.exceptions import HTTPError, IncompleteRead, InvalidHeader, MaxRetryError, ProtocolError, ReadTimeoutError
from urllib3.util.retry import Retry

from scripts.job import Refusal
from scripts.unpack import MOST_BYTES

BLOCK = 1 << 16
BUSY = {408, 425, 429, 500, 502, 503, 504}
OTHER = "the host has another file there, try another host with MIRROR=, or give the file with SOURCES=folder"


class Patience(NamedTuple):
    """How long a host may take, in seconds."""
    connecting: float = 15
    silent: float = 30  # without a byte
    slow: float = 30  # with fewer than `least` bytes
    least: int = 30_000
    attempts: int = 6  # in a row that bring fewer than `least` bytes
    pause: float = 1  # half of that before the third attempt; doubled before each after it
    longest: float = 120  # that a host may tell to wait


PATIENCE = Patience()


class Interrupted(Exception):
    """A transfer that may go on if it is tried again. `wait`: how long the host asks for, in seconds."""
    def __init__(self, reason: str, wait: float | None = None):
        super().__init__(reason)
        self.wait = wait


class Arrived(NamedTuple):
    """A whole file that nobody has proven yet."""
    partial: Path
    resumed: bool
    published: dict[str, str]  # hashes that its host tells of it
    page: bool  # whether the host calls it HTML


def session() -> requests.Session:
    """A session that asks for bytes as they lie on the host; proxies and certificates are those of the environment."""
    made = requests.Session()
    made.max_redirects = 5
    made.headers.update({"Accept-Encoding": "identity", "User-Agent": "bellfoundry"})
    return made


def transfer(web: requests.Session, url: str, target: Path, size: int | None = None, most: int = MOST_BYTES,
             patience: Patience = PATIENCE, tick: Callable[[int], object] = lambda count: None,
             tell: Callable[[str], object] = print) -> Arrived:
    """Bring a file beside its target. size: in bytes, where it is known, and else `most`; tick: told of bytes as they
    come, or are lost, and while nothing comes; what it raises ends the transfer.

    Raises Refusal where it can't be had, at the latest when `attempts` in a row bring next to nothing.
    """
    patient = Retry(total=patience.attempts - 1, backoff_factor=patience.pause, backoff_max=patience.longest,
                    backoff_jitter=patience.pause)
    retry = patient
    while True:
        before = held(target)
        try:
            return attempt(web, url, target, size, most, patience, tick)
        except Interrupted as cut:
            try:
                retry = (patient if held(target) - before >= patience.least else retry).increment("GET", url, error=cut)
            except MaxRetryError:
                raise Refusal(f"{url}: {cut}, {patience.attempts} times in a row: try again later, or give the file "
                              "with SOURCES=folder") from cut
            tell(f"{target.name}: {cut}, trying again")
            pause(retry.get_backoff_time() if cut.wait is None else cut.wait, tick)


def pause(seconds: float, tick: Callable[[int], object]) -> None:
    """Wait, and let the caller end that: it does so by what it raises where it is told of no byte."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        tick(0)
        time.sleep(min(left, 0.5))


def partial_of(target: Path) -> Path:
    return target.with_name(target.name + ".partial")


def note_of(target: Path) -> Path:
    return target.with_name(target.name + ".partial.json")


def held(target: Path) -> int:
    """How many bytes of a file have come."""
    return partial_of(target).stat().st_size if partial_of(target).is_file() else 0


def discard(target: Path) -> None:
    """Remove what has come of a file."""
    partial_of(target).unlink(missing_ok=True)
    note_of(target).unlink(missing_ok=True)


def attempt(web: requests.Session, url: str, target: Path, size: int | None, most: int, patience: Patience,
            tick: Callable[[int], object]) -> Arrived:
    """Bring what is missing of a file in one request. Raises Interrupted where another may bring more."""
    start, validator = resumable(target, url)
    wanted = {"Range": f"bytes={start}-", "If-Range": validator} if start else {}
    try:
        with web.get(url, headers=wanted, stream=True, timeout=(patience.connecting, patience.silent)) as response:
            require_file(url, response, patience)
            if response.status_code == 416 and response.headers.get("Content-Range") == f"bytes */{start}":
                return Arrived(partial_of(target), True, published(response), False)  # it was whole already
            if response.status_code != 200 and not continues(response, start, validator):
                tick(-start)
                discard(target)
                raise Interrupted("the host's file has changed meanwhile")
            if response.status_code == 200:
                tick(-start)
                start = 0
            announced = response.headers.get("Content-Length", "")
            total = start + int(announced) if announced.isdigit() else size
            if size is not None and total != size:
                discard(target)
                raise Refusal(f"{url}: expected {size:,} bytes, found {total:,}{' of an HTML page' * page(response)}: "
                              f"{OTHER}")
            most = most if size is None else size
            if total is not None and total > most:
                discard(target)
                raise Refusal(f"{url}: expected {most:,} bytes at most, found {total:,}: {OTHER}")
            note_of(target).write_text(json.dumps({"url": url, "validator": validator_of(response)}))
            with partial_of(target).open("ab" if start else "wb") as file:
                for block in blocks(response, patience):
                    file.write(block)
                    tick(len(block))
                    if (start := start + len(block)) > most:
                        discard(target)
                        raise Refusal(f"{url}: expected {most:,} bytes at most, found more: {OTHER}")
            return Arrived(partial_of(target), response.status_code == 206, published(response), page(response))
    except requests.TooManyRedirects:
        raise Refusal(f"{url}: expected a file, found redirects without end: try another host with MIRROR=") from None
    except requests.exceptions.SSLError as error:
        raise Refusal(f"{url}: expected a certificate that this machine trusts, found none ({reason(error)}): set "
                      "REQUESTS_CA_BUNDLE to your network's certificates") from error
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema,
            requests.exceptions.MissingSchema) as error:
        raise Refusal(f"{url}: expected the address of a file, found none ({error}): mend it") from error
    except (requests.RequestException, HTTPError) as error:
        raise Interrupted(reason(error)) from error


def resumable(target: Path, url: str) -> tuple[int, str | None]:
    """How many bytes can stay and what the host must say of the file for that; or 0 where nothing would tell."""
    try:
        note = json.loads(note_of(target).read_text())
        validator = note["validator"] if note["url"] == url else None
    except (OSError, ValueError, KeyError, TypeError):
        validator = None
    return (held(target), validator) if validator else (0, None)


def validator_of(response: requests.Response) -> str | None:
    """What tells this file from another of the same name (RFC 9110, 13.1.5): a strong tag, or else its date."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")


def continues(response: requests.Response, start: int, validator: str | None) -> bool:
    """Whether an answer goes on where the partial file ends, with the same file."""
    there = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
    return response.status_code == 206 and there and validator_of(response) in (validator, None)


def require_file(url: str, response: requests.Response, patience: Patience) -> None:
    """Raises Interrupted where the host is busy, and Refusal where it has no such file to give."""
    if url.startswith("https:") and not response.url.startswith("https:"):
        raise Refusal(f"{url}: expected an answer over https, found a redirect to {response.url}: try another host "
                      "with MIRROR=")
    code = response.status_code
    if code in BUSY:
        try:
            wait = Retry().get_retry_after(response.raw)
        except InvalidHeader:
            wait = None
        if wait is not None and wait > patience.longest:
            raise Refusal(f"{url}: the host is busy ({code}) and asks to come back in {wait:.0f} seconds: do so, or "
                          "try another with MIRROR=")
        raise Interrupted(f"the host is busy ({code} {response.reason})", wait)
    if code not in (200, 206, 416):  # 416: the file has become shorter than what is here
        raise Refusal(f"{url}: expected a file, found {code} {response.reason}: try another host with MIRROR=, or give "
                      "the file with SOURCES=folder")


def blocks(response: requests.Response, patience: Patience) -> Iterator[bytes]:
    """The bytes of an answer as they come, undecoded. Raises Interrupted where they only trickle."""
    came, since = 0, time.monotonic()
    while block := response.raw.read1(BLOCK, decode_content=False):
        yield block
        came += len(block)
        if time.monotonic() - since > patience.slow:
            if came < patience.least:
                raise Interrupted(f"the host is too slow, {came:,} bytes in {patience.slow:.0f} seconds")
            came, since = 0, time.monotonic()


def page(response: requests.Response) -> bool:
    """Whether the host calls its answer an HTML page."""
    return response.headers.get("Content-Type", "").startswith("text/html")


def published(response: requests.Response) -> dict[str, str]:
    """The hashes that Google's hosts tell of a file in a header, x-goog-hash: md5=…, crc32c=… in base 64."""
    pairs = (pair.strip().partition("=") for pair in response.headers.get("x-goog-hash", "").split(","))
    try:
        return {name: b64decode(value).hex() for name, _, value in pairs if name in ("md5", "crc32c")}
    except ValueError:
        return {}  # which tells nothing


def reason(error: Exception) -> str:
    """Why a request failed, in a few words."""
    kinds = ((requests.ConnectTimeout, "no connection in time"), (requests.Timeout, "no answer in time"),
             (ReadTimeoutError, "no byte in time"), (requests.exceptions.ProxyError, "the proxy doesn't answer"),
             (requests.ConnectionError, "no connection"), ((IncompleteRead, ProtocolError), "cut off"))
    return next((words for kind, words in kinds if isinstance(error, kind)), str(error))
