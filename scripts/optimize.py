"""Stage optimize: each exported component as the smallest graph that computes the same in float32.

Constants folded and dead nodes dropped (onnxscript), paddings written out instead of the
deprecated auto_pad, ports given the recipe's symbolic shapes, and everything that says
where and how the file was made left behind.
"""

import onnx
import onnxscript.optimizer

from scripts import graphs, job


def optimize(task: job.Job) -> None:
    for name, component in task.exported().items():
        job.progress(f"optimizing {name}")
        source = task.inputs["export"] / f"{name}.onnx"
        model = onnxscript.optimizer.optimize(graphs.load(source))
        graphs.refer(model, graphs.load(source, weights=False))
        write_paddings(model.graph)
        graphs.name_ports(model.graph, component)
        graphs.strip(model)
        if not graphs.beside(model):  # a linked file is an attack to the checker; verify has it check the copies
            onnx.checker.check_model(model, full_check=True)
        graphs.hand_on(model, source, task.out / f"{name}.onnx")


def write_paddings(graph: onnx.GraphProto) -> None:
    """Replace auto_pad=SAME_UPPER by the pads that it means for a convolution of stride 1."""
    for node in graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if attributes.get("auto_pad") != b"SAME_UPPER":
            continue
        if set(attributes.get("strides", [1])) != {1}:
            raise job.Refusal(f"{node.name}: SAME padding with strides {attributes['strides']} depends on the length; "
                              "write the padding out in the model's export.py")
        kernel = attributes["kernel_shape"]
        dilations = attributes.get("dilations", [1] * len(kernel))
        total = [(k - 1) * d for k, d in zip(kernel, dilations)]
        before = [t // 2 for t in total]
        kept = [a for a in node.attribute if a.name not in ("auto_pad", "pads")]
        del node.attribute[:]
        node.attribute.extend(kept)
        node.attribute.append(onnx.helper.make_attribute("pads", before + [t - b for t, b in zip(total, before)]))


if __name__ == "__main__":
    job.run(optimize)
