"""A module and its checkpoint: which arrays are taken, and under which names; what is said where it has no graph."""

from collections import namedtuple
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from scripts import torch_module
from scripts.job import Refusal
from tests.conftest import ROOT

PORTS = {"inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 12]}],
         "outputs": [{"name": "y", "dtype": "float32", "shape": ["batch", 4]},
                     {"name": "best", "dtype": "int64", "shape": ["batch"]}]}
Pair = namedtuple("Pair", ("best", "y"))


def dense() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4))


def through(path: Path, module: nn.Module) -> nn.Module:
    """The module with what its export loads from a file."""
    return torch_module.loaded(module, torch_module.arrays(path), path)


def refused(call, *given) -> str:
    with pytest.raises(Refusal) as told:
        call(*given)
    assert "\n" not in str(told.value)
    return str(told.value)


def same(module: nn.Module, other: nn.Module) -> bool:
    pairs = zip(module.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(*pair) for pair in pairs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_dtypes_that_numpy_lacks_are_widened_exactly(tmp_path, dtype, suffix):
    narrow = {name: tensor.to(dtype) for name, tensor in dense().state_dict().items()}
    path = tmp_path / f"m{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(narrow, path)
    for name, array in torch_module.arrays(path).items():
        assert array.dtype == np.float32 and np.array_equal(array, narrow[name].float().numpy())


def test_parameters_that_require_gradients_are_arrays_too(tmp_path):
    torch.save(dict(dense().named_parameters()), tmp_path / "m.pth")
    assert same(through(tmp_path / "m.pth", dense()), dense())


def test_quantized_and_sparse_arrays_are_refused(tmp_path):
    for tensor, said in ((torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "found quantized ones: "),
                         (torch.ones(3).to_sparse(), "torch.sparse_coo: save what its dequantize() or to_dense()")):
        torch.save({"w": tensor}, tmp_path / "m.pth")
        assert said in refused(torch_module.arrays, tmp_path / "m.pth")


@pytest.mark.parametrize("named", ["{}", "module.{}", "_orig_mod.{}", "module._orig_mod.{}", "model.net.{}"])
def test_what_all_names_begin_with_is_taken_off(tmp_path, named):
    torch.save({named.format(name): tensor for name, tensor in dense().state_dict().items()}, tmp_path / "m.pth")
    assert same(through(tmp_path / "m.pth", dense()), dense())


def test_a_wrapper_is_taken_off_within_names_too(tmp_path):
    parallel = nn.ModuleDict({"a": nn.DataParallel(dense()), "b": dense()})
    torch.save(parallel.state_dict(), tmp_path / "m.pth")
    assert same(through(tmp_path / "m.pth", nn.ModuleDict({"a": dense(), "b": dense()})), parallel)


def test_a_name_is_left_where_it_is_the_modules_own(tmp_path):
    own = nn.ModuleDict({"module": dense()})
    torch.save(own.state_dict(), tmp_path / "m.pth")
    assert same(through(tmp_path / "m.pth", nn.ModuleDict({"module": dense()})), own)


def test_arrays_of_another_module_beside_its_own_are_said_with_the_way(tmp_path):
    torch.save(nn.ModuleDict({"generator": dense(), "judge": dense()}).state_dict(), tmp_path / "m.pth")
    said = refused(through, tmp_path / "m.pth", dense())
    assert "found them under generator. and 4 others: save them alone" in said and "'generator.'" in said


def test_an_array_too_many_too_few_or_of_another_shape_is_named(tmp_path):
    whole = dense().state_dict()
    for changed, said in (({**whole, "loss": torch.ones(1)}, "1 unknown: loss"),
                          ({name: whole[name] for name in ("0.weight", "2.weight", "2.bias")}, "1 missing: 0.bias"),
                          ({**whole, "0.weight": torch.ones(9, 12)}, "0.weight is [9, 12], expected [8, 12]")):
        torch.save(changed, tmp_path / "m.pth")
        assert said in refused(through, tmp_path / "m.pth", dense())


@pytest.mark.parametrize(("told", "chosen"), [
    ({"state_dict": "a", "epoch": 3, "optimizer_states": []}, "a"),
    ({"generator": "a", "optim_g": {"state": {0: {"step": torch.ones(1)}}}}, "a"),
    ({"ema": "b", "model": "a"}, "a"),
    ({"checkpoint": {"net": "a"}, "args": {"lr": 0.1}}, "a"),
])
def test_the_arrays_are_found_where_a_training_keeps_them(told, chosen):
    nets = {"a": {"w": torch.ones(1)}, "b": {"w": torch.zeros(1)}}

    def filled(part):
        return {key: filled(one) for key, one in part.items()} if isinstance(part, dict) else nets.get(
            part, part) if isinstance(part, str) else part

    assert torch_module.state_dict(filled(told), Path("m.pth")) is nets[chosen]


def test_several_nests_of_arrays_or_none_are_said_by_their_keys(tmp_path):
    one = {"w": torch.ones(1)}
    torch.save({"generator": one, "judge": {"net": {"w": torch.zeros(1)}}}, tmp_path / "m.pth")
    said = refused(torch_module.arrays, tmp_path / "m.pth")
    assert "found several, generator, judge.net: save the one" in said
    remedy = said[said.index("torch.save("):]
    exec(remedy.replace("'m.pth'", repr(str(tmp_path / "m.pth"))).replace(
        "'generator.pth'", repr(str(tmp_path / "generator.pth"))), {"torch": torch})
    assert torch_module.arrays(tmp_path / "generator.pth") == {"w": np.ones(1)}
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "m.pth")
    said = refused(torch_module.arrays, tmp_path / "m.pth")
    assert "found a dictionary of epoch, lr: save model.state_dict()" in said


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(3, 3)
        self.register_buffer("mask", torch.triu(torch.full((3, 3), -torch.inf), 1))
        self.register_buffer("most", torch.tensor(torch.inf))


@pytest.mark.parametrize(("name", "value", "taken"), [
    ("mask", -torch.inf, True), ("most", torch.inf, True), ("mask", torch.nan, False), ("mask", torch.inf, False),
    ("most", -torch.inf, True), ("out.weight", -torch.inf, False), ("out.bias", torch.nan, False),
])
def test_infinities_are_taken_as_masks_alone(tmp_path, name, value, taken):
    state = Masked().state_dict()
    state[name].view(-1)[0] = value
    torch.save(state, tmp_path / "m.pth")
    if taken:
        assert torch.equal(through(tmp_path / "m.pth", Masked()).state_dict()[name], state[name])
    else:
        assert f"found others in {name}: " in refused(through, tmp_path / "m.pth", Masked())


def test_what_the_modules_own_strict_load_takes_is_taken(tmp_path):
    """Weight norm of the old kind has other names, and a hook in the new one that knows them."""
    old, new = (nn.Sequential(norm(nn.Conv1d(2, 3, 5)), nn.Tanh(), norm(nn.ConvTranspose1d(3, 2, 4)))
                for norm in (nn.utils.weight_norm, nn.utils.parametrizations.weight_norm))
    torch.save(old.state_dict(), tmp_path / "m.pth")
    x = torch.ones(1, 2, 9)
    with torch.inference_mode():
        assert torch.equal(through(tmp_path / "m.pth", new)(x), old(x))
    torch.save({name: tensor for name, tensor in old.state_dict().items() if name != "2.weight_g"}, tmp_path / "m.pth")
    assert "2 missing: 2.parametrizations.weight.original0" in refused(through, tmp_path / "m.pth", new)


class Tied(nn.Module):
    def __init__(self, tie: bool = True):
        super().__init__()
        self.embed, self.head = nn.Embedding(5, 4), nn.Linear(4, 5, bias=False)
        if tie:
            self.head.weight = self.embed.weight


def test_of_tied_arrays_one_in_the_file_is_enough(tmp_path):
    whole = Tied()
    save_model(whole, tmp_path / "m.safetensors")
    assert len(torch_module.arrays(tmp_path / "m.safetensors")) == 1
    assert same(through(tmp_path / "m.safetensors", Tied()), whole)
    assert "1 missing: head.weight" in refused(through, tmp_path / "m.safetensors", Tied(tie=False))


def test_arrays_that_the_module_ties_and_the_file_does_not_are_refused(tmp_path):
    torch.save(Tied(tie=False).state_dict(), tmp_path / "m.pth")
    assert "expected equal arrays where the module in network.py has one, found another in head.weight" in refused(
        through, tmp_path / "m.pth", Tied())


class Answering(nn.Linear):
    """Twelve inputs, four outputs and the largest of them, in whatever form `form` has."""

    def __init__(self, form):
        super().__init__(12, 4)
        self.form = form

    def forward(self, x):
        y = super().forward(x)
        return self.form(y, y.argmax(-1).int())


FORMS = {"dictionary": lambda y, best: {"best": best, "y": y, "more": y}, "named": lambda y, best: Pair(best, y),
         "list": lambda y, best: [y, best], "nested": lambda y, best: (y, (best,))}


def exported(module: nn.Module, tmp_path: Path) -> None:
    torch_module.export(module.eval(), "model", {"opset": 20, "components": {"model": PORTS}},
                        {"x": np.linspace(-1, 1, 96, dtype=np.float32).reshape(8, 12)}, tmp_path)


class Caching(Answering):
    table = None

    def forward(self, x):
        if self.table is None:
            self.table = torch.cos(torch.arange(12))
        return super().forward(x * self.table)


@pytest.fixture(scope="module")
def caching(tmp_path_factory):
    """A module that returns a dictionary and makes a table at its first call, and its graph."""
    module, folder = Caching(FORMS["dictionary"]), tmp_path_factory.mktemp("caching")
    exported(module, folder)
    return module, onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])


def test_a_dictionary_is_exported_by_the_recipes_names_and_dtypes(caching):
    assert [(port.name, port.type) for port in caching[1].get_outputs()] == [
        ("y", "tensor(float)"), ("best", "tensor(int64)")]


def test_a_table_that_the_first_call_makes_is_in_nobodys_way(caching):
    module, session = caching
    feed = {"x": np.linspace(1, -1, 36, dtype=np.float32).reshape(3, 12)}
    assert module.table is None
    expected = torch_module.answered(module, PORTS, feed)
    for found, port in zip(session.run(None, feed), expected, strict=True):
        np.testing.assert_allclose(found, expected[port], atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_returned_in_any_form_has_the_recipes_names_and_dtypes(form):
    feed = {"x": np.ones((2, 12), np.float32)}
    told = torch_module.answered(Answering(FORMS[form]), PORTS, feed)
    assert [(name, array.dtype, array.shape) for name, array in told.items()] == [
        ("y", np.float32, (2, 4)), ("best", np.int64, (2,))]


@pytest.mark.parametrize(("form", "said"), [
    (lambda y, best: {"logits": y}, "found a dictionary of logits: name what it returns"),
    (lambda y, best: y, "expected the recipe's outputs y, best, found 1"),
    (lambda y, best: (best, y), "expected y as float32, as recipe.toml has it, found torch.int32"),
    (lambda y, best: (y.to(torch.complex64), best), "found torch.complex64"),
    (lambda y, best: (y, None), "expected best as int64, as recipe.toml has it, found NoneType"),
])
def test_what_the_recipe_does_not_say_is_refused(form, said):
    assert said in refused(torch_module.answered, Answering(form), PORTS, {"x": np.ones((2, 12), np.float32)})


def test_a_module_that_does_not_take_its_input_is_shown_by_its_line():
    said = refused(torch_module.answered, Answering(FORMS["list"]), PORTS, {"x": np.ones((2, 1), np.float32)})
    assert said.startswith(f"{Path(__file__).relative_to(ROOT)}, line ") and "`y = super().forward(x)`" in said
    assert "expected an answer to x [2, 1], found RuntimeError: mat1 and mat2 shapes cannot be multiplied" in said


class Training(Answering):
    def __init__(self):
        super().__init__(FORMS["list"])
        self.drop = nn.Dropout()

    def train(self, mode=True):
        super().train(mode)
        self.drop.train()  # left on, as who wants several answers does
        return self


class Counting(Answering):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x + self.calls)


@pytest.mark.parametrize(("module", "said"), [
    (lambda: Answering(lambda y, best: (nn.functional.dropout(y), best)), "found another y at the second time"),
    (lambda: Answering(lambda y, best: (y + torch.randn(4), best)), "found another y at the second time"),
    (lambda: Answering(lambda y, best: (y, torch.multinomial(y.softmax(-1), 1)[:, 0])), "found another best at the"),
    (lambda: Counting(FORMS["list"]), "found another y at the second time"),
    (Training, "found drop in that for training: end load with return module.eval()"),
])
def test_a_module_that_answers_differently_each_time_is_refused_before_anything_is_made(tmp_path, module, said):
    torch.manual_seed(1)
    assert said in refused(exported, module(), tmp_path)
    assert not list(tmp_path.iterdir())


class Branching(Answering):
    def forward(self, x):
        if x.mean() > 0:
            x = x * 2
        return super().forward(x)


class Bound(Answering):
    def forward(self, x):
        return super().forward(x.view(8, 12))


@pytest.mark.parametrize(("module", "said"), [
    (lambda: Branching(FORMS["list"]), ["`if x.mean() > 0:`: expected a graph that is the same for all values",
                                        "test_torch_module.py, line ", "choose with torch.where"]),
    (lambda: Bound(FORMS["list"]), ["forward makes axis 0 of its x 8: take sizes from shape"]),
    (lambda: Answering(lambda y, best: (torch.special.bessel_j0(y), best)), [
        "expected operations that ONNX has, found bessel_j0"]),
])
def test_what_has_no_graph_is_said_in_the_users_own_lines(tmp_path, module, said):
    message = refused(exported, module(), tmp_path)
    assert all(part in message for part in said), message
    assert not list(tmp_path.iterdir())
