"""Stage verify: every finished artifact against the recipe and against the original's numbers.

Form: onnx.checker in full, standard ops of the recipe's opset, nothing random, ports as
described, nothing in it that tells where or when it was made. Behaviour: each case of
reference.npz run in ONNX Runtime, at two sizes at least of every symbolic axis, and the
recipe's gates. An artifact for TensorFlow Lite got its form and its answers in the stage
lite, where its interpreter is; here they meet the same gates. Of a network that somebody put
together for bundled weights, models/<model>/answers.npz may hold what the one answered that
was trained, and fp32 is held against it; a guessed one is said to be so until then. What was
measured goes to report.json and report.md; the stage fails with a sentence for each missed gate or wrong form,
which names artifact, number and bound.
"""

import functools
import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from scripts import graphs, identity, job, kernels, reference
from scripts.manifest import sha256

RANDOM_OPS = {"Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
              "RandomUniformLike"}
LEAST_BY_DETOUR = 90  # dB
LEAST_BY_ANSWERS = {"snr_db": 90, "equality": 0.99}  # of an owner's own numbers, of those and of whole ones
GUESSED = ("its network is a guess, which only its owner can judge: put what the trained one answers into answers.npz, "
           "or the trained one into network.py and take guessed out of recipe.toml")
SMALLER = {"metric": "size_share", "at_most": 0.99}  # what holds of every variant that rounds
LEAST_BYTES = 1 << 14  # of fp32's weights: of fewer, scales and zero points may be more than what they save
# What a missed gate means for who wants to use the artifact, by metric.
LOSSY = "its rounding changes more than the recipe allows"
MEANS = {
    **dict.fromkeys(("bytes", "size_share"), "it is sound, but larger than the recipe promises"),
    "snr_db": LOSSY, "agreement": LOSSY, "agreement_above_median": LOSSY, "divergence": LOSSY,
    "decision_agreement": LOSSY, "equality": LOSSY,
    "loop_equality": "its loop isn't the one that its parts are made for: use the parts, with the loop of the player",
}
WRONG = "its numbers aren't the original's, so something was converted wrongly: don't use it"
ROUNDING = 2.0 ** -24  # the largest relative error of one rounding to float32
# Of a place or a time. Names of nodes and tensors may begin with a slash, as PyTorch writes them; texts may not.
PLACE = r"(^|[\s\"'=:])(/(home|root|tmp|usr|src|var|opt|mnt|work|workspace|github|Users)/|[A-Z]:\\)"
TIME = r"\d{4}-\d\d-\d\d|\d\d:\d\d:\d\d"
IN_NAMES = re.compile(f"{PLACE}|{TIME}")
IN_TEXTS = re.compile(rf"{PLACE}|{TIME}|(^|[\s\"'=:])/[\w.-]+/")


def verify(task: job.Job) -> None:
    cases = reference.read(task.inputs.get("ask", task.inputs["export"]) / "reference.npz")
    artifacts, failures = [], []
    whole: dict[str, int] = {}  # bytes of the numbers of each component in fp32
    for component, variant, suffix in shipped(task.recipe):
        path = artifact(task, component, variant, suffix)
        job.progress(f"verifying {path.name}")
        described, files = task.recipe["components"][component], [path]
        if suffix == "onnx":
            found = list(flaws(path, task, component, variant))
            answers = functools.partial(by_onnxruntime, path, task)
            if not found and (beside := graphs.beside(graphs.load(path, weights=False))):
                files.append(path.with_name(beside))
        else:
            answered = task.inputs["lite"] / f"{component}-{variant}.tflite"
            same = path.read_bytes() == answered.read_bytes()
            found = [] if same else ["is not the file that the interpreter ran"]
            answers = functools.partial(by_interpreter, task.inputs["lite"] / "answers.npz", answered.stem)
        looped = functools.partial(together, task, component, variant, described.get("loop_of"))
        try:
            measured = [] if found else measure(described, cases[component], answers,
                                                looped if suffix == "onnx" and "loop_of" in described else None)
        except Exception as error:  # ONNX Runtime's errors have no base of their own
            found.append(first_line(error))
        failures += [f"{path.name}: {flaw}" for flaw in found]
        if found:
            continue
        size = sum(file.stat().st_size for file in files)
        sizes: dict[str, float] = {"bytes": size}
        if suffix == "onnx":
            own = numbers(graphs.load(path, weights=False))
            if variant == "fp32":
                whole[component] = own
            if whole.get(component):  # else what is wrong with fp32 is told already, or it has no weights
                sizes["size_share"] = own / whole[component]
        gates = [judge(gate, measured, sizes) for gate in gates_of(task, component, variant, suffix)
                 if (gate["metric"] in sizes or "port" in gate)
                 and (gate is not SMALLER or whole[component] >= LEAST_BYTES)]
        failures += [f"{path.name}: {gate['text']}" for gate in gates if not gate["passed"]]
        artifacts.append({"file": path.name, "beside": [file.name for file in files[1:]], "component": component,
                          "variant": variant, "bytes": size, "measured": measured, "gates": gates})
    for name, part in task.recipe.get("together", {}).items():
        for variant in sorted(set.intersection(*(set(task.variants(one)) for one in part["components"]))):
            parts = [one for one in artifacts if (one["component"], one["variant"], one["file"][-5:]) in
                     {(component, variant, ".onnx") for component in part["components"]}]
            if len(parts) < len(part["components"]):
                continue  # what is wrong with one of them is told already
            job.progress(f"verifying {name}, {variant}")
            answers = functools.partial(by_loop, task, name, variant, part["components"])
            measured = measure(part, cases[name], answers)
            gates = [judge(gate, measured, {}) | {"together": name} for gate in gates_of(task, name, variant, "onnx")
                     if "port" in gate]
            failures += [f"{' with '.join(one['file'] for one in parts)}: {gate['text']}"
                         for gate in gates if not gate["passed"]]
            for one in parts:
                one["gates"] += gates
                one["measured"] += [dict(row, together=name) for row in measured]
    detours = {component: from_direct(task, component, cases[component]) for component in task.components("export")
               if (task.inputs["export"] / f"{component}.direct.onnx").is_file()}
    failures += [f"{component}: {detour_text(snr)}" for component, snr in detours.items() if snr < LEAST_BY_DETOUR]
    held = from_owner(task) if not failures and task.weights == "bundled" else []
    failures += [f"{task.model}: {one['text']}" for one in held if not one["passed"]]
    guessed = task.recipe.get("guessed", False) and not held
    if guessed:
        job.progress(GUESSED)
    told = {"artifacts": artifacts} | {name: one for name, one in (
        ("detours", detours), ("answers", held), ("guessed", guessed)) if one}
    (task.out / "report.json").write_text(json.dumps(told, indent=1) + "\n")
    (task.out / "report.md").write_text("\n".join([*report(task, artifacts), *(
        f"## {component}, by way of {task.recipe['route']}\n\n{detour_text(snr)}\n"
        for component, snr in detours.items()),
        *(f"- its owner's numbers, {one['text']}" for one in held),
        *[f"**A guess**: {GUESSED}.\n"] * guessed]) + "\n")
    if failures:
        raise job.Refusal("; ".join(failures))


def artifact(task: job.Job, component: str, variant: str, suffix: str = "onnx") -> Path:
    return task.inputs["compose"] / f"{task.model}-{component}-{variant}.{suffix}"


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def gates_of(task: job.Job, component: str, variant: str, suffix: str) -> list[dict[str, Any]]:
    """The recipe's gates for an artifact, and that a variant for its size is smaller than fp32."""
    own = [gate for gate in task.recipe["gates"]
           if gate.get("component", component) == component and gate.get("variant", variant) == variant
           and gate.get("format", "onnx") == suffix]
    lossy = suffix == "onnx" and task.recipe["variants"][variant]["method"] != "none"
    return own + ([SMALLER] if lossy and "size_share" not in [gate["metric"] for gate in own] else [])


def together(task: job.Job, name: str, variant: str, components: list[str]) -> Callable[..., dict[str, np.ndarray]]:
    """What the model's together.py does with the artifacts of a variant: a function of arrays by port."""
    function = getattr(task.module("together"), name.replace("-", "_"))
    sessions = {component: kernels.session(artifact(task, component, variant), task.model, task.recipe)
                for component in components}
    return functools.partial(function, sessions)


def by_loop(task: job.Job, name: str, variant: str, components: list[str], described: dict[str, Any],
            cases: reference.Cases) -> Iterator[list[np.ndarray]]:
    """What artifacts of a variant answer together to each case, in the order of the recipe's outputs."""
    answer = together(task, name, variant, components)
    for arrays in cases.values():
        answers = answer(arrays)
        yield [answers[port["name"]] for port in described["outputs"]]


def from_direct(task: job.Job, component: str, cases: reference.Cases) -> float:
    """Signal to error in dB of an export by a detour against the straight one, the least of all outputs and cases."""
    described, folder = task.recipe["components"][component], task.inputs["export"]
    pairs = zip(*(by_onnxruntime(folder / f"{component}{way}.onnx", task, described, cases) for way in ("", ".direct")))
    snr = min(compare(straight, found)["snr_db"] for pair in pairs for found, straight in zip(*pair))
    job.progress(f"{component}: {detour_text(snr)}")
    return snr


def answers_of_owner(task: job.Job, path: Path) -> dict[str, reference.Cases]:
    """The arrays of a model's answers.npz by component, case and port, in the ports' dtypes.

    It has them under <port>, those of several cases under <case>/<port>, of several components under
    <component>/<case>/<port>. Raises Refusal where they aren't the recipe's ports.
    """
    shown, told = path.relative_to(job.ROOT), {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for key, array in arrays.items():
                *scopes, port = key.split("/")
                component, case = [next(iter(task.recipe["components"])), "answers"][:2 - len(scopes)] + scopes
                told.setdefault(component, {}).setdefault(case, {})[port] = array
    except Exception as error:  # NumPy's errors have no base of their own
        raise job.Refusal(f"{shown}: expected arrays as numpy.savez writes them, found: {first_line(error)}: write it "
                          "again") from error
    for component, cases in told.items():
        described = task.recipe["components"].get(component, {"inputs": [], "outputs": []})
        dtypes = {port["name"]: port["dtype"] for port in (*described["inputs"], *described["outputs"])}
        for case, given in cases.items():
            if given.keys() != dtypes.keys():
                raise job.Refusal(f"{shown}: expected an array for each port, {', '.join(dtypes)}, found "
                                  f"{', '.join(given)}: write it with numpy.savez, by the names in recipe.toml")
            cases[case] = {port: array.astype(dtypes[port]) for port, array in given.items()}
    return told


def from_owner(task: job.Job) -> list[dict[str, Any]]:
    """How near components in fp32 are to the numbers in the model's answers.npz, judged as by gates; none without."""
    path = job.ROOT / "models" / task.model / "answers.npz"
    judged = []
    for component, cases in (answers_of_owner(task, path) if path.is_file() else {}).items():
        described, shown = task.recipe["components"][component], path.relative_to(job.ROOT)
        job.progress(f"holding {component} against {shown}")
        try:
            answers = by_onnxruntime(artifact(task, component, "fp32"), task, described, cases)
            rows = [{"case": case, "port": port["name"], **compare(arrays[port["name"]], found)}
                    for (case, arrays), returned in zip(cases.items(), answers)
                    for port, found in zip(described["outputs"], returned)]
        except Exception as error:  # ONNX Runtime's errors have no base of their own
            raise job.Refusal(f"{shown}: expected inputs and outputs of the recipe's shapes, found: {first_line(error)}"
                              ": write what the network was given, and what it answered") from error
        for port in described["outputs"]:
            metric = "snr_db" if port["dtype"] == "float32" else "equality"
            one = judge({"port": port["name"], "metric": metric, "at_least": LEAST_BY_ANSWERS[metric]}, rows, {})
            one["text"] = f"{shown}: {component} in fp32 has {one['text']}"
            if not one["passed"]:
                one["text"] += (": the network isn't the one that answered so, put that one into network.py, the order "
                                "of its layers and what lies between them")
            judged.append({"component": component, **one})
    return judged


def detour_text(snr: float) -> str:
    return f"by its detour {snr:.0f} dB SNR against the straight export, must be at least {LEAST_BY_DETOUR}"


def shipped(recipe: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Component, variant and file suffix of every artifact that a recipe makes, fp32 first."""
    for component in recipe["components"]:
        for variant in sorted(job.variants_of(recipe, component), key=lambda name: name != "fp32"):
            yield component, variant, "onnx"
        for variant, how in recipe.get("lite", {}).items():
            if component in how["components"]:
                yield component, variant, "tflite"


def flaws(path: Path, task: job.Job, component: str, variant: str) -> Iterator[str]:
    """What is wrong with an artifact's form, a sentence each.

    Besides ONNX's own operators it may have those of its variant's domain, if it names one, and the recipe's own.
    """
    described, opset = task.recipe["components"][component], task.recipe["opset"]
    domain = task.recipe["variants"][variant].get("domain")
    own = {op: told["domain"] for op, told in task.recipe.get("custom_ops", {}).items()}
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        yield f"onnx.checker refuses it: {str(error).strip().splitlines()[0]}"
        return
    model = graphs.load(path, weights=False)
    imported = {(o.domain, o.version) for o in model.opset_import}
    domains = sorted({*own.values(), *([domain] if domain else [])})
    if not {("", opset)} <= imported <= {("", opset), *((other, 1) for other in domains)}:
        more = f"and {', '.join(domains)}" if domains else "alone"
        yield f"expected standard ONNX of opset {opset} {more}, found {sorted(imported)}"
    nodes = [node for graph in (model.graph, *graphs.inner_graphs(model.graph)) for node in graph.node]
    if foreign := sorted({f"{node.domain}.{node.op_type}" for node in nodes if node.domain not in ("", domain)
                          and own.get(node.op_type) != node.domain}):
        yield f"holds operators that the recipe's custom_ops doesn't name ({', '.join(foreign)})"
    if random := sorted({node.op_type for node in nodes} & RANDOM_OPS):
        yield f"holds random ops ({', '.join(random)}); noise must be an input"
    for kind, ports, expected in (("input", model.graph.input, described["inputs"]),
                                  ("output", model.graph.output, described["outputs"])):
        described_ports = [(p["name"], p["dtype"], p["shape"]) for p in expected]
        found_ports = [describe_port(port) for port in ports]
        if found_ports != described_ports:
            yield f"expected the {kind}s {described_ports}, found {found_ports}"
    told = {prop.key: prop.value for prop in model.metadata_props}
    named = told.pop("weights_file", None), told.pop("weights_sha256", None)
    beside = graphs.beside(model)
    if named != (beside, sha256(path.with_name(beside)) if beside else None):
        yield f"expected the metadata weights_file and weights_sha256 to be those of {beside}, found {named}"
    label = identity.identity(task, component, variant) | identity.operators(task, model.opset_import)
    if not re.fullmatch(r"[0-9a-f]{64}", told.pop("source_sha256", "")) or told != label:
        yield f"expected the metadata source_sha256 and {label}, found {told}"
    texts = [model.producer_name, model.producer_version, model.doc_string, model.graph.name, model.graph.doc_string,
             *told.values(), *(node.doc_string for node in nodes)]
    names = [name for node in nodes for name in (node.name, *node.input, *node.output)]
    traces = [text for text in texts if IN_TEXTS.search(text)] + [name for name in names if IN_NAMES.search(name)]
    if traces:
        yield f"tells where or when it was made: {min(traces)!r}"


def describe_port(port: onnx.ValueInfoProto) -> tuple[str, str, list[str | int]]:
    tensor = port.type.tensor_type
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name
    return port.name, dtype, [axis.dim_param or axis.dim_value for axis in tensor.shape.dim]


def by_onnxruntime(path: Path, task: job.Job, described: dict[str, Any],
                   cases: reference.Cases) -> Iterator[list[np.ndarray]]:
    """What an artifact answers to each case, in the order of the recipe's outputs."""
    session = kernels.session(path, task.model, task.recipe)
    for arrays in cases.values():
        yield session.run([p["name"] for p in described["outputs"]],
                          {p["name"]: arrays[p["name"]] for p in described["inputs"]})


def by_interpreter(path: Path, artifact: str, described: dict[str, Any],
                   cases: reference.Cases) -> Iterator[list[np.ndarray]]:
    """The same, as the interpreter of TensorFlow Lite answered in the stage lite."""
    answers = reference.read(path)[artifact]
    for case in cases:
        yield [answers[case][port["name"]] for port in described["outputs"]]


def measure(described: dict[str, Any], cases: reference.Cases, answers: Callable[..., Iterator[list[np.ndarray]]],
            looped: Callable[[], Callable[..., dict[str, np.ndarray]]] | None = None) -> list[dict[str, Any]]:
    """Compare each output of every case with the original's: one row a case and port.

    looped: makes the function that does what a composed graph does, its loop in Python around the variant's own parts;
    loop_equality is the share of values that are equal to its. Raises Refusal where the cases don't run every symbolic
    axis at two sizes or more.
    """
    sizes: dict[str, set[int]] = {}
    rows = []
    loop = looped() if looped else None
    for (case, arrays), returned in zip(cases.items(), answers(described, cases)):
        for port in described["inputs"]:
            for axis, size in zip(port["shape"], arrays[port["name"]].shape):
                if isinstance(axis, str):
                    sizes.setdefault(axis, set()).add(size)
        own = loop(arrays) if loop else {}
        for port, found in zip(described["outputs"], returned):
            masks = arrays[port["written_where"]] if "written_where" in port else None
            rows.append({"case": case, "port": port.get("group", port["name"]),
                         **compare(arrays[port["name"]], found, port.get("classes"), masks, port.get("decisions"),
                                   arrays.get(port["name"] + reference.EXACT)),
                         **({"loop_equality": float((own[port["name"]] == found).mean())} if loop else {})})
    if frozen := sorted(axis for axis, seen in sizes.items() if len(seen) < 2):
        raise job.Refusal(f"the reference runs the axes {', '.join(frozen)} at one size only; "
                          "add a case of another size to the model's export.py")
    return rows


def compare(expected: np.ndarray, found: np.ndarray, classes: int | None = None, written: np.ndarray | None = None,
            decisions: int | None = None, exact: np.ndarray | None = None) -> dict[str, float]:
    """How far an output is from the original's; the arrays are of one shape.

    classes: the axis of an argmax, if there is one. written: 1 where the model's word counts,
    0 where it was given (equal over classes); None where it counts everywhere. decisions: how
    many of the last axis, from its start, are 0 or 1, if any are. exact: the original's output in float64, if its
    framework computes in it.
    max_error, mean_error, p99_error (99 % are within it): absolute. noise_ratio: the error against exact, in units
    of the original's own (see noise_ratio); where there is exact. given_max_error: where given. snr_db: signal to
    error in dB, 200 where they are equal.
    equality: share of values equal to the original's, in float32 or exactly. argmax_mismatches: where the
    original's margin between the two largest values exceeds twice its largest error in float32, else everywhere;
    undecided: how many argmaxes are left out so. agreement: share of equal argmaxes where written;
    agreement_above_median: of those whose margin reaches the median. divergence: the mean Kullback-Leibler
    divergence, in nats, of the softmax of found from that of expected, where written.
    decision_mismatches, decision_agreement: how many of the decisions differ, as equality has it, and the share of
    those that don't. Raises Refusal on another shape, NaN or infinity.
    """
    if found.shape != expected.shape or not np.isfinite(found).all():
        raise job.Refusal(f"expected finite values of shape {expected.shape}, found {found.shape}, "
                          f"{np.count_nonzero(~np.isfinite(found))} of them not finite")
    error = np.abs(found.astype(np.float64) - expected)
    power = np.square(error).sum()
    equal = error == 0
    if exact is not None:
        equal |= found == exact
    row = {"max_error": float(error.max(initial=0)), "mean_error": float(error.mean()),
           "p99_error": float(np.quantile(error, 0.99)), "equality": float(equal.mean()),
           "snr_db": float(10 * np.log10(np.square(expected.astype(np.float64)).sum() / power)) if power else 200.0}
    if exact is not None and expected.dtype == np.float32:
        row["noise_ratio"] = noise_ratio(expected, found, exact)
    if written is not None:
        row["given_max_error"] = float(error.max(initial=0, where=written == 0))
    if classes is not None:
        same = found.argmax(classes) == expected.argmax(classes)
        ordered = np.sort(expected, axis=classes)
        margin = ordered.take(-1, classes) - ordered.take(-2, classes)
        decided = margin > (2 * np.abs(expected - exact).max() if exact is not None else -1)
        row |= {"argmax_mismatches": int((~same & decided).sum()), "undecided": int((~decided).sum())}
        counted = np.ones_like(same) if written is None else written.max(axis=classes) > 0
        clear = margin[counted] >= np.median(margin[counted])
        row |= {"agreement": float(same[counted].mean()), "agreement_above_median": float(same[counted][clear].mean()),
                "divergence": float(divergence(expected, found, classes)[counted].mean())}
    if decisions is not None:
        same = equal[..., :decisions]
        row |= {"decision_mismatches": int((~same).sum()), "decision_agreement": float(same.mean())}
    return row


def noise_ratio(expected: np.ndarray, found: np.ndarray, exact: np.ndarray) -> float:
    """How much farther from the exact answer an output is than the original itself in float32, at that port on that
    input: of the root mean square of the errors and of the largest one the larger ratio.

    The original's error counts as one rounding of the exact answer at least, which any answer in float32 may have.
    """
    def sizes(array: np.ndarray) -> np.ndarray:
        return np.array([np.sqrt(np.square(array).mean()), np.abs(array).max()])

    own = np.maximum(sizes(expected - exact), ROUNDING * sizes(exact))
    return float((sizes(found - exact) / np.maximum(own, np.finfo(np.float32).tiny)).max())


def divergence(expected: np.ndarray, found: np.ndarray, axis: int) -> np.ndarray:
    """The Kullback-Leibler divergence, in nats, of the softmax of found from that of expected, without the axis."""
    def logarithms(logits: np.ndarray) -> np.ndarray:
        shifted = logits.astype(np.float64) - logits.max(axis, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))

    told = logarithms(expected)
    return (np.exp(told) * (told - logarithms(found))).sum(axis)


def numbers(model: onnx.ModelProto) -> int:
    """Bytes of the weights in a graph and beside it, which alone follow a network's width and its variant."""
    return sum(math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
               for tensor in graphs.arrays(model))


def judge(gate: dict[str, Any], measured: list[dict[str, Any]], sizes: dict[str, float]) -> dict[str, Any]:
    """Hold a gate of the recipe against what was measured; the worst case counts.

    sizes: of the artifact, by metric: bytes, and size_share, that of its weights of those in fp32.
    """
    metric = gate["metric"]
    if metric in sizes:
        values = [sizes[metric]]
    else:
        values = [row[metric] for row in measured if metric in row
                  and row["port"] == gate["port"] and row["case"] == gate.get("case", row["case"])]
        if not values:
            raise job.Refusal(f"no case of the reference measures the gate {gate}")
    worst = max(values) if "at_most" in gate else min(values)
    passed = worst <= gate["at_most"] if "at_most" in gate else worst >= gate["at_least"]
    bound = f"at most {gate['at_most']:g}" if "at_most" in gate else f"at least {gate['at_least']:g}"
    what = " of ".join(filter(None, (metric, gate.get("port")))) + (f", {gate['case']}" if "case" in gate else "")
    told = {key: gate[key] for key in ("metric", "port", "case", "at_most", "at_least") if key in gate}
    return {**told, "measured": worst, "passed": passed,
            "text": f"{what}: {worst:.3g}, must be {bound}"}


def report(task: job.Job, artifacts: list[dict[str, Any]]) -> Iterator[str]:
    """The lines of report.md."""
    yield f"# {task.recipe['title']}: {task.weights} weights against the original\n"
    if missed := list(remedies(task, artifacts)):
        yield "## What was missed, and what you can do\n"
        yield from missed
        yield (f"\nTo report it, send this file with {task.inputs['compose'].with_name('fetch')}/manifest.json, which "
               "tells your weights by their hashes and holds nothing of them.\n")
    for artifact in artifacts:
        yield f"## {artifact['file']}\n\n{artifact['bytes']:,} bytes\n"
        yield "| case | port | max error | of the original's noise | SNR, dB | agreement | above the median margin |"
        yield "|---|---|---|---|---|---|---|"
        for row in artifact["measured"]:
            case = f"{row['together']}: {row['case']}" if "together" in row else row["case"]
            shares = (row.get("agreement", row.get("decision_agreement", row.get("loop_equality"))),
                      row.get("agreement_above_median"))
            agreed = ["" if share is None else f"{share:.4f}" for share in shares]
            noise = f"{row['noise_ratio']:.2g} x" if "noise_ratio" in row else ""
            yield (f"| {case} | {row['port']} | {row['max_error']:.2g} | {noise} | {row['snr_db']:.1f} | "
                   f"{' | '.join(agreed)} |")
        yield ""
        for gate in artifact["gates"]:
            yield f"- gate {'passed' if gate['passed'] else 'MISSED'}: {gate['text']}"
        yield ""


def remedies(task: job.Job, artifacts: list[dict[str, Any]]) -> Iterator[str]:
    """Of each gate that an artifact missed what that means, and which of its component's artifacts passed theirs."""
    tables = [task.recipe.get(table, {}) for table in ("lite", "variants")]
    methods = {name: one["method"] for table in tables for name, one in table.items()}
    sound = [one for one in artifacts if all(gate["passed"] for gate in one["gates"])]
    for artifact in artifacts:
        others = [one["file"] for one in sound if one["component"] == artifact["component"]]
        instead = (f"{', '.join(others)} in {task.inputs['compose']} passed every gate: use "
                   f"{'one of them' if len(others) > 1 else 'it'} instead" if others
                   else "no other variant of it passed every gate either")
        for gate in artifact["gates"]:
            if not gate["passed"]:
                means = MEANS.get(gate["metric"], WRONG)
                if means == LOSSY and methods[artifact["variant"]] == "none":
                    means = WRONG
                yield f"- {artifact['file']}: {gate['text']}. That is: {means}; {instead}."


if __name__ == "__main__":
    job.run(verify)
