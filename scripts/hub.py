"""GitHub, spoken to with patience: what it answers is a result, a trouble that may pass, or a sentence on what to mend.

PyGithub speaks to it, without its own retries: those would send a request again without a look at what became of it.
Here whole steps are taken again, each of which looks first at what is there.
"""

import json
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

import requests
from github import Auth, Github, GithubException, RateLimitExceededException
from urllib3.exceptions import ProtocolError

from scripts import transfer
from scripts.job import Refusal, progress

TROUBLES = (GithubException, requests.RequestException, json.JSONDecodeError)
LATER = "run make publish again later, it goes on from here"
T = TypeVar("T")


class Patience(NamedTuple):
    """How long GitHub may take, in seconds."""
    answering: int = 30
    receiving: int = 300  # without a byte, or an answer to the last one
    attempts: int = 5  # in a row that bring nothing
    pause: float = 2  # before the second attempt; doubled before each after it
    limited: float = 60  # where it limits requests and doesn't say for how long
    longest: float = 900  # that it may tell to wait
    between: float = 0.25  # requests
    between_writes: float = 1


PATIENCE = Patience()


class Way(NamedTuple):
    """Which GitHub, where on it, as whom, and with how much patience."""
    api: str
    repository: str
    token: str
    patience: Patience


class Passing(Exception):
    """A trouble that may pass. `wait`: how long GitHub asks for, in seconds."""
    def __init__(self, reason: str, wait: float | None = None):
        super().__init__(reason)
        self.wait = wait


def way_of(environment: Mapping[str, str], patience: Patience) -> Way:
    """The way that GITHUB_API_URL, GITHUB_REPOSITORY and GITHUB_TOKEN tell. Raises Refusal where they tell none."""
    api, repository, token = (environment.get(f"GITHUB_{name}") or "" for name in ("API_URL", "REPOSITORY", "TOKEN"))
    api = (api or "https://api.github.com").rstrip("/")
    if not private(api):
        raise Refusal(f"GITHUB_API_URL: expected an address that begins with https://, found {api}: mend it, so that "
                      "nobody on the way reads the token")
    if len(repository.split("/")) != 2 or not all(repository.split("/")):
        raise Refusal(f"GITHUB_REPOSITORY: expected owner/name, found {repository or 'nothing'}: set it to the "
                      "repository to publish in")
    if not token:
        raise Refusal("GITHUB_TOKEN: expected a token that may write the repository's contents, found nothing: set it")
    return Way(api, repository, token, patience)


def private(address: str) -> bool:
    """Whether nobody on the way to an address reads along."""
    try:
        parts = urlsplit(address)
        return bool(parts.hostname) and parts.port != 0 and (
            parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost")))
    except ValueError:
        return False


def client(way: Way, host: str | None = None, timeout: int | None = None) -> Github:
    """A client of the API, or of another host. No two threads may use one: it would mix up their requests."""
    return Github(auth=Auth.Token(way.token), base_url=host or way.api, timeout=timeout or way.patience.answering,
                  user_agent="bellfoundry", per_page=100, retry=None,
                  seconds_between_requests=way.patience.between, seconds_between_writes=way.patience.between_writes)


def again(way: Way, step: Callable[[], T]) -> T:
    """The result of a step, which is taken again while that may help. Raises Refusal where it doesn't."""
    attempt = 0
    while True:
        try:
            return step()
        except TROUBLES as error:
            trouble = judged(way, error)
            if isinstance(trouble, Refusal):
                raise trouble from error
            attempt += 1
            persist(way, attempt, trouble)


def persist(way: Way, attempt: int, trouble: Passing) -> None:
    """Wait after an attempt that brought nothing, as long as GitHub asks for. Raises Refusal after the last one."""
    if attempt >= way.patience.attempts:
        raise Refusal(f"{way.api}: {trouble}, {attempt} times in a row: {LATER}")
    wait = way.patience.pause * 2 ** (attempt - 1) if trouble.wait is None else trouble.wait
    if wait > way.patience.longest:
        raise Refusal(f"{way.api}: {trouble} for {wait:.0f} seconds more: {LATER}")
    progress(f"{trouble}: trying again in {wait:.0f} s")
    time.sleep(wait)


def judged(way: Way, error: Exception) -> Passing | Refusal:
    """What an error means: a trouble that may pass, or a sentence on what to mend."""
    if isinstance(error, GithubException):
        limited = isinstance(error, RateLimitExceededException)
        return answered(way, error.status, error.headers or {}, said(error), limited)
    if isinstance(error, requests.HTTPError):
        return answered(way, error.response.status_code, error.response.headers, error.response.reason, False)
    if isinstance(error, requests.exceptions.SSLError):
        return Refusal(f"{way.api}: expected a certificate that this machine trusts, found none "
                       f"({transfer.reason(error)}): set REQUESTS_CA_BUNDLE to your network's certificates")
    cut = error.args and isinstance(error.args[0], ProtocolError)
    return Passing(transfer.reason(error.args[0] if cut else error))


def answered(way: Way, status: int, headers: Mapping[str, str], words: str, limited: bool) -> Passing | Refusal:
    """What an answer means that is an error. limited: whether it says that requests are limited."""
    wait = asked_wait(headers)
    if status == 429 or (status == 403 and (limited or wait is not None)):
        return Passing(f"GitHub limits requests ({status})", way.patience.limited if wait is None else wait)
    if status >= 500 or status == 408:
        return Passing(f"GitHub is out of order ({status})", wait)
    if status == 422 and "already_exists" in words:
        return Passing("what was sent is there already", 0)
    if status in (401, 403, 404):
        return Refusal(f"{way.api}: expected {way.repository} and a GITHUB_TOKEN that may write its contents, found "
                       f"the answer {status} {words}: check both")
    return Refusal(f"{way.api}: expected a request that it takes, found the answer {status} {words}: mend what it says")


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """How long an answer asks to wait, in seconds."""
    if (after := headers.get("retry-after", "")).isdigit():
        return float(after)
    reset = headers.get("x-ratelimit-reset", "")
    if headers.get("x-ratelimit-remaining") == "0" and reset.isdigit():
        return max(0.0, float(reset) - time.time()) + 1
    return None


def said(error: GithubException) -> str:
    """What GitHub says of an error, in a line."""
    data = error.data if isinstance(error.data, dict) else {}
    details = [one.get("message") or f"{one.get('field')} {one.get('code')}" for one in data.get("errors") or []
               if isinstance(one, dict)]
    return " ".join(f"{data.get('message', '')} {', '.join(details)}".split())[:300]
