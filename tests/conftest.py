"""Fixtures: finished builds, a copy of the tree to break things in, and the golden data."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import hypothesis
import onnxruntime
import pytest

from scripts import engines, kernels, recipe

ROOT = Path(__file__).resolve().parent.parent
TOLD = re.search(r"^export (.*?[^\\])$", (ROOT / "Makefile").read_text(), re.MULTILINE | re.DOTALL)[1].split()
OUTER = {*TOLD, "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MODELS", "TESTS", "TOOLCHAINS"} - {"ENGINE", "GOLDEN", "\\"}
FULL = os.environ.get("FULL", "") not in ("", "0")  # whether to prove anew what is on record
# No test is timed; whether a commit passes doesn't depend on chance, while FULL=1 looks for new examples.
hypothesis.settings.register_profile("foundry", deadline=None, derandomize=not FULL)
hypothesis.settings.load_profile("foundry")
SLOWEST = [  # files that take minutes, so that none of them is begun last
    f"tests/{name}.py" for name in (
        "models/mt3/test_instruments", "models/mt3/test_music", "models/mt3/test_golden", "scripts/test_new",
        "networks/test_networks", "models/coconet/test_released", "models/coconet/test_architectures",
        "release/test_package", "images/test_images", "release/test_publish", "released/test_released",
        "release/test_push_models", "models/coconet/test_golden", "scripts/test_build", "images/test_registry",
        "models/mt3/test_compose", "models/groovae/test_training", "models/mt3/test_defects")]
SMALL = [model for model in recipe.models(ROOT) if model != "vampnet"]  # enough to be built at real size by the tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {file: place for place, file in enumerate(SLOWEST)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(places)))


def run(*command: str | Path, cwd: Path = ROOT, told: str | None = None,
        **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its output is text, its exit status not yet judged. told: its standard input.

    What an outer `make test` told its children isn't passed on; stages run in virtual environments
    unless a test says otherwise.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in OUTER}
    return subprocess.run(list(map(str, command)), cwd=cwd, env={**inherited, "ENGINE": "venv", **environment},
                          text=True, capture_output=True, check=False, input=told)


def made(*goals: str, cwd: Path = ROOT, **environment: str) -> str:
    """Run make and return what it printed; the test fails where make does."""
    done = run("make", "--no-print-directory", *goals, cwd=cwd, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def refused(*goals: str, cwd: Path = ROOT, **environment: str) -> str:
    """The one line in which a make that must fail says why."""
    done = run("make", "--no-print-directory", *goals, cwd=cwd, **environment)
    assert done.returncode == 2, done.stdout
    [line] = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert "Traceback" not in done.stdout
    return line


def npm_installed(locked: Path, name: str) -> Path:
    """Where npm has installed a folder's package-lock.json: a folder a lock in the cache, as toolchains are."""
    if not shutil.which("npm"):
        pytest.skip(f"NO {name.upper()}: npm is not installed")
    files = [locked / file for file in ("package.json", "package-lock.json")]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bellfoundry"
    place = cache / f"{name}-{hashlib.sha256(files[1].read_bytes()).hexdigest()[:16]}"
    if not place.is_dir():
        partial = place.with_name(f"{place.name}.partial.{os.getpid()}")
        partial.mkdir(parents=True)
        try:
            for file in files:
                shutil.copy(file, partial)
            done = run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=partial)
            assert done.returncode == 0, done.stderr
            partial.rename(place)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return place


def heed_interrupts() -> None:
    """For a child that is to be interrupted: where a shell runs the tests in the background, it would ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def exact_session(model: Path | bytes) -> onnxruntime.InferenceSession:
    """A session of an artifact, or of its bytes, as a player has it."""
    return onnxruntime.InferenceSession(model, kernels.exact_options(), providers=["CPUExecutionProvider"])


def built(model: str, weights: str) -> Path:
    """The folder of a model's build where such weights are asked for: of these, or of those that are bundled."""
    return ROOT / "build" / recipe.kind(recipe.read(ROOT, model), weights) / model


def copy_tree(target: Path) -> Path:
    """The files of the repository, without its builds and its tests."""
    engines.copy(target)
    return target


def pytest_configure(config: pytest.Config) -> None:
    """Give each worker a core: threads of numerical libraries that wait for each other on a busy one lose most time."""
    if hasattr(config, "workerinput"):
        cores = sorted(os.sched_getaffinity(0))
        number = int(config.workerinput["workerid"].removeprefix("gw"))
        os.sched_setaffinity(0, {cores[number % len(cores)]})


def pytest_sessionstart(session: pytest.Session) -> None:
    """Build what most tests read before any worker starts, so that no test waits for another's build."""
    config = session.config
    if not hasattr(config, "workerinput") and config.args_source == pytest.Config.ArgsSource.TESTPATHS:
        for words in (["WEIGHTS=tiny"], [f"MODELS={' '.join(SMALL)}"]):
            print(f"building first: make all {' '.join(words)}", flush=True)
            made("-j2", "all", *words)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many tests were skipped, by reason."""
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ")
                      for report in terminalreporter.stats.get("skipped", []))
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"NOT CHECKED, {count} test{'s' * (count > 1)}: {reason}", yellow=True)


@pytest.fixture(scope="session")
def tiny() -> Path:
    """The artifacts of a finished tiny build."""
    made("all", "WEIGHTS=tiny")
    return ROOT / "build/tiny/coconet/compose"


@pytest.fixture(scope="session")
def seeded() -> Path:
    """The artifacts of a finished build at real size, of every model but VampNet, which takes 14 GB."""
    made("all", f"MODELS={' '.join(SMALL)}")
    return ROOT / "build/seeded/coconet/compose"


@pytest.fixture
def workshop(tmp_path: Path, tiny: Path) -> Callable[..., Path]:
    """Makes a copy of the tree with finished tiny builds of the named models, to break things in."""
    def copy(*models: str) -> Path:
        tree = copy_tree(tmp_path / "tree")
        for model in models:
            shutil.copytree(built(model, "tiny"), tree / built(model, "tiny").relative_to(ROOT))
        return tree

    return copy


class Golden:
    """Outputs of the original frameworks, by `golden / "coconet/forward.npz"`: in tests/golden what may be copied, all
    of it in GOLDEN=folder, or in ../shared/golden beside the repository. A test that needs what isn't there is skipped.
    """

    def __truediv__(self, name: str) -> Path:
        whole = Path(os.environ.get("GOLDEN") or ROOT.parent / "shared/golden")
        found = [folder / name for folder in (ROOT / "tests/golden", whole) if (folder / name).exists()]
        if not found:
            pytest.skip(f"NO GOLDEN DATA {name.split('/')[0]}: set GOLDEN to the folder that holds it")
        return found[0]


@pytest.fixture(scope="session")
def golden() -> Golden:
    return Golden()
