"""Where a release comes from: its commit, a statement in the form of in-toto and SLSA, and a bill of materials.

Nothing in them tells of a time, a machine or a run, so that equal releases have equal ones; who ran the build is what a
signature adds (docs/verify.md).
"""

import datetime
import json
import subprocess
import uuid
from pathlib import Path
from typing import Any

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from google.protobuf.json_format import MessageToDict
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement
from packageurl import PackageURL

from scripts import manifest
from scripts.checksums import ARTIFACTS
from scripts.images import SOURCE
from scripts.job import Refusal

BUILD = f"{SOURCE}/blob/main/docs/verify.md"
PREDICATE = "https://slsa.dev/provenance/v1"
Told = dict[str, Any]


def commit(root: Path) -> str:
    """The commit that is checked out. Raises Refusal outside of a repository."""
    done = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], text=True, capture_output=True, check=False)
    if done.returncode:
        raise Refusal(f"{root}: expected a git repository, so that a release can name its commit, found none: clone "
                      "the project")
    return done.stdout.strip()


def built(release: Told) -> dict[str, Told]:
    """The files of a release that were built."""
    return {name: file for name, file in release["files"].items() if Path(name).suffix in ARTIFACTS}


def statement(release: Told) -> str:
    """An in-toto statement about every built file, SLSA's provenance (slsa.dev/spec/v1.0/provenance), as JSON.

    Its dependencies are the commit, each toolchain's lock and image, and each model's source.
    """
    needed = [descriptor(f"git+{SOURCE}", "gitCommit", release["commit"])]
    for name, toolchain in shared(release).items():
        needed.append(descriptor(f"images/{name}/requirements.lock", "sha256", toolchain["lock"]))
        if "image" in toolchain:
            address, _, digest = toolchain["image"].partition("@sha256:")
            needed.append(descriptor(f"oci://{address}", "sha256", digest))
    for model, told in release["models"].items():
        needed.append(descriptor(told["source"].get("url", f"{SOURCE}#{told['source']['kind']}/{model}"), "sha256",
                                 told["source"]["sha256"]))
    subjects = [ResourceDescriptor(name=name, digest={"sha256": file["sha256"]}).pb
                for name, file in built(release).items()]
    made = Statement(subjects, PREDICATE, {
        "buildDefinition": {
            "buildType": BUILD,
            "externalParameters": {"version": release["version"], "weights": release["weights"],
                                   "models": sorted(release["models"])},
            "resolvedDependencies": [MessageToDict(one.pb) for one in needed],
        },
        "runDetails": {"builder": {"id": SOURCE}},
    })
    made.validate()
    return json.dumps(MessageToDict(made.pb), indent=1, sort_keys=True) + "\n"


def descriptor(address: str, algorithm: str, digest: str) -> ResourceDescriptor:
    return ResourceDescriptor(uri=address, digest={algorithm: digest})


def shared(release: Told) -> dict[str, Told]:
    """The toolchains of all models."""
    found = {name: told for model in release["models"].values() for name, told in model["toolchains"].items()}
    return dict(sorted(found.items()))


def bill(root: Path, release: Told) -> str:
    """A bill of materials as CycloneDX 1.6: models with the hashes of their files, and what their toolchains hold."""
    version = release["version"]
    whole = Component(name="bellfoundry", version=version, type=ComponentType.APPLICATION, bom_ref="bellfoundry")
    told = {"version": version, "commit": release["commit"], "files": built(release)}  # nothing that was measured
    found = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(told, sort_keys=True)))
    found.metadata.timestamp = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)  # SOURCE_DATE_EPOCH of scripts/in
    found.metadata.component = whole
    boxes = {name: Component(name=f"bellfoundry-{name}", type=ComponentType.CONTAINER, bom_ref=f"toolchain:{name}",
                             properties=[Property(name="bellfoundry:lock", value=told["lock"])])
             for name, told in shared(release).items()}
    models = []
    for model, told in release["models"].items():
        names = {one[key] for one in told["artifacts"] for key in ("file", "weights_file") if key in one}
        files = [Component(name=name, type=ComponentType.FILE, bom_ref=f"file:{name}",
                           hashes=[HashType(alg=HashAlgorithm.SHA_256, content=release["files"][name]["sha256"])])
                 for name in sorted(names)]
        one = Component(name=model, version=version, type=ComponentType.MACHINE_LEARNING_MODEL,
                        bom_ref=f"model:{model}", description=told["task"], components=files,
                        licenses=[DisjunctiveLicense(id=told["weights_licence"])],
                        properties=[Property(name="bellfoundry:source", value=told["source"]["sha256"])])
        models.append(one)
        found.components.add(one)
        found.register_dependency(one, [boxes[name] for name in told["toolchains"]])
    found.register_dependency(whole, models)
    packages: dict[str, Component] = {}
    for name, box in boxes.items():
        held = [str(PackageURL("pypi", name=package, version=pinned))
                for package, pinned in manifest.pins(root / "images" / name / "requirements.lock").items()]
        for address in held:
            told = PackageURL.from_string(address)
            packages.setdefault(address, Component(name=told.name, version=told.version, purl=told, bom_ref=address,
                                                   type=ComponentType.LIBRARY))
        found.register_dependency(box, [packages[address] for address in held])
    for component in (*boxes.values(), *packages.values()):
        found.components.add(component)
    return JsonV1Dot6(found).output_as_string(indent=1) + "\n"
