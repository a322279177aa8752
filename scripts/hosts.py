"""What files a source has on its host, and what the host publishes of them.

Names come from strangers: each is held to lie inside the source's folder before anything is fetched.
"""

import json
from base64 import b64decode
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from scripts import sources, tfjs
from scripts.job import Refusal
from scripts.unpack import MOST_MEMBERS, outside

MOST_PAGES = 100  # of a listing
OWN = "LICENCE.txt"  # what a source's folder in the cache holds besides its files


class File(NamedTuple):
    name: str  # in the source's folder
    url: str
    published: dict[str, Any]  # what its host says of it: bytes and hashes


def files(told: sources.Told, read: Callable[[str, str], bytes]) -> list[File]:
    """The files of a source. read(name, url): the content of a small file, which is one of the source's or a listing.

    Raises Refusal where the host has others than the record knows, or names that no file can have.
    """
    try:
        found = {"archive": archive, "objects": objects, "tfjs": shards}[told["layout"]](told, read)
    except UnicodeEncodeError as error:
        raise Refusal(f"{told['url']}: expected names in Unicode, found {error.object!r}: nothing is fetched from "
                      "there") from error
    for file in found:
        if (outside(file.name) or not file.name or file.name.endswith(".partial")
                or PurePosixPath(file.name).name.startswith((".lock", OWN))):
            raise Refusal(f"{told['url']}: expected names of files inside the source's folder, found {file.name!r}: "
                          "nothing is fetched from there")
    return found


def archive(told: sources.Told, read: Callable[[str, str], bytes]) -> list[File]:
    """The one file, and what Zenodo's API says of it where the source names that as its listing.

    Without that a source that is known whole can do, as from a mirror.
    """
    name = sources.file_name(told)
    if "listing" not in told or sources.pinned(told.get("files", {}).get(name, {})):
        return [File(name, told["url"], {})]
    try:
        content = read("", told["listing"])
    except Refusal:
        if not sources.known(told):
            raise
        return [File(name, told["url"], {})]
    try:
        [one] = [one for one in parsed(content)["files"] if one["key"] == name]
        algorithm, _, digest = one["checksum"].partition(":")
        return [File(name, told["url"], {"bytes": int(one["size"]), algorithm: digest})]
    except (ValueError, LookupError, TypeError) as error:
        raise Refusal(f"{told['listing']}: expected a record of {name} with size and checksum, found none: the "
                      "host has changed, give the file with SOURCES=folder") from error


def objects(told: sources.Told, read: Callable[[str, str], bytes]) -> list[File]:
    """A bucket's objects: those of the record, or else of the listing, page by page (Cloud Storage's JSON API)."""
    if sources.known(told):
        return [File(name, told["url"] + quote(name), {}) for name in told["files"]]
    prefix = told["url"].split("/", 4)[4]  # https://host/bucket/prefix
    items: list[dict[str, Any]] = []
    asked = {"prefix": prefix}
    try:
        for _ in range(MOST_PAGES):
            page = parsed(read("", f"{told['listing']}?{urlencode(asked)}"))
            items += page.get("items", [])
            if "nextPageToken" not in page:
                break
            asked["pageToken"] = page["nextPageToken"]
        else:
            raise ValueError("it has no end")
        if len(items) > MOST_MEMBERS:
            raise ValueError("it has too many objects")
        found = [File(item["name"].removeprefix(prefix), told["url"] + quote(item["name"].removeprefix(prefix)),
                      {"bytes": int(item["size"]), **{name: b64decode(item[key]).hex() for key, name in
                                                      (("md5Hash", "md5"), ("crc32c", "crc32c")) if key in item}})
                 for item in items if not item["name"].endswith("/")]  # such a one stands for a folder
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise Refusal(f"{told['listing']}: expected a listing of the bucket's objects, found none: the host has "
                      "changed, give the files with SOURCES=folder") from error
    if not found:
        raise Refusal(f"{told['listing']}: expected objects under {prefix}, found none: the host has changed, give the "
                      "files with SOURCES=folder")
    return found


def shards(told: sources.Told, read: Callable[[str, str], bytes]) -> list[File]:
    """TensorFlow.js' manifest, and the shards that it names."""
    name, base = tfjs.MANIFEST, told["url"].rstrip("/") + "/"
    groups = tfjs.groups(base + name, read(name, base + name))
    return [File(name, base + name, {}),
            *(File(path, base + quote(path), {}) for group in groups for path in group.paths)]


def parsed(content: bytes) -> Any:
    """What a JSON text says. Raises ValueError where it is none, or nested without end."""
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("nested too deep") from None
