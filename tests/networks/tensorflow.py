"""Networks in TensorFlow 2.4, as SavedModels (Python 3.7): `python -m tests.networks.tensorflow FOLDER [NAME…]`."""

import sys
from pathlib import Path
from typing import Any, Callable, Dict, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.python.keras.saving import saving_utils

from tests.networks import cases
from tests.networks.cases import Arrays, Network, real, whole

Tensors = Dict[str, tf.Tensor]
K = tf.keras
L = tf.keras.layers
NETWORKS = []  # type: List[Network]


def network(shows: str, *told: Any, **named: Any) -> Callable[[Any], Any]:
    return cases.declare(NETWORKS, shows, *told, **named)


def of_function(call: Callable[..., Tensors], specs: Sequence[tf.TensorSpec], *shapes: Sequence[int],
                **parts: Any) -> tf.Module:
    """A module that isn't Keras': call(weights, *inputs) with float32 weights of these shapes."""
    model = tf.Module()
    draw = np.random.RandomState(0).randn
    model.weights = [tf.Variable(draw(*shape).astype("f") / shape[0] ** 0.5) for shape in shapes]
    for name, part in parts.items():
        setattr(model, name, part)
    model.call = tf.function(lambda *given: call(model.weights, *given), input_signature=specs)
    return model


def spec(name: str, *shape: Any, dtype: Any = tf.float32) -> tf.TensorSpec:
    return tf.TensorSpec(shape, dtype, name)


@network("dense layers with ReLU, tanh, dropout and softmax", {"x": real("batch", 24)})
def tf_dense() -> Any:
    x = K.Input([24], name="x")
    y = L.Dropout(0.3)(L.Dense(48, "tanh")(L.Dense(64, "relu")(x)))
    return K.Model(x, L.Dense(10, "softmax", name="y")(y))


@network("a classifier of bytes: pictures of one size as uint8, convolutions, BatchNorm, poolings, flattened",
         {"x": whole(255, "batch", 16, 16, 3)})
def tf_bytes() -> Any:
    x = K.Input([16, 16, 3], dtype="uint8", name="x")
    y = L.BatchNormalization()(tf.cast(x, tf.float32) / 127.5 - 1)
    y = L.AvgPool2D()(L.ReLU(6.0)(L.BatchNormalization()(L.Conv2D(16, 3, padding="same", use_bias=False)(y))))
    y = L.Flatten()(L.MaxPool2D()(L.Conv2D(24, 3, padding="same", activation="elu")(y)))
    return shaken(K.Model(x, L.Dense(10, name="y")(y)))


@network("2-D convolutions of SAME padding with strides 2, on pictures of any size",
         {"x": real("batch", "height", "width", 3)}, sizes={"height": (11, 20), "width": (8, 13)})
def tf_strided_same() -> Any:
    x = K.Input([None, None, 3], name="x")
    y = L.Conv2D(16, 3, 2, "same", activation="relu")(x)
    y = L.MaxPool2D(3, 2, "same")(L.Conv2D(24, (5, 4), 1, "same", activation="relu")(y))
    return K.Model(x, L.Dense(5, name="y")(L.GlobalAveragePooling2D()(y)))


@network("causal 1-D convolutions with dilations, residuals between", {"x": real("batch", "length", 8)})
def tf_causal() -> Any:
    x = K.Input([None, 8], name="x")
    y = L.Conv1D(24, 1)(x)
    for dilation in (1, 2, 4):
        y = L.Add()([y, L.Conv1D(24, 2, padding="causal", dilation_rate=dilation, activation="relu")(y)])
    return K.Model(x, L.Conv1D(6, 1, name="y")(y))


@network("1-D convolutions without padding, wider than what the build asks with", {"x": real("batch", "length", 8)},
         sizes={"length": (16, 30)}, then="tf_longer", did="`inputs.py` asks with a length of 23 instead of 3")
def tf_valid() -> Any:
    x = K.Input([None, 8], name="x")
    y = L.Conv1D(24, 5, dilation_rate=2, activation="relu")(x)
    return K.Model(x, L.Conv1D(6, 3, strides=2, name="y")(y))


@network("the same, asked with enough", {"x": real("batch", "length", 8)}, sizes={"length": (16, 30)},
         edits=[("inputs.py", "length=3", "length=23")])
def tf_longer() -> Any:
    return tf_valid()


@network("separable convolutions with dilations of their own, SAME, on pictures of any size",
         {"x": real("batch", "height", "width", 3)}, sizes={"height": (11, 20), "width": (8, 13)},
         edits=[("inputs.py", "length=3, axis_2=4", "length=23, axis_2=19")])
def tf_separable() -> Any:
    x = K.Input([None, None, 3], name="x")
    y = L.SeparableConv2D(16, 3, padding="same", dilation_rate=(3, 2), activation="relu")(x)
    return K.Model(x, L.Conv2D(8, 1, name="y")(L.DepthwiseConv2D(3, padding="same")(y)))


@network("transposed convolutions and upsampling, cropped and padded", {"x": real("batch", 6, 5, 4)})
def tf_transposed() -> Any:
    x = K.Input([6, 5, 4], name="x")
    y = L.Conv2DTranspose(16, 3, 2, "same", activation="relu")(x)
    y = L.Conv2DTranspose(12, 4, 2, "valid", activation="relu")(L.ZeroPadding2D(1)(y))
    y = L.Cropping2D(((1, 2), (0, 1)))(L.UpSampling2D(2, interpolation="bilinear")(y))
    return K.Model(x, L.Conv2D(3, 3, padding="same", name="y")(y))


@network("a picture of any size resized, both ways, before a convolution",
         {"x": whole(255, "batch", "height", "width", 3)}, sizes={"height": (11, 20), "width": (8, 30)})
def tf_resized() -> Any:
    x = K.Input([None, None, 3], dtype="uint8", name="x")
    y = tf.cast(x, tf.float32) / 127.5 - 1
    y = tf.concat([tf.image.resize(y, [20, 20]), tf.image.resize(y, [20, 20], "nearest")], -1)
    y = L.Conv2D(16, 3, activation="relu")(y)
    return K.Model(x, L.Dense(6, name="y")(L.GlobalMaxPooling2D()(y)))


@network("LSTMs, backwards and with their states as outputs", {"x": real("batch", "length", 12)})
def tf_lstm() -> Any:
    x = K.Input([None, 12], name="x")
    y = L.LSTM(32, return_sequences=True, go_backwards=True)(x)
    y, hidden, cell = L.LSTM(24, return_sequences=True, return_state=True)(y)
    named = [L.Lambda(tf.identity, name=name) for name in ("hidden", "cell")]
    return K.Model(x, [L.Dense(5, name="y")(y), named[0](hidden), named[1](cell)])


@network("masked embeddings under a bidirectional LSTM and an LSTM", {"x": whole(30, "batch", "length")})
def tf_masked_lstm() -> Any:
    x = K.Input([None], dtype="int32", name="x")
    y = L.Embedding(31, 32, mask_zero=True)(x)
    y = L.LSTM(32)(L.Bidirectional(L.LSTM(24, return_sequences=True))(y))
    return K.Model(x, L.Dense(12, name="y")(y))


@network("GRUs of both kinds, reset before and after the product", {"x": real("batch", "length", 12)})
def tf_gru() -> Any:
    x = K.Input([None, 12], name="x")
    y = L.GRU(24, reset_after=False, return_sequences=True)(L.GRU(32, return_sequences=True)(x))
    return K.Model(x, L.Dense(6, name="y")(y))


@network("a bidirectional GRU that leaves out steps of zeros", {"x": real("batch", "length", 12)})
def tf_masked_gru() -> Any:
    x = K.Input([None, 12], name="x")
    y = L.Bidirectional(L.GRU(24), merge_mode="sum")(L.Masking(0.0)(x))
    return K.Model(x, L.Dense(6, name="y")(y))


@network("attention of several heads and a causal mask, LayerNorm, residuals, GELU", {"x": real("batch", "length", 16)})
def tf_attention() -> Any:
    x = K.Input([None, 16], name="x")
    places = tf.range(tf.shape(x)[1])
    mask = places[:, None] >= places[None]
    y = L.LayerNormalization()(x + L.MultiHeadAttention(4, 8)(x, x, attention_mask=mask[None]))
    return K.Model(x, L.Dense(16, name="y")(y + L.Dense(16)(L.Dense(48, "gelu")(y))))


@network("attention between two sequences, each of its own length",
         {"query": real("batch", "length", 16), "memory": real("batch", "others", 16)},
         sizes={"others": (5, 12)}, edits=[
             ("recipe.toml", 'name = "memory"\ndtype = "float32"\nshape = ["batch", "length", 16]',
              'name = "memory"\ndtype = "float32"\nshape = ["batch", "others", 16]'),
             ("inputs.py", "batch: int, length: int", "batch: int, length: int, others: int"),
             ("inputs.py", '"/memory", (batch, length, 16)', '"/memory", (batch, others, 16)'),
             ("inputs.py", "length=3", "length=3, others=5"), ("inputs.py", "length=16", "length=16, others=11"),
             ("inputs.py", "length=64", "length=64, others=64")])
def tf_memory() -> Any:
    query, memory = K.Input([None, 16], name="query"), K.Input([None, 16], name="memory")
    y = L.Attention(use_scale=True)([L.Dense(24)(query), L.Dense(24)(memory)])
    return K.Model([query, memory], L.Dense(6, name="y")(y))


@network("BatchNorm first, between, after a sum, and last", {"x": real("batch", 20)})
def tf_norms() -> Any:
    x = K.Input([20], name="x")
    y = L.BatchNormalization()(x)
    y = y + L.Dense(20, "relu")(L.BatchNormalization(scale=False)(L.Dense(32, use_bias=False)(y)))
    y = L.Dense(8)(L.BatchNormalization(center=False)(y))
    return shaken(K.Model(x, L.BatchNormalization(name="y")(y)))


@network("a loop over time with arrays that it fills", {"x": real("batch", "length", 8)})
def tf_loop() -> Any:
    def call(weights: Any, x: tf.Tensor) -> Tensors:
        steps, number = tf.transpose(x, [1, 0, 2]), tf.shape(x)[1]
        states = tf.TensorArray(tf.float32, number, element_shape=[None, 64])
        norms = tf.TensorArray(tf.float32, number, element_shape=[None, 1])

        def body(i: tf.Tensor, state: tf.Tensor, states: Any, norms: Any) -> Any:
            state = tf.tanh(tf.matmul(steps[i], weights[0]) + tf.matmul(state, weights[1]))
            return i + 1, state, states.write(i, state), norms.write(i, tf.reduce_sum(state ** 2, 1, keepdims=True))

        _, _, states, norms = tf.while_loop(
            lambda i, *_: i < number, body, [0, tf.zeros([tf.shape(x)[0], 64]), states, norms])
        return {"states": tf.transpose(states.stack(), [1, 0, 2]), "norms": tf.transpose(norms.stack(), [1, 0, 2])}

    return of_function(call, [spec("x", None, None, 8)], (8, 64), (64, 64))


@network("a branch of the graph on the data", {"x": real("batch", 8)})
def tf_branch() -> Any:
    return of_function(lambda weights, x: {"y": tf.cond(
        tf.reduce_mean(x) > 0, lambda: tf.matmul(x, weights[0]), lambda: tf.nn.relu(tf.matmul(x, weights[1])))},
        [spec("x", None, 8)], (8, 400), (8, 400))


@network("halves by slices, the gate of WaveNet", {"x": real("batch", "length", 16)})
def tf_halves() -> Any:
    x = K.Input([None, 16], name="x")
    y = L.Dense(32)(x)
    return K.Model(x, L.Dense(8, name="y")(tf.tanh(y[..., 0:16]) * tf.sigmoid(y[..., 16:32])))


@network("the magnitudes of a spectrum in a logarithm with a small epsilon", {"x": real("batch", 96)})
def tf_spectrum() -> Any:
    wave = np.exp(-2j * np.pi * np.outer(np.arange(32), np.arange(17)) / 32)
    parts = [tf.constant(part.astype("f")) for part in (wave.real, wave.imag)]

    def call(weights: Any, x: tf.Tensor) -> Tensors:
        frames = tf.signal.frame(x, 32, 16)
        power = sum(tf.square(tf.matmul(frames, part)) for part in parts)
        return {"y": tf.matmul(tf.math.log(power + 1e-10), weights[0])}

    return of_function(call, [spec("x", None, 96)], (17, 40))


@network("whole numbers out: the best of many, and where they are", {"x": real("batch", "length", 8)})
def tf_best() -> Any:
    def call(weights: Any, x: tf.Tensor) -> Tensors:
        scores = tf.einsum("btc,cd->btd", x, weights[0])
        best, places = tf.math.top_k(scores, 3)
        return {"scores": best, "places": places, "first": tf.argmax(scores, -1)}

    return of_function(call, [spec("x", None, None, 8)], (8, 40))


@network("an op that ONNX lacks, with a text ready for it (`Xlogy`)", {"x": real("batch", 12)})
def tf_xlogy() -> Any:
    return of_function(lambda weights, x: {"y": tf.matmul(tf.math.xlogy(x, 1.0 + x * x), weights[0])},
                       [spec("x", None, 12)], (12, 40))


@network("an op that ONNX lacks (`EuclideanNorm`)", {"x": real("batch", 12)}, then="tf_rewritten",
         did="it got the text of docs/your-own-model.md under `[rewrites]`")
def tf_foreign() -> Any:
    return of_function(lambda weights, x: {"y": tf.matmul(x / (1e-6 + tf.raw_ops.EuclideanNorm(
        input=x, axis=[-1], keep_dims=True)), weights[0])}, [spec("x", None, 12)], (12, 40))


@network("the same with a text for it", {"x": real("batch", 12)}, edits=[("recipe.toml", "[variants.fp32]", """\
[rewrites]
EuclideanNorm = \"""
<keep_dims> (x, axes) => (norm) {
    squares = Mul(x, x)
    wide = Cast<to = 7>(axes)
    sum = ReduceSum<keepdims: int = @keep_dims>(squares, wide)
    norm = Sqrt(sum)
}
\"""

[variants.fp32]""")])
def tf_rewritten() -> Any:
    return tf_foreign()


@network("a SavedModel of TensorFlow 1", {"x": real("batch", 12)})
class TfOne:
    def save(self, folder: str) -> None:
        v1 = tf.compat.v1
        with tf.Graph().as_default(), v1.Session() as session:
            x = v1.placeholder(tf.float32, [None, 12], "heard")
            v1.set_random_seed(0)
            kernels = [v1.get_variable("first", [12, 48], use_resource=False), v1.get_variable("last", [48, 6])]
            y = tf.identity(tf.matmul(tf.nn.relu(tf.matmul(x, kernels[0])), kernels[1]), "said")
            session.run(v1.global_variables_initializer())
            v1.saved_model.simple_save(session, folder, {"x": x}, {"y": y})
            self.kernels = session.run(kernels)

    def answer(self, feed: Arrays) -> Arrays:
        return {"y": (tf.nn.relu(feed["x"] @ self.kernels[0]) @ self.kernels[1]).numpy()}


@network("two signatures, neither of them `serving_default`", {"x": real("batch", 12)}, then="tf_signed",
         did="`make new` got `SIGNATURE=encode`")
def tf_signatures() -> Any:
    model = of_function(lambda weights, x: {"y": tf.matmul(x, weights[0])}, [spec("x", None, 12)], (12, 40))
    backward = tf.function(lambda y: {"x": tf.matmul(y, model.weights[0], transpose_b=True)}, [spec("y", None, 40)])
    model.signed = {"encode": model.call, "decode": backward}
    return model


@network("the same, the one that was chosen", {"x": real("batch", 12)}, signature="encode")
def tf_signed() -> Any:
    return tf_signatures()


@network("a text as input", {}, then="tf_words", did="the model was saved from its numbers on")
def tf_text() -> Any:
    return of_function(lambda weights, words: {"y": tf.gather(weights[0], tf.strings.length(words) % 9)},
                       [spec("words", None, dtype=tf.string)], (9, 8))


@network("the same behind its texts: tied embeddings", {"x": whole(8, "batch")})
def tf_words() -> Any:
    return of_function(lambda weights, x: {"y": tf.matmul(tf.gather(weights[0], x), weights[0], transpose_b=True)},
                       [spec("x", None, dtype=tf.int32)], (9, 40))


@network("a lookup table", {}, then="tf_words", did="the model was saved from its numbers on")
def tf_table() -> Any:
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(
        tf.constant([3, 5, 8], tf.int64), tf.constant([0, 1, 2], tf.int64)), 3)
    return of_function(lambda weights, keys: {"y": tf.gather(weights[0], table.lookup(keys))},
                       [spec("keys", None, dtype=tf.int64)], (4, 8), table=table)


@network("a Python function", {}, then="tf_xlogy", did="the function was written in TensorFlow's operations")
def tf_python() -> Any:
    return of_function(lambda weights, x: {"y": tf.matmul(tf.ensure_shape(tf.numpy_function(
        lambda x: x * np.log1p(x * x), [x], tf.float32), [None, 12]), weights[0])}, [spec("x", None, 12)], (12, 40))


@network("random numbers inside", {}, then="tf_noise", did="the noise became an input")
def tf_random() -> Any:
    return of_function(lambda weights, x: {"y": tf.matmul(x + tf.random.normal(tf.shape(x)), weights[0])},
                       [spec("x", None, 12)], (12, 40))


@network("the same with its noise as an input", {"x": real("batch", 12), "noise": real("batch", 12)})
def tf_noise() -> Any:
    return of_function(lambda weights, x, noise: {"y": tf.matmul(x + noise, weights[0])},
                       [spec("x", None, 12), spec("noise", None, 12)], (12, 40))


def shaken(model: Any) -> Any:
    """The model, its statistics and scales made up, which are 0 and 1 before a training."""
    for number, weight in enumerate(model.weights):
        if "normalization" in weight.name or "moving" in weight.name or len(weight.shape) == 1:
            draw = np.random.RandomState(number).uniform(0.1, 0.9, weight.shape)
            weight.assign(weight + draw.astype("f"))
    return model


def save(built: Any, place: Path) -> Path:
    """Write a SavedModel as its user does."""
    folder = place / "saved"
    if isinstance(built, TfOne):
        built.save(str(folder))
    elif isinstance(built, K.Model):
        signature = saving_utils.trace_model_call(built)  # the default one; the traces of all layers would take minutes
        built.save(str(folder), include_optimizer=False, save_traces=False, signatures=signature)
    else:
        tf.saved_model.save(built, str(folder), signatures=getattr(built, "signed", built.call))
    return folder


def answer(network: Network, built: Any, feed: Arrays) -> Arrays:
    """What the objects themselves return, which were never saved."""
    if not feed:
        return {}
    if isinstance(built, TfOne):
        return built.answer(feed)
    if isinstance(built, K.Model):
        returned = built({x.name.split(":")[0]: tf.cast(feed[x.name.split(":")[0]], x.dtype) for x in built.inputs})
        found = dict(zip(built.output_names, returned if isinstance(returned, (list, tuple)) else [returned]))
    else:
        found = built.call(*(tf.cast(feed[spec.name], spec.dtype) for spec in built.call.input_signature))
    return {name: tensor.numpy().astype(np.float32 if tensor.dtype.is_floating else np.int64)
            for name, tensor in found.items()}


def alone(network: Network) -> Callable[[], Any]:
    """The network as it is made whatever others are made before it."""
    def build() -> Any:
        K.backend.clear_session()
        np.random.seed(cases.seed(network.name) % 2**32)
        tf.random.set_seed(cases.seed(network.name))
        return network.build()
    return build


if __name__ == "__main__":
    chosen = [one._replace(build=alone(one)) for one in NETWORKS if one.name in sys.argv[2:] or not sys.argv[2:]]
    cases.write(chosen, Path(sys.argv[1]), save, answer, lambda network: {})
