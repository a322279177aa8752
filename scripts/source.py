"""Where a user's own checkpoint lies: the files that make it up, in whatever layout the upstream wrote them.

The recipe's [sources.custom] says `files`, names in one folder, or in an archive of it; the folder may lie in another,
or be told by one of the files, or by their prefix. Or it says
`checkpoint = "tensorflow"`: a prefix with .index, .data-* and perhaps .meta, in a folder of checkpoints, in the
train/ of a training run, or in an archive of either. Or it says `checkpoint = "t5x"`: a folder with a file
`checkpoint` and a folder target.* for each large array, perhaps in a folder of checkpoints. Or it says
`checkpoint = "tfjs"`: a folder with TensorFlow.js' manifest and the shards that it names, or an archive of it. Runs on
Python 3.7 and later, without any framework.
"""

import glob
import os
import re
import shutil
from pathlib import Path, PurePosixPath
from typing import Any, Dict, List

from scripts import tfjs
from scripts.job import Refusal
from scripts.unpack import unpack

SHARD = re.compile(r"\.data-(\d{5})-of-(\d{5})$")
LANDMARKS = {"tensorflow": "*.index", "tfjs": tfjs.MANIFEST}  # by which one is found in an archive
NEEDED = {"tensorflow": "an .index and its .data-*", "tfjs": tfjs.MANIFEST + " and its shards"}
LATEST = re.compile(r'^model_checkpoint_path: "(.*)"$', re.MULTILINE)


def files(checkpoint: Path, custom: Dict[str, Any]) -> List[Path]:
    """The files of the checkpoint that CHECKPOINT names, or the one archive that holds them.

    custom: the recipe's [sources.custom]. Raises Refusal where there is no such checkpoint.
    """
    if "files" in custom:
        if checkpoint.is_file() and checkpoint.name not in custom["files"]:
            return [checkpoint]
        folder = folder_of(checkpoint, custom["files"])
        return [folder / name for name in custom["files"]]
    if custom["checkpoint"] == "t5x":
        folder = t5x_folder(checkpoint)
        return [folder / "checkpoint", *sorted(path for path in folder.glob("target.*/*") if path.is_file())]
    if custom["checkpoint"] == "tfjs" and (checkpoint.name == tfjs.MANIFEST or not checkpoint.is_file()):
        return tfjs_files(checkpoint.parent if checkpoint.name == tfjs.MANIFEST else checkpoint)
    if SHARD.search(checkpoint.name) and index_of(checkpoint.with_suffix("")).is_file():
        checkpoint = checkpoint.with_suffix("")
    elif checkpoint.is_file() and index_of(checkpoint).is_file():
        raise Refusal("CHECKPOINT={}: expected a checkpoint's prefix, whose data lie in {}.data-00000-of-00001, found "
                      "a file of that name: rename it to that one".format(checkpoint, checkpoint.name))
    if checkpoint.is_file() and checkpoint.suffix not in (".index", ".meta"):
        refuse_others(checkpoint, custom)
        return [checkpoint]
    return tensorflow_files(prefix_of(checkpoint), custom)


def folder_of(checkpoint: Path, names: List[str]) -> Path:
    """The folder with files of the given names that a path means: it, the only such one in it, or where one of these
    files lies, or those that begin as the path does. Raises Refusal where there is none, or several."""
    if checkpoint.is_file() or (not checkpoint.exists() and any(
            path.name in names for path in checkpoint.parent.glob(glob.escape(checkpoint.name) + ".*"))):
        checkpoint = checkpoint.parent
    if not checkpoint.is_dir():
        raise Refusal("CHECKPOINT={}: expected a folder in the upstream's layout, or an archive of it, found "
                      "none".format(checkpoint))
    missing = [name for name in names if not (checkpoint / name).is_file()]
    if not missing:
        return checkpoint
    inner = sorted({path.parent for place in ("*/", "*/*/") for path in checkpoint.glob(place + glob.escape(names[0]))
                    if all((path.parent / name).is_file() for name in names)})
    if len(inner) > 1:
        raise Refusal("CHECKPOINT={}: expected one checkpoint, found {}: name one".format(
            checkpoint, ", ".join(map(str, inner))))
    if not inner:
        raise Refusal("CHECKPOINT={}: expected {} in this folder, missing {}".format(
            checkpoint, ", ".join(names), ", ".join(missing)))
    return inner[0]


def by_name(found: List[Path]) -> Dict[str, Path]:
    """Files of one checkpoint by their names in its folder, such as target.encoder.encoder_norm.scale/.zarray."""
    folder = os.path.commonpath([str(path.parent) for path in found])
    return {path.relative_to(folder).as_posix(): path for path in found}


def tfjs_files(folder: Path) -> List[Path]:
    """TensorFlow.js' manifest in a folder, and its shards, which are as large as it says."""
    manifest = folder / tfjs.MANIFEST
    if not manifest.is_file():
        raise Refusal("CHECKPOINT={}: expected {} and its shards in this folder, found none".format(
            folder, tfjs.MANIFEST))
    groups = tfjs.groups(manifest, manifest.read_bytes())
    return [manifest, *(path for group in groups for path in tfjs.shards(manifest, group))]


def t5x_folder(checkpoint: Path) -> Path:
    """The folder of the T5X checkpoint that a path means: it, or the only checkpoint_<step> in it.

    Raises Refusal where there is none, or several.
    """
    if (checkpoint / "checkpoint").is_file():
        return checkpoint
    steps = sorted(path.parent for path in checkpoint.glob("checkpoint_*/checkpoint"))
    if len(steps) > 1:
        raise Refusal("CHECKPOINT={}: expected one checkpoint, found {}: name one, for instance CHECKPOINT={}".format(
            checkpoint, ", ".join(step.name for step in steps), steps[-1]))
    if not steps:
        raise Refusal("{}: expected the folder of a T5X checkpoint, with a file checkpoint in it, found "
                      "none: give the folder that T5X wrote".format(checkpoint))
    return steps[0]


def prefix_of(checkpoint: Path) -> Path:
    """The prefix of the TensorFlow checkpoint that a path means: its own, or the latest in a folder or its train/."""
    if checkpoint.suffix in (".index", ".meta"):
        checkpoint = checkpoint.with_suffix("")
    if index_of(checkpoint).is_file():
        return checkpoint
    if not checkpoint.is_dir():
        raise Refusal("CHECKPOINT={}: expected a folder or an archive of a TensorFlow checkpoint, found none".format(
            checkpoint))
    for folder in (checkpoint, checkpoint / "train"):
        prefixes = [path.with_suffix("") for path in sorted(folder.glob("*.index")) if not path.name.startswith(".")]
        latest = latest_of(folder)
        if latest in prefixes:
            return latest
        if len(prefixes) == 1:
            return prefixes[0]
        if prefixes:
            raise Refusal("CHECKPOINT={}: expected one checkpoint, or a file 'checkpoint' that names the latest, found "
                          "{}: name one, for instance CHECKPOINT={}".format(
                              checkpoint, ", ".join(prefix.name for prefix in prefixes), prefixes[-1]))
    raise Refusal("CHECKPOINT={}: expected a TensorFlow checkpoint (.index and .data-00000-of-00001) in this folder or "
                  "in its train/, found none".format(checkpoint))


def latest_of(folder: Path) -> Any:
    """The prefix in the folder that its file 'checkpoint' names, or None. The folder may have been moved."""
    state = folder / "checkpoint"
    named = LATEST.search(state.read_text(encoding="utf-8", errors="replace")) if state.is_file() else None
    return folder / PurePosixPath(named.group(1)).name if named else None


def tensorflow_files(prefix: Path, custom: Dict[str, Any]) -> List[Path]:
    refuse_others(prefix.parent, custom)
    shards = sorted(path for path in prefix.parent.glob(prefix.name + ".data-*") if SHARD.search(path.name))
    counts = {int(SHARD.search(path.name).group(2)) for path in shards}
    if counts != {len(shards)}:
        raise Refusal("{}: expected its data, {}, found {}".format(
            prefix, prefix.name + ".data-00000-of-00001", ", ".join(path.name for path in shards) or "none"))
    graph = prefix.with_name(prefix.name + ".meta")
    return [index_of(prefix)] + shards + ([graph] if graph.is_file() else [])


def index_of(prefix: Path) -> Path:
    return prefix.with_name(prefix.name + ".index")


def refuse_others(place: Path, custom: Dict[str, Any]) -> None:
    """Raises Refusal where a file or its folder bears the name of another model, whose arrays look the same."""
    for part in place.parts[-2:]:
        if part.split(".")[0] in custom.get("others", []):
            raise Refusal("{}: expected a checkpoint of this recipe's model, found one of {}, as its name says: give "
                          "another, or rename it if that isn't so".format(place, part.split(".")[0]))


def copy(checkpoint: Path, custom: Dict[str, Any], out: Path) -> None:
    """Put the checkpoint's files into a folder, from an archive if need be. Raises Refusal as files does."""
    found = files(checkpoint, custom)
    if found == [checkpoint]:
        unpacked = out / "unpacked"
        unpack(checkpoint, unpacked)
        for name, path in by_name(inside(checkpoint, unpacked, custom)).items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            path.replace(out / name)
        shutil.rmtree(str(unpacked))
    else:
        for name, path in by_name(found).items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(path), str(out / name))


def inside(archive: Path, unpacked: Path, custom: Dict[str, Any]) -> List[Path]:
    """The checkpoint's files in the folder that an archive was unpacked into, however deep they lie."""
    name = custom["files"][0] if "files" in custom else LANDMARKS[custom["checkpoint"]]
    folders = sorted({path.parent for path in unpacked.rglob(name)})
    if custom.get("checkpoint") == "tensorflow" and folders:
        return tensorflow_files(prefix_of(folders[0] if len(folders) == 1 else unpacked), custom)
    if len(folders) != 1:
        needed = ", ".join(custom["files"]) if "files" in custom else NEEDED[custom["checkpoint"]]
        raise Refusal("{}: expected one checkpoint in this archive, of {}, found {}".format(
            archive, needed, len(folders) or "no " + name.lstrip("*")))
    return files(folders[0], custom)
