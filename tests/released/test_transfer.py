"""Every way in which hosts fail: the right file or a clear error in its time, and never a wrong file.

Each case runs the download in its own toolchain against a host on loopback that fails as it says.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
import tomllib

import pytest

from tests.conftest import ROOT, run
from tests.released.host import Host, cut, says, serve, silent, trickles, without_ranges

DATA = random.Random(7).randbytes(300_000)
OTHER = random.Random(8).randbytes(300_000)
PATH = "/models/coconet/weights.bin"
# Patience for tests: all times in seconds.
HASTY = {"connecting": 5, "silent": 2, "slow": 1, "least": 20_000, "attempts": 3, "pause": 0.05, "longest": 2}
CODE = """
import json, sys
from pathlib import Path
from scripts import download, sources
from scripts.job import Refusal
from scripts.transfer import Patience
told = json.loads(sys.argv[1])
download.ROOT = Path.cwd()
try:
    download.download("thing", patience=Patience(**told.pop("patience")), **told)
except Refusal as refusal:
    sys.exit(f"refused: {refusal}")
"""


@pytest.fixture
def host(tmp_path):
    file = tmp_path / "host" / PATH.lstrip("/")
    file.parent.mkdir(parents=True)
    file.write_bytes(DATA)
    served = Host(tmp_path / "host")
    yield served
    served.close()


class Fetcher:
    """A tree of its own with a record of one source, and a cache of its own."""

    def __init__(self, folder, url):
        self.tree, self.cache = folder / "tree", folder / "cache"
        for name in ("scripts", "models", "images"):
            shutil.copytree(ROOT / name, self.tree / name, ignore=shutil.ignore_patterns("__pycache__", "samples"))
        (self.tree / "checksums").mkdir()
        self.record(url)
        self.place = self.cache / "bellfoundry/sources/thing"

    def record(self, url, grade="pinned", **known):
        """Write the record of the source, whose file is known by the given hashes, if any."""
        hashes = "".join(f', {name} = "{value}"' for name, value in known.items())
        entry = f'{{bytes = {len(DATA)}, grade = "{grade}", from = "the test"{hashes}}}'
        files = f'[thing.files]\n"weights.bin" = {entry}\n'
        (self.tree / "checksums/sources.toml").write_text(
            f'[thing]\ntitle = "A thing"\nurl = "{url}"\nlayout = "archive"\nattribution = "somebody"\n'
            'licence = "Apache-2.0"\nlicence_text = "https://www.apache.org/licenses/LICENSE-2.0"\n'
            + files * bool(known))

    def start(self, **told):
        environment = {**os.environ, "XDG_CACHE_HOME": str(self.cache), "PYTHONPATH": "."}
        return subprocess.Popen([python(), "-c", CODE, json.dumps({"patience": HASTY, **told})], cwd=self.tree,
                                env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def fetch(self, **told):
        process = self.start(**told)
        said = process.communicate(timeout=60)[0]
        assert "Traceback" not in said, said
        return process.returncode, said

    def files(self):
        return {path.name: path.read_bytes() for path in self.place.glob("*")
                if path.name not in (".lock", "LICENCE.txt")}


def python() -> str:
    """The interpreter of the toolchain that fetches, so that a kill meets it and no shell around it."""
    return run("scripts/in", "download", "python", "-c", "import sys; print(sys.executable)").stdout.strip()


@pytest.fixture
def fetcher(tmp_path, host):
    made = Fetcher(tmp_path, host.url + PATH)
    made.record(host.url + PATH, sha256=hashlib.sha256(DATA).hexdigest())
    return made


def test_a_file_comes_and_is_asked_for_once(fetcher, host):
    for _ in range(2):
        status, said = fetcher.fetch()
        assert status == 0, said
    assert fetcher.files() == {"weights.bin": DATA}
    assert host.asked == [(PATH, None)]
    assert "Apache-2.0" in (fetcher.place / "LICENCE.txt").read_text()


GOES_WELL = {
    "cut off in the middle, and again": [cut(0.3), cut(0.6), serve],
    "cut off, without ranges": [cut(0.5), without_ranges],
    "busy, and says for how long": [says(503, Retry_After="1"), serve],
    "too many requests": [says(429, Retry_After="0"), serve],
    "busy, and says so badly": [says(503, Retry_After="soon"), serve],
    "no answer at first": [silent, serve],
    "another server's error": [says(502), says(500), serve],
    "a short answer that says it is whole": [cut(0.5, honest=False), serve],
    "moved": [says(302, Location=PATH + "?moved"), serve],
}


@pytest.mark.parametrize("case", GOES_WELL)
def test_a_fault_that_passes_is_survived(fetcher, host, case):
    host.faults[PATH] = list(GOES_WELL[case])
    status, said = fetcher.fetch()
    if case == "a short answer that says it is whole":  # which nothing tells from another file
        assert status == 1 and "expected 300,000 bytes, found 150,000" in said
        status, said = fetcher.fetch()
    assert status == 0, said
    assert fetcher.files() == {"weights.bin": DATA}


def test_a_file_that_was_cut_off_goes_on_where_it_ended(fetcher, host):
    host.faults[PATH] = [cut(0.3), serve]
    assert fetcher.fetch()[0] == 0
    [first, second] = host.asked
    assert first == (PATH, None)
    assert 0 < int(second[1].removeprefix("bytes=").rstrip("-")) <= len(DATA) * 0.3


def test_a_file_that_changed_meanwhile_is_never_mixed(fetcher, host, tmp_path):
    """Half of another file of the same length came; then the right one is there."""
    file = tmp_path / "host" / PATH.lstrip("/")
    file.write_bytes(OTHER)
    host.faults[PATH] = [cut(0.5), says(404)]
    assert fetcher.fetch()[0] == 1
    file.write_bytes(DATA)
    host.faults.clear()
    status, said = fetcher.fetch()
    assert status == 0, said
    assert fetcher.files() == {"weights.bin": DATA}


def test_a_host_that_ignores_if_range_is_caught_by_the_hash(fetcher, host, tmp_path):
    """The half of one file, then the half of another under the same tag: begun again, whole."""
    file = tmp_path / "host" / PATH.lstrip("/")
    file.write_bytes(OTHER)
    host.headers = {"ETag": '"the same"', "Last-Modified": ""}
    host.faults[PATH] = [cut(0.5), says(404)]
    assert fetcher.fetch()[0] == 1
    file.write_bytes(DATA)
    host.faults.clear()
    status, said = fetcher.fetch()
    assert status == 0, said
    assert fetcher.files() == {"weights.bin": DATA} and len(host.asked) == 4


GOES_WRONG = {
    "not there": ([says(404)], "expected a file, found 404"),
    "forbidden": ([says(403)], "expected a file, found 403"),
    "redirects without end": ([says(302, Location=PATH)], "redirects without end"),
    "a page": ([says(200, b"<!doctype html>", Content_Type="text/html; charset=utf-8")],
               "expected 300,000 bytes, found 15 of an HTML page"),
    "a page as long as the file": ([says(200, b"<!doctype html>".ljust(300_000), Content_Type="text/html")],
                                   "SHA-256"),
    "another file": ([says(200, OTHER)], "expected SHA-256 " + hashlib.sha256(DATA).hexdigest()
                     + ", found " + hashlib.sha256(OTHER).hexdigest()),
    "too long": ([says(200, DATA + b"!")], "expected 300,000 bytes, found 300,001"),
    "busy for an hour": ([says(429, Retry_After="3600")], "asks to come back in 3600 seconds"),
    "busy for good": ([says(503)], "the host is busy (503 Service Unavailable), 3 times in a row"),
    "silent for good": ([silent], "no answer in time, 3 times in a row"),
    "trickles": ([trickles], "the host is too slow"),
    "cut off for good": ([cut(0.01)], "cut off, 3 times in a row"),
    "truncated for good": ([cut(0.5, honest=False)], "expected 300,000 bytes, found 150,000"),
    "no address": ([says(302, Location="ftp://127.0.0.1/x")], "expected the address of a file, found none"),
}


@pytest.mark.parametrize("case", GOES_WRONG)
def test_a_fault_that_stays_is_an_error_in_its_time(fetcher, host, case):
    host.faults[PATH], expected = GOES_WRONG[case]
    started = time.monotonic()
    status, said = fetcher.fetch()
    assert status == 1 and expected in said.splitlines()[-1], said
    assert said.splitlines()[-1].startswith("refused: ")
    assert time.monotonic() - started < 15
    assert "weights.bin" not in fetcher.files()


def test_nobody_listens(fetcher, host):
    host.close()
    status, said = fetcher.fetch()
    assert status == 1 and "no connection, 3 times in a row: try again later" in said


def test_a_flipped_byte_in_the_cache_is_caught_and_mended(fetcher, host):
    assert fetcher.fetch()[0] == 0
    damaged = bytearray(DATA)
    damaged[1234] ^= 1
    (fetcher.place / "weights.bin").write_bytes(damaged)
    status, said = fetcher.fetch()
    assert status == 0 and "what is in the cache is damaged" in said
    assert hashlib.sha256(damaged).hexdigest() in said
    assert fetcher.files() == {"weights.bin": DATA}


def test_two_at_once_take_turns(fetcher, host):
    host.faults[PATH] = [cut(0.4), serve]
    both = [fetcher.start(), fetcher.start()]
    assert [process.wait(60) for process in both] == [0, 0]
    assert fetcher.files() == {"weights.bin": DATA}
    assert len(host.asked) == 2  # the cut one and the rest; the second process asked for nothing


def test_killed_at_any_moment_the_next_one_completes(fetcher, host):
    """Fifty kills, a host that is slow enough to be caught at it."""
    def slowly(handler, served, path):
        data = (served.folder / path.lstrip("/")).read_bytes()
        wanted = handler.headers.get("Range", "bytes=0-")
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(data) - start))
        handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        handler.send_header("ETag", '"one"')
        handler.end_headers()
        for place in range(start, len(data), 3000):
            handler.wfile.write(data[place:place + 3000])
            handler.wfile.flush()
            time.sleep(0.005)

    host.faults[PATH] = [slowly]
    moments, killed, resumed = random.Random(3), 0, 0
    while killed < 50:
        asked, process = len(host.asked), fetcher.start()
        while killed % 5 and len(host.asked) == asked and process.poll() is None:  # else it is killed before it asks
            time.sleep(0.005)
        try:
            assert process.wait(moments.uniform(0, 0.5)) == 0
            assert fetcher.files() == {"weights.bin": DATA}
            shutil.rmtree(fetcher.place)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
            resumed += "weights.bin.partial" in fetcher.files()
        assert fetcher.files().get("weights.bin", DATA) == DATA
    assert resumed > 10
    assert fetcher.fetch()[0] == 0
    assert fetcher.files() == {"weights.bin": DATA}


def on_a_small_disk(fetcher):
    """Everything that a fetch into a cache of 200 kB of disk says, and then the files that it leaves there."""
    fetcher.place.mkdir(parents=True)
    code = (f"mount -t tmpfs -o size=200k tmpfs {fetcher.place} && {{ cd {fetcher.tree}; {python()} -c '{CODE}' "
            f"'{json.dumps({'patience': HASTY})}'; ls -A {fetcher.place}; }}")
    done = run("unshare", "--mount", "--map-root-user", "bash", "-c", code, XDG_CACHE_HOME=str(fetcher.cache),
               PYTHONPATH=str(fetcher.tree))
    if "unshare" in done.stderr:
        pytest.skip(f"NO SMALL DISK can be mounted here: {done.stderr.strip()}")
    return done.stderr, done.stdout.splitlines()


def test_a_full_disk_is_said_and_nothing_half_made_stays(fetcher, host):
    """Of a file whose size nobody tells beforehand."""
    host.faults[PATH] = [without_length]
    fetcher.record(host.url + PATH, md5=hashlib.md5(DATA).hexdigest())
    record = fetcher.tree / "checksums/sources.toml"
    record.write_text(record.read_text().replace(f"bytes = {len(DATA)}, ", ""))
    said, left = on_a_small_disk(fetcher)
    assert "the disk is full: free some space" in said
    assert sorted(left[-2:]) == [".lock", "LICENCE.txt"]


def test_room_is_looked_for_before_anything_comes(fetcher, host):
    assert "expected room for 300,000 bytes" in on_a_small_disk(fetcher)[0]
    assert host.asked == []


def without_length(handler, served, path):
    """In chunks, so that nothing tells beforehand how large it will be."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    data = (served.folder / path.lstrip("/")).read_bytes()
    for start in range(0, len(data), 50_000):
        part = data[start:start + 50_000]
        handler.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
    handler.wfile.write(b"0\r\n\r\n")


def test_a_file_without_a_length_comes_too(fetcher, host):
    host.faults[PATH] = [without_length]
    assert fetcher.fetch()[0] == 0
    assert fetcher.files() == {"weights.bin": DATA}


# Where it comes from


def test_a_mirror_is_asked_first_and_trusted_as_little(fetcher, host, tmp_path):
    mirrored = tmp_path / "mirror/thing/weights.bin"
    mirrored.parent.mkdir(parents=True)
    mirror = Host(tmp_path / "mirror")
    for data, asked in ((OTHER, 1), (DATA, 0)):
        shutil.rmtree(fetcher.place, ignore_errors=True)
        mirrored.write_bytes(data)
        host.asked.clear()
        status, said = fetcher.fetch(mirror=mirror.url)
        assert status == 0 and ("asking the authors' host" in said) == bool(asked), said
        assert fetcher.files() == {"weights.bin": DATA} and len(host.asked) == asked
    mirror.close()


def test_a_mirror_s_file_that_isn_t_the_reported_one_isn_t_trusted_before_the_host_is_asked(fetcher, host, tmp_path):
    """Whatever TRUST says."""
    fetcher.record(host.url + PATH, "reported", sha256=hashlib.sha256(DATA).hexdigest())
    mirrored = tmp_path / "mirror/thing/weights.bin"
    mirrored.parent.mkdir(parents=True)
    mirrored.write_bytes(OTHER)
    mirror = Host(tmp_path / "mirror")
    status, said = fetcher.fetch(mirror=mirror.url, trust=True)
    mirror.close()
    assert status == 0 and "asking the authors' host" in said, said
    assert fetcher.files() == {"weights.bin": DATA}


def test_a_file_that_isn_t_the_reported_one_is_an_error_with_both_hashes_that_trust_overrules(fetcher, host):
    """What came is no archive, which isn't trusted at all."""
    reported, found = hashlib.sha256(DATA).hexdigest(), hashlib.sha256(OTHER).hexdigest()
    fetcher.record(host.url + PATH, "reported", sha256=reported)
    host.faults[PATH] = [says(200, OTHER)]
    status, said = fetcher.fetch()
    assert status == 1 and f"expected SHA-256 {reported}, found {found}" in said
    assert "has it as reported, by the test; try another host with MIRROR=" in said and "add TRUST=first-use" in said
    assert fetcher.files() == {}
    status, said = fetcher.fetch(trust=True)
    assert status == 1 and f"expected SHA-256 {reported}, found {found}: it isn't what is reported (the test)" in said
    assert "expected a tar or zip archive" in said and fetcher.files() == {}


def test_a_file_that_is_the_reported_one_needs_no_trust(fetcher, host):
    fetcher.record(host.url + PATH, "reported", sha256=hashlib.sha256(DATA).hexdigest())
    assert fetcher.fetch()[0] == 0
    assert fetcher.files() == {"weights.bin": DATA}


@pytest.mark.parametrize("told", [True, False])
def test_no_more_comes_than_twice_the_known_size(fetcher, host, told):
    """told: whether the host says beforehand how much it has. Of what is reported another size may be trusted."""
    fetcher.record(host.url + PATH, "reported", sha256=hashlib.sha256(DATA).hexdigest())
    host.faults[PATH] = [says(200, bytes(900_000)) if told else endless]
    status, said = fetcher.fetch(trust=True)
    assert status == 1 and f"expected 600,000 bytes at most, found {'900,000' if told else 'more'}" in said
    assert fetcher.files() == {}


def endless(handler, served, path):
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    while True:
        handler.wfile.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")


def test_a_proxy_of_the_environment_is_used(fetcher, host, monkeypatch):
    """A proxy is asked for the whole address."""
    fetcher.record("http://nowhere.invalid" + PATH, sha256=hashlib.sha256(DATA).hexdigest())
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", host.url)
    status, said = fetcher.fetch()
    assert status == 0, said
    assert fetcher.files() == {"weights.bin": DATA}


@pytest.fixture
def secure(fetcher, tmp_path):
    """The same host over TLS, with a certificate that only who is told to trusts."""
    made = run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
               "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", tmp_path / "key.pem", "-out", tmp_path / "own.pem")
    assert made.returncode == 0, made.stderr
    (tmp_path / "both.pem").write_text((tmp_path / "key.pem").read_text() + (tmp_path / "own.pem").read_text())
    served = Host(tmp_path / "host", tmp_path / "both.pem")
    fetcher.record(served.url + PATH, sha256=hashlib.sha256(DATA).hexdigest())
    yield served
    served.close()


def test_https_needs_a_certificate_that_is_trusted(fetcher, secure, tmp_path, monkeypatch):
    status, said = fetcher.fetch()
    assert status == 1 and "expected a certificate that this machine trusts" in said
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "own.pem"))
    status, said = fetcher.fetch()
    assert status == 0, said


def test_https_doesnt_become_http_on_the_way(fetcher, host, secure, tmp_path, monkeypatch):
    secure.faults[PATH] = [says(302, Location=host.url + PATH)]
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "own.pem"))
    status, said = fetcher.fetch()
    assert status == 1 and "expected an answer over https, found a redirect to http:" in said


def test_the_host_s_own_hashes_are_checked(fetcher, host):
    """As Google's hosts tell them in a header, of a file whose SHA-256 isn't known."""
    fetcher.record(host.url + PATH, md5=hashlib.md5(DATA).hexdigest())
    host.headers = {"x-goog-hash": "crc32c=AAAAAA==,md5=" + "A" * 22 + "=="}
    status, said = fetcher.fetch()
    assert status == 1 and "expected MD5 " + "0" * 32 in said and "isn't the file that its host tells of" in said
    assert fetcher.files() == {}


def test_a_hash_that_is_none_tells_nothing(fetcher, host):
    host.headers = {"x-goog-hash": "md5=not base 64"}
    assert fetcher.fetch()[0] == 0


def test_nothing_known_and_nothing_trusted_is_refused_before_it_is_asked_for(fetcher, host):
    fetcher.record(host.url + PATH)
    status, said = fetcher.fetch()
    assert status == 1 and "add TRUST=first-use" in said and host.asked == []


def test_a_record_that_is_wrong_names_its_line(fetcher, host):
    record = fetcher.tree / "checksums/sources.toml"
    record.write_text(record.read_text().replace("bytes = 300000", 'bytes = "300000"'))
    assert "checksums/sources.toml:8: thing.files.weights.bin.bytes must be of type int" in fetcher.fetch()[1]
    assert tomllib.loads(record.read_text())


@pytest.mark.parametrize(("good", "bad", "said"), [
    ('grade = "pinned"', 'grade = "sure"', "thing.files.weights.bin; known are pinned, reported"),
    ('grade = "pinned", ', "", "thing.files.weights.bin lacks the key 'grade'"),
    ('sha256 = "', 'sha256 = "x', "thing.files.weights.bin.sha256 must be 64 hexadecimal digits"),
    ('sha256 = "', 'sha512 = "', "unknown key 'sha512' in thing.files.weights.bin"),
    ('from = "the test"', 'form = "the test"', "unknown key 'form' in thing.files.weights.bin"),
    ('layout = "archive"', 'layout = "objects"\nsums = {file = "x", grade = "pinned", from = "x"}',
     "thing.sums is for a source of objects without a table of files"),
])
def test_a_record_that_says_what_can_t_be_is_refused(fetcher, host, good, bad, said):
    record = fetcher.tree / "checksums/sources.toml"
    record.write_text(record.read_text().replace(good, bad))
    status, found = fetcher.fetch()
    assert status == 1 and said in found
