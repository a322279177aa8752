"""Stage optimize: each exported component as the smallest graph that computes the same in float32.

Constants folded and dead nodes dropped (onnxscript), paddings written out instead of the
deprecated auto_pad, dense layers as products and sums, ports given the recipe's symbolic
shapes, and everything that says where and how the file was made left behind.
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
        write_products(model.graph)
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


def write_products(graph: onnx.GraphProto) -> None:
    """Replace each Gemm of a weight by the MatMul and Add that it means, which every method of quantize knows."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes, turned = [], set()
    for node in graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        plain = {attributes.get(name, 1) for name in ("alpha", "beta")} == {1} and not attributes.get("transA")
        if node.op_type != "Gemm" or not plain or node.input[1] not in weights:
            nodes.append(node)
            continue
        x, weight, *bias = node.input
        if attributes.get("transB"):
            turned.add(weight)
            array, weight = onnx.numpy_helper.to_array(weights[weight]).T.copy(), f"{weight}.turned"
            if weight not in weights:
                weights[weight] = onnx.numpy_helper.from_array(array, weight)
                graph.initializer.append(weights[weight])
        product = f"{node.output[0]}.product" if bias else node.output[0]
        nodes.append(onnx.helper.make_node("MatMul", [x, weight], [product], node.name))
        if bias:
            nodes.append(onnx.helper.make_node("Add", [product, *bias], node.output, f"{node.name}.bias"))
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for part in (graph, *graphs.inner_graphs(graph)) for node in part.node for name in node.input}
    for name in turned - used:
        graph.initializer.remove(weights[name])


if __name__ == "__main__":
    job.run(optimize)
