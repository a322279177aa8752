"""`make inspect T5X=path`: what a checkpoint holds, which network it is, and what speaks against it."""

import msgpack
import numpy as np
import pytest

from models.mt3 import seeded
from models.mt3.weights import expected
from scripts import inspect
from tests.conftest import made, run

SIZES = {"emb_dim": 32, "num_heads": 6, "head_dim": 64, "mlp_dim": 48, "num_encoder_layers": 1,
         "num_decoder_layers": 2, "vocab_size": 1664, "input_depth": 512}


@pytest.fixture
def checkpoint(tmp_path):
    seeded.write(tmp_path, SIZES)
    return tmp_path


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
