"""`make inspect`: what a model holds, which network it is, what each op needs, and that nothing of it is run."""

import json
import os
import pickle
import re
import sys
import zipfile

import msgpack
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from safetensors.torch import save_file

from models.mt3 import seeded
from models.mt3.weights import expected
from scripts import extract, inspect
from scripts.inspection.onnx import model_report
from scripts.inspection.pth import pth
from scripts.inspection.report import outcome
from scripts.inspection.weights import weights
from tests.conftest import made, run

SIZES = {"emb_dim": 32, "num_heads": 6, "head_dim": 64, "mlp_dim": 48, "num_encoder_layers": 1,
         "num_decoder_layers": 2, "vocab_size": 1664, "input_depth": 512}
ALL_READERS = """
import json, sys
from pathlib import Path
from scripts.inspection.tensorflow import READERS
from scripts.inspection.report import outcome
root = Path(sys.argv[1])
cases = [(kind, path) for kind in READERS for path in sorted((root / "hostile" / kind).iterdir())]
cases += [(kind, root / name) for kind, name in json.loads(sys.argv[2])]
print("\\n" + json.dumps({str(path.relative_to(root)): outcome(READERS[kind], path) for kind, path in cases}))
"""
HANDLER_TWIN = """
import sys
from tf2onnx.handler import tf_op
from scripts.inspection.graph import flat, sinks
from scripts.inspection.handlers import judged
from tensorflow.core.framework.graph_pb2 import GraphDef
graph = GraphDef.FromString(open(sys.argv[1], "rb").read())
def verdicts():
    whole, outputs = flat(graph, sinks(graph))
    return {fate.op: fate.verdict for fate in judged(whole, {}, outputs)[0]}
before = verdicts()
class Zeta:
    @classmethod
    def version_7(cls, ctx, node, **kwargs):
        node.type = "Mul"
tf_op("Zeta")(Zeta)
after = verdicts()
print(before["Zeta"], before["Igamma"], after["Zeta"], after["Igamma"], sep=";")
"""
IMPORT = """
import sys
import tensorflow as tf
graph = tf.compat.v1.GraphDef.FromString(open(sys.argv[1], "rb").read())
with tf.Graph().as_default():
    print("", tf.import_graph_def(graph, return_elements=["y:0"])[0].shape, sep="\\n")
"""
CONVERSION = """
import sys
import tensorflow.compat.v1 as tf
from scripts.freeze import freeze
graph = tf.GraphDef.FromString(open(sys.argv[1], "rb").read())
with tf.Graph().as_default(), tf.Session() as session:
    tf.import_graph_def(graph, name="")
    freeze(session, ["x"], ["y"], 17)
"""
FILES = [("saved_model", "tf1"), ("saved_model", "keras"), ("saved_model", "embedding"),
         ("saved_model", "looked_up"), ("frozen", "constant.pb"),
         ("h5", "keras.h5"), ("h5", "lambda.h5"), ("h5", "weights.h5"), ("frozen", "unsupported.pb"),
         ("frozen", "harmful.pb"), ("frozen", "loop_v1.pb"), ("frozen", "loop_v2.pb"), ("tfjs", "tfjs")]


@pytest.fixture
def checkpoint(tmp_path):
    seeded.write(tmp_path, SIZES)
    return tmp_path


@pytest.fixture(scope="module")
def tensorflow(tmp_path_factory):
    """The folder of TensorFlow's fixtures; in it a pipe that whoever reads it would wait at for ever."""
    folder = tmp_path_factory.mktemp("tensorflow")
    done = run("scripts/in", "legacy", "python", "tests/scripts/write_tensorflow_fixtures.py", folder)
    assert done.returncode == 0, done.stderr
    os.mkfifo(folder / "pipe")
    return folder


@pytest.fixture(scope="module")
def told(tensorflow):
    """Of each of TensorFlow's fixtures, its report or the sentence about it."""
    done = run("scripts/in", "legacy", "python", "-c", ALL_READERS, tensorflow, json.dumps(FILES))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def inspected(*options):
    """`make inspect` with these options, as the command that it is."""
    return run(sys.executable, "-m", "scripts.inspect", *options)


def refused(*options):
    """The one sentence that inspecting ends with."""
    done = inspected(*options)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stdout + done.stderr
    return done.stderr


def sentence(reader, path):
    """The one sentence that a reader ends with."""
    report, flaw = outcome(reader, path)
    assert report is None and "\n" not in flaw
    return flaw


def rows(report, title):
    return [row for part in report["sections"] if part["title"].startswith(title) for row in part["rows"]]


def verdicts(report):
    """Of each op, what is said of it; the same op may fare differently in several places."""
    found = {}
    for op, _, verdict, why, where in rows(report, "ops"):
        found.setdefault(op, set()).add((verdict, why, where))
    return found


def onnx_model(path, nodes, **more):
    ports = [make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in ("x", "y")]
    weight = onnx.numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    model = make_model(make_graph(nodes, "g", ports[:1], ports[1:], [weight]), ir_version=8,
                       opset_imports=[make_opsetid("", 17), make_opsetid("acme", 1)], **more)
    path.write_bytes(model.SerializeToString())
    return path


def test_arrays_totals_and_the_network_are_printed(golden):
    said = made("inspect", f"T5X={golden / 'mt3/t5x-tiny-2021'}")
    assert "51 arrays, 12 of them in the file checkpoint: 55,680 parameters, 222,720 bytes" in said
    rows = {line.split()[0]: line.split()[1:] for line in said.splitlines() if line}
    assert rows["encoder/encoder_norm/scale"] == ["32", "float32", "inline"]
    assert rows["decoder/logits_dense/kernel"] == ["32×128", "float32", "folder"]
    assert "2 of the encoder, 2 of the decoder" in said and "heads cannot be seen" in said


def test_the_configuration_is_told_by_its_vocabulary():
    said = "\n".join(inspect.network(expected(SIZES)))
    assert "1664: ismir2021" in said and "6 heads" in said and "contradicted" not in said
    assert "neither" in "\n".join(inspect.network(expected({**SIZES, "vocab_size": 100})))


def test_contradictions_are_told(checkpoint):
    tree = msgpack.unpackb((checkpoint / "checkpoint").read_bytes())
    tree["optimizer"]["target"]["decoder"]["decoder_norm"]["scale"] = seeded.packed(1, np.ones(31, np.float32))
    (checkpoint / "checkpoint").write_bytes(msgpack.packb(tree))
    said = made("inspect", f"T5X={checkpoint}")
    assert "contradicted by 1 of another shape: decoder/decoder_norm/scale is [31], expected [32]" in said


def test_what_is_not_t5x_is_one_line(tmp_path):
    done = run("make", "--no-print-directory", "inspect", f"T5X={tmp_path}")
    errors = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert done.returncode == 2 and len(errors) == 1 and "expected the folder of a T5X checkpoint" in errors[0]


def test_one_kind_is_named_and_no_other(tmp_path):
    assert "expected one of SAVED_MODEL, H5" in refused()
    assert "found PTH, ONNX" in refused("--onnx=a", "--pth=b")


def test_a_saved_model_of_tensorflow_1(told):
    report, _ = told["tf1"]
    assert rows(report, "signatures") == [
        ["serving_default", "input", "heard", "float32", "?×4", "heard:0"],
        ["serving_default", "output", "said", "float32", "?×2", "output/said:0"]]
    assert {verdict for fates in verdicts(report).values() for verdict, _, _ in fates} <= {"converted", "rewritten"}
    assert rows(report, "variables") == [["dense/kernel", "4×3", "float32"], ["output/kernel", "3×2", "float32"]]
    assert "2 variables: 18 parameters, 72 bytes" in report["lines"]


def test_an_lstm_of_keras_is_rewritten_and_its_custom_layer_is_named(told):
    report, _ = told["keras"]
    assert verdicts(report)["StatelessWhile"] == {("rewritten", "rewriter_lstm_tf2", "")}
    assert verdicts(report)["TensorListSetItem"] == {("rewritten", "with the loop that it is in", "")}
    assert ["model/soft", "Softener", "custom"] in rows(report, "layers")
    assert ["model/lstm", "LSTM", "Keras' own"] in rows(report, "layers")
    assert any("v2 (1 StatelessWhile)" in line for line in report["lines"])
    assert any(sentence.startswith("Softener is not Keras'") for sentence in report["next"])


def test_an_h5_is_read_as_data(told):
    report, _ = told["keras.h5"]
    assert ["model/soft", "Softener", "custom"] in rows(report, "layers")
    assert "6 weights: 119 parameters, 476 bytes" in report["lines"]
    assert not rows(told["weights.h5"][0], "layers") and len(rows(told["weights.h5"][0], "weights")) == 6


def test_a_lambda_layer_is_reported_and_not_run(told, tensorflow):
    assert ["sequential/harmful", "Lambda", "would run code"] in rows(told["lambda.h5"][0], "layers")
    assert not (tensorflow / "ran").exists()
    loading = f"import tensorflow as tf; tf.keras.models.load_model({str(tensorflow / 'lambda.h5')!r})"
    assert run("scripts/in", "legacy", "python", "-c", loading).returncode == 0
    assert (tensorflow / "ran").exists(), "the planted layer does nothing even where it is run"


def test_ops_without_a_handler_are_told_with_their_scope(told):
    report, _ = told["unsupported.pb"]
    assert verdicts(report)["Igamma"] == {("needs a handler", "", "Igamma")}
    assert verdicts(report)["Zeta"] == {("needs a handler", "", "Zeta")}
    assert verdicts(report)["Relu"] == {("converted", "", "")}
    [said] = report["next"]
    assert said.startswith("Igamma, Zeta have no handler") and 'Igamma = """ (a, x) => (z)' in said
    assert "def Igamma(a, x), in the model's kernels.py" in said


def test_ops_that_have_a_text_are_rewritten_by_it(told):
    report, _ = told["unsupported.pb"]
    assert verdicts(report)["Xlogy"] == {("rewritten", "as scripts/rewrites/Xlogy.txt has it", "")}


def test_what_is_computed_beforehand_needs_no_handler(told):
    """Zeta of constants alone; unsupported.pb has one of an input."""
    report, _ = told["constant.pb"]
    assert verdicts(report)["Zeta"] == {("rewritten", "computed beforehand, of constants alone", "")}
    assert not any("Zeta" in sentence for sentence in report["next"])


def test_a_lookup_table_is_said_and_no_handler_asked_for(told):
    report, _ = told["looked_up"]
    assert {verdict for verdict, _, _ in verdicts(report)["LookupTableFindV2"]} == {"impossible"}
    assert report["next"] == ["Found a lookup table, None_Lookup: look up before, and give the model the indices."]


def test_the_verdicts_are_those_of_tf2onnx(tensorflow):
    """A handler that somebody registers there changes the verdict here, and that of no other op."""
    done = run("scripts/in", "legacy", "python", "-c", HANDLER_TWIN, tensorflow / "unsupported.pb")
    assert done.stdout.splitlines()[-1] == "needs a handler;needs a handler;converted;needs a handler", done.stderr


@pytest.mark.parametrize("name", ["unsupported.pb", "constant.pb", "loop_v1.pb", "loop_v2.pb"])
def test_a_conversion_ends_as_was_told(told, tensorflow, name):
    lacking = sorted(op for op, fates in verdicts(told[name][0]).items() if "needs a handler" in str(fates))
    done = run("scripts/in", "legacy", "python", "-c", CONVERSION, tensorflow / name)
    found = re.search("equivalent for TensorFlow op (.*): give", done.stderr)
    assert lacking == (found.group(1).split(", ") if found else []) and bool(done.returncode) == bool(lacking)


def test_what_a_graph_would_do_is_not_done(told, tensorflow):
    """Its shapes follow from a file that TensorFlow reads as it imports it: here a pipe, where it would hang."""
    report, _ = told["harmful.pb"]
    assert {verdict for verdict, _, _ in verdicts(report)["PyFunc"]} == {"impossible"}
    assert {verdict for verdict, _, _ in verdicts(report)["ReadFile"]} == {"needs a handler"}
    (tensorflow / "pipe").unlink()
    (tensorflow / "pipe").write_text("2")
    assert run("scripts/in", "legacy", "python", "-c", IMPORT, tensorflow / "harmful.pb").stdout.endswith("\n(2,)\n"), (
        "the planted graph reads nothing even where it is imported")


@pytest.mark.parametrize("name, kind, op, why", [
    ("loop_v1.pb", "v1 (2 Enter", "Enter", "rewrite_generic_loop"),
    ("loop_v2.pb", "v2 (1 StatelessWhile)", "StatelessWhile", "its functions become bodies")])
def test_loops_of_both_kinds_are_rewritten(told, name, kind, op, why):
    report, _ = told[name]
    assert any(line.startswith(f"control flow {kind}") for line in report["lines"])
    assert verdicts(report)[op] == {("rewritten", why, "")}
    assert any("invalid model without a word" in sentence for sentence in report["next"]) == (op == "StatelessWhile")


def test_an_embedding_is_frozen_like_any_variable(told):
    """TensorFlow's freezing adds nodes for it."""
    report, _ = told["embedding"]
    assert verdicts(report)["GatherV2"] == {("converted", "", "")} and "VarHandleOp" not in verdicts(report)
    assert not any(line.startswith("rewriters") for line in report["lines"])


def test_a_graph_of_tfjs(told):
    report, _ = told["tfjs"]
    assert verdicts(report)["Softmax"] == {("converted", "", "")}
    assert "1 weights: 8 parameters, 32 bytes" in report["lines"]


@pytest.mark.parametrize("path, said", [
    ("frozen/circle.pb", "found a in a circle"),
    ("frozen/cut.pb", "expected a frozen GraphDef"),
    ("frozen/huge.pb", "found the shape [1048576, 1048576]"),
    ("frozen/lacking.pb", "expected a node nowhere"),
    ("saved_model/cut", "found no protobuf of one"),
    ("saved_model/empty", "found an empty file"),
    ("saved_model/encrypted", "found an encrypted file of OpenSSL"),
    ("saved_model/endless", "and calls 50 deep"),
    ("h5/cut.h5", "truncated file"),
    ("h5/foreign.h5", "found a zip archive"),
    ("h5/link.h5", "found a link at outside"),
    ("h5/stored.h5", "found passwd in another"),
    ("h5/nested.h5", "RecursionError"),
    ("h5/words.h5", "no JSON"),
    ("tfjs/outside", "found '../../tfjs/group1-shard1of1.bin'"),
    ("tfjs/absolute", "found '/etc/passwd'"),
    ("tfjs/short", "expected 48 bytes of weights in group1-shard1of1.bin, found 32"),
    ("tfjs/nested", "RecursionError"),
    ("tfjs/words", "can't be read"),
    ("tfjs/list", "can't be read")])
def test_hostile_files_of_tensorflow_are_one_sentence(told, tensorflow, path, said):
    report, flaw = told[f"hostile/{path}"]
    assert report is None and said in flaw and str(tensorflow / "hostile" / path) in flaw and "\n" not in flaw
    assert re.search(r": expected .*, found .*: (fetch|give|don't|it is|get|the)", flaw)


def test_an_op_that_nobody_defines_is_impossible(told):
    [(verdict, why, where)] = verdicts(told["hostile/frozen/foreign.pb"][0])["SomebodysOwnOp"]
    assert (verdict, where) == ("impossible", "scope") and "no op of TensorFlow's" in why


def test_the_command_asks_the_legacy_toolchain(tensorflow):
    done = inspected(f"--frozen={tensorflow / 'unsupported.pb'}")
    assert done.returncode == 0 and re.search(r"^Zeta +1 +needs a handler +Zeta$", done.stdout, re.MULTILINE)
    assert "what to do next:" in done.stdout
    assert "found a folder" in refused(f"--frozen={tensorflow}")


def test_onnx_ops_have_a_schema_and_a_kernel_or_not(tmp_path):
    body = make_graph([make_node("Mystery", ["x"], ["z"], domain="acme", name="loop/head/mystery")], "b", [],
                      [make_tensor_value_info("z", TensorProto.FLOAT, None)])
    onnx_model(tmp_path / "m.onnx", [
        make_node("MatMul", ["x", "w"], ["m"]), make_node("Constant", [], ["c"], value_int=1),
        make_node("Cast", ["c"], ["yes"], to=TensorProto.BOOL),
        make_node("If", ["yes"], ["y"], then_branch=body, else_branch=body)])
    done = inspected(f"--onnx={tmp_path / 'm.onnx'}")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^input +x +float +batch×4$", done.stdout, re.MULTILINE)
    assert re.search(r"^MatMul +ai.onnx +17 +1 +runs$", done.stdout, re.MULTILINE)
    assert re.search(r"^Mystery +acme +1 +2 +impossible +no schema in .* loop/head$", done.stdout, re.MULTILINE)
    assert "cannot be made" in done.stdout and "1 weights: 16 parameters, 64 bytes" in done.stdout


def test_a_session_of_onnx_needs_no_weights(tmp_path):
    path = onnx_model(tmp_path / "m.onnx", [make_node("MatMul", ["x", "w"], ["y"])])
    assert "a session    of ONNX Runtime can be made" in inspected(f"--onnx={path}").stdout
    model = onnx.load(path)
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "m.weights", length=64)
    model.graph.initializer[0].ClearField("raw_data")
    path.write_bytes(model.SerializeToString())
    said = inspected(f"--onnx={path}").stdout
    assert "of ONNX Runtime can be made" in said and "missing m.weights" in said


@pytest.mark.parametrize("domain, version, said", [
    ("", 99, "expected opset of ai.onnx "), ("ai.onnx.ml", 99, "expected opset of ai.onnx.ml "),
    ("IR", 99, "expected IR version ")])
def test_a_file_that_is_too_new_for_the_runtime_is_one_sentence_and_can_be_mended(tmp_path, domain, version, said):
    path = onnx_model(tmp_path / "m.onnx", [make_node("MatMul", ["x", "w"], ["y"])])
    model = onnx.load(path)

    def write(version):
        if domain == "IR":
            model.ir_version = version
        else:
            del model.opset_import[:]
            model.opset_import.extend([onnx.helper.make_opsetid(*one) for one in {"": 17, domain: version}.items()])
        path.write_bytes(model.SerializeToString())

    write(version)
    told = sentence(model_report, path)
    assert said in told and f"found {version}" in told
    assert said in sentence(lambda path: extract.extract(path, ["x"], ["y"], tmp_path / "piece.onnx"), path)
    write(int(re.search(r"(\d+) at most", told)[1]))
    assert model_report(path)["lines"][-1] == "a session    of ONNX Runtime can be made"


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../secret", "C:\\secret"])
def test_weights_of_onnx_outside_of_its_folder_are_refused(tmp_path, location):
    path = onnx_model(tmp_path / "m.onnx", [make_node("MatMul", ["x", "w"], ["y"])])
    model = onnx.load(path)
    tensor = model.graph.node[0].attribute.add(name="hidden", type=onnx.AttributeProto.TENSOR).t
    tensor.CopyFrom(model.graph.initializer[0])
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path.write_bytes(model.SerializeToString())
    assert f"found {location!r}" in sentence(model_report, path)


def nested(depth):
    """A protobuf of graphs in graphs, written by hand as no library would."""
    def field(number, content):
        size, length = len(content), b""
        while size > 127:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + content

    graph = b""
    for _ in range(depth):
        graph = field(1, field(5, field(6, graph)))
    return b"\x08\x08" + field(7, graph) + field(8, b"\x10\x11")


def test_damaged_and_foreign_onnx_is_one_sentence(tmp_path):
    whole = onnx_model(tmp_path / "m.onnx", [make_node("MatMul", ["x", "w"], ["y"])]).read_bytes()
    for content, said in ((whole[:-9], "cut off, or nested too deep"), (nested(2000), "cut off, or nested too deep"),
                          (b"", "an empty file"), (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
                          (b"age-encryption.org/v1", "an encrypted file of age"),
                          (b"version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS"),
                          (b"\x08\x08", "without graph or opset")):
        (tmp_path / "m.onnx").write_bytes(content)
        assert said in sentence(model_report, tmp_path / "m.onnx")
    assert "found none" in refused(f"--onnx={tmp_path / 'nowhere.onnx'}")


def test_a_pth_is_its_arrays_and_values(tmp_path, golden):
    torch.save({"state_dict": {"a.weight": torch.ones(2, 3, dtype=torch.float16)}, "step": 7}, tmp_path / "m.pth")
    said = inspected(f"--pth={tmp_path / 'm.pth'}").stdout
    assert re.search(r"^state_dict\.a\.weight +2×3 +float16$", said, re.MULTILINE) and re.search(
        r"^step +7$", said, re.MULTILINE) and "1 arrays: 6 parameters, 12 bytes" in said
    assert "float32" in inspected(f"--pth={golden / 'vampnet/codec-tiny.pth'}").stdout


def test_safetensors_and_flaxs_msgpack_are_listed_as_a_pth_is(tmp_path):
    save_file({"b.weight": torch.ones(2, 3, dtype=torch.bfloat16), "a": torch.ones(4, dtype=torch.bool)},
              tmp_path / "m.safetensors", {"format": "pt"})
    (tmp_path / "m.msgpack").write_bytes(msgpack.packb({"params": {"Dense_0": {
        "kernel": seeded.packed(1, np.ones((2, 3), np.float32))}}, "step": 7}))
    for name, array, toolchain in (("m.safetensors", r"b\.weight +2×3 +bfloat16", "torch"),
                                   ("m.msgpack", "params/Dense_0/kernel +2×3 +float32", "jax")):
        said = inspected(f"--pth={tmp_path / name}").stdout
        assert re.search(f"^{array}$", said, re.MULTILINE) and f"TOOLCHAIN={toolchain}" in said
    assert re.search(r"^step +7$", said, re.MULTILINE) and "1 arrays: 6 parameters, 24 bytes" in said


def test_damaged_safetensors_and_msgpack_are_one_sentence(tmp_path):
    save_file({"a": torch.ones(2, 3)}, tmp_path / "m")
    whole = (tmp_path / "m").read_bytes()
    header = json.dumps({"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}).encode()
    assert weights(tmp_path / "m")["lines"] == ["1 arrays: 6 parameters, 24 bytes"]
    for content, said in (
            (whole[:-1], f"safetensors of {len(whole) - 1} bytes whose header tells of {len(whole)}"),
            (whole[:40], "header can't be read"), (b"\x10" + bytes(7) + b"{" * 99, "header can't be read"),
            (len(header).to_bytes(8, "little") + header.replace(b"[2, 3]", b"[9, 9]") + bytes(24), "can't be read"),
            (b"\x81\xa1x\xc7\xff\x01", "msgpack that can't be read")):
        (tmp_path / "m").write_bytes(content)
        assert said in sentence(weights, tmp_path / "m")


class Harm:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_what_a_pth_would_run_is_named_and_not_run(tmp_path, golden):
    torch.save({"state_dict": {}, "harm": Harm(str(tmp_path / "ran"))}, tmp_path / "m.pth")
    assert "would run: posix.mkdir" in refused(f"--pth={tmp_path / 'm.pth'}")
    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / "m.pth", weights_only=False)
    assert (tmp_path / "ran").exists(), "the planted pickle does nothing even where it is run"
    assert "would run: builtins.print" in refused(f"--pth={golden / 'vampnet/malicious.pth'}")
    assert "wavebeat.dstcn.dsTCNModel" in sentence(pth, golden / "vampnet/foreign.pth")


def test_damaged_and_foreign_pth_is_one_sentence(tmp_path):
    torch.save({"a": torch.ones(100)}, tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    with zipfile.ZipFile(tmp_path / "packed.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", bytes(10**6))
    with zipfile.ZipFile(tmp_path / "other.pth", "w") as archive:
        archive.writestr("letter.txt", "hello")
    (tmp_path / "encrypted.pth").write_bytes(re.sub(rb"(PK\x01\x02.{4}).", rb"\g<1>" + b"\x01", whole,
                                                        flags=re.DOTALL))
    (tmp_path / "old.pth").write_bytes(pickle.dumps({"a": 1}, protocol=2))
    (tmp_path / "cut.pth").write_bytes(whole[:-40])
    (tmp_path / "page.pth").write_bytes(b"<!DOCTYPE html>")
    for name, said in (("packed", "packed members"), ("other", "without its data.pkl"),
                       ("old", "as PyTorch wrote before 1.6"), ("cut", "a zip archive that can't be read"),
                       ("page", "found a web page"), ("encrypted", "an encrypted zip archive"),
                       ("nowhere", "found none")):
        assert said in sentence(pth, tmp_path / f"{name}.pth")
    assert "found a web page" in refused(f"--pth={tmp_path / 'page.pth'}")


def test_the_page_is_one_file_and_takes_nothing_for_html(tmp_path):
    torch.save({"<script>alert(1)</script>": torch.ones(2), "\x1b[31mred": 1}, tmp_path / "m.pth")
    done = inspected(f"--pth={tmp_path / 'm.pth'}", f"--html={tmp_path / 'report.html'}")
    page = (tmp_path / "report.html").read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page and "<script" not in page and "http" not in page
    assert "\x1b" not in done.stdout and "\\x1b[31mred" in done.stdout
    assert "report.html" in refused(f"--pth={tmp_path / 'm.pth'}", f"--html={tmp_path / 'nowhere/report.html'}")


def test_a_reader_that_falls_over_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(inspect.READERS, "ONNX", (sys.executable, "-c", "import os; os.abort()"))
    with pytest.raises(inspect.Refusal, match="ends it with status -6"):
        inspect.ask("ONNX", tmp_path)
    monkeypatch.setattr(inspect, "MOST_SECONDS", 1)
    monkeypatch.setitem(inspect.READERS, "ONNX", (sys.executable, "-c", "import time; time.sleep(9)"))
    with pytest.raises(inspect.Refusal, match="takes longer"):
        inspect.ask("ONNX", tmp_path)
