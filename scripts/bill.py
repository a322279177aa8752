"""The bill of materials of an image: python -m scripts.bill TOOLCHAIN, in the toolchain `checks`.

Standard input holds the Debian packages of the image, a line each: name, version, architecture,
parted by tabs; the Python packages are those of the lock, whose hash it tells. Prints CycloneDX
1.6 as JSON. Equal inputs give equal bytes.
"""

import datetime
import sys
import uuid
from pathlib import Path

from cyclonedx.model import Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from scripts import manifest

IMAGES = Path(__file__).resolve().parent.parent / "images"


def bill(toolchain: str, debian: str) -> str:
    lock = IMAGES / toolchain / "requirements.lock"
    image = Component(name=f"bellfoundry-{toolchain}", type=ComponentType.CONTAINER, bom_ref=f"bellfoundry-{toolchain}",
                      properties=[Property(name="bellfoundry:lock", value=manifest.sha256(lock))])
    found = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_OID, toolchain + manifest.sha256(lock) + debian))
    found.metadata.timestamp = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)  # SOURCE_DATE_EPOCH of scripts/in
    found.metadata.component = image
    addresses = [PackageURL("pypi", name=name, version=version) for name, version in manifest.pins(lock).items()]
    for line in debian.splitlines():
        name, version, architecture = line.split("\t")
        addresses.append(PackageURL("deb", "debian", name, version, {"arch": architecture}))
    for address in addresses:
        found.components.add(Component(name=address.name, version=address.version, purl=address,
                                       bom_ref=str(address), type=ComponentType.LIBRARY))
    found.register_dependency(image, found.components)
    return JsonV1Dot6(found).output_as_string(indent=1)


if __name__ == "__main__":
    print(bill(sys.argv[1], sys.stdin.read()))
