"""The gated PixelCNN (arXiv:1606.05328) of codes or gray levels, and its cached sampler.

p(x) = prod p(x_i | x_1 ... x_{i-1}), pixels in rows from the upper left. What has no order, such as the codes of a
VQ-VAE, enters one-hot or, where it has many values, as a vector that is learned for each; gray levels enter as one
value in [-1, 1]. All are 0 outside of the image.

A row is sampled from what earlier rows left behind: each block keeps the `depth - 1` last rows of its vertical maps.
Zeros before the first row are then what the convolutions take for the outside. Every map is computed once, so that all
of an image costs as much arithmetic as one pass of the network.
"""

from typing import Any

import keras
from keras import KerasTensor, layers, ops

from zoo.core.precision import full_precision
from zoo.core.types import Tensor
from zoo.layers.gated import GatedBlock, gate
from zoo.networks.functional import named_network

FIRST_KERNEL = 7  # arXiv:1601.06759, table 1


def pixel_cnn(
    shape: tuple[int, int, int],
    levels: int,
    filters: int = 32,
    blocks: int = 7,
    kernel: int = 5,
    classes: int = 0,
    ordered: bool = False,
    embedding: int = 0,
    name: str = "pixel_cnn",
) -> keras.Model:
    """codes (batch, height, width, 1) int32 in [0, levels), and label (batch,) int32 -> logits (..., 1, levels).

    The logits of a pixel depend on the pixels before it alone, in rows from the upper left.

    Args:
        shape: (height, width, 1).
        levels: values of a code.
        filters: p of the paper: channels of both stacks.
        blocks: at least 2; the first has a kernel of 7x7.
        kernel: of the others, k x k, odd.
        classes: number of classes, 0 where it is given none.
        ordered: whether codes are gray levels, which enter as one value in [-1, 1]; else they enter one-hot.
        embedding: size of the learned vectors that codes enter as; 0 for none. The first kernel, which has a part for
            each of the levels, then has one for each of these.
        name: of the network.

    Raises:
        ValueError: more channels than one, whose order within a pixel is not learned; too few levels or blocks.
    """
    if shape[2] != 1:
        raise ValueError(f"shape={shape}: a PixelCNN here takes one channel; the order of several is not implemented.")
    if levels < 2 or blocks < 2:
        raise ValueError(f"levels={levels}, blocks={blocks}: choose at least 2 of both.")
    codes = keras.Input(shape, dtype="int32", name="codes")
    label = [keras.Input((), dtype="int32", name="label")] if classes else []
    values = Encoding(levels, ordered, embedding, name="encoding")(codes)
    # Mask A: each place is given the row above it, and the pixel on its left. All that follows is mask B.
    x = [
        layers.ZeroPadding2D(((1, 0), (0, 0)))(values[:, :-1]),
        layers.ZeroPadding2D(((0, 0), (1, 0)))(values[:, :, :-1]),
    ]
    skips = []
    for number in range(blocks):
        first, last = number == 0, number == blocks - 1
        block = GatedBlock(
            filters, FIRST_KERNEL if first else kernel, not first, last, classes, name=f"block_{number + 1}"
        )
        *x, skip = [block([*x, *label])] if last else block([*x, *label])
        skips.append(skip)
    hidden = layers.Activation("relu")(layers.Add(name="skips")(skips))
    hidden = layers.Conv2D(filters, 1, activation="relu", name="hidden")(hidden)
    logits = layers.Conv2D(levels, 1, dtype=full_precision(), name="logits")(hidden)
    logits = layers.Reshape((*shape, levels), dtype=full_precision())(logits)
    return keras.Model([codes, *label] if label else codes, logits, name=name)


@keras.saving.register_keras_serializable("zoo")
class Encoding(layers.Layer):
    """Codes (batch, height, width, 1) -> what stands for them in a network, (batch, height, width, channels).

    Args:
        levels: values of a code.
        ordered: one channel, from -1 for code 0 to 1 for the last; else one-hot, `levels` channels.
        embedding: in place of one-hot, a learned vector of so many channels; 0 for none.
    """

    def __init__(self, levels: int, ordered: bool, embedding: int = 0, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        if ordered and embedding:
            raise ValueError(f"embedding={embedding}: gray levels, which are ordered, enter as they are.")
        self.levels, self.ordered, self.embedding = levels, ordered, embedding
        self.vectors: keras.Variable | None = None

    def build(self, input_shape: Any) -> None:
        """Create the vectors, where they are learned."""
        if self.embedding:
            self.vectors = self.add_weight((self.levels, self.embedding), "uniform", name="vectors")

    def call(self, codes: Tensor) -> Tensor:
        """In the type that the layer computes in; int32 codes."""
        if self.ordered:
            return ops.cast(codes, self.compute_dtype) * (2.0 / (self.levels - 1)) - 1.0
        if self.vectors is not None:
            return ops.cast(ops.take(ops.convert_to_tensor(self.vectors), codes[..., 0], axis=0), self.compute_dtype)
        return ops.one_hot(codes[..., 0], self.levels, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        arguments = {"levels": self.levels, "ordered": self.ordered, "embedding": self.embedding}
        return {**super().get_config(), **arguments}


def pixel_cnn_step(network: keras.Model) -> keras.Model:
    """One row of a sample, given what the steps before left behind; the first step is given zeros.

    previous_image (batch, height, width, channels), previous_features (batch, ...), uniform (batch, width, 1) in
    [0, 1), and label -> features; image: the previous one moved up by a row, the new row below it; logits of the row,
    (batch, width, 1, levels). After `height` steps the image is complete: in [-1, 1] of gray levels, else one-hot.

    Args:
        network: made by `pixel_cnn`; the step computes with its weights, in full precision.
    """
    sampler = RowSampler(network)
    height, width, channels = sampler.shape
    inputs = [
        keras.Input((height, width, channels), name="previous_image"),
        keras.Input(sampler.features_shape, name="previous_features"),
        keras.Input((width, 1), name="uniform"),
        *label_inputs(network),
    ]
    image, features, logits, _ = sampler(inputs)
    # In the order of the alphabet, in which a graph's outputs are exported.
    return named_network(inputs, {"features": features, "image": image, "logits": logits})


def pixel_cnn_sampler(network: keras.Model) -> keras.Model:
    """uniform (batch, height, width, 1) in [0, 1), and label -> codes, likewise, int32, and logits (..., 1, levels).

    All steps of `pixel_cnn_step`, unrolled, for images of few pixels.

    Args:
        network: made by `pixel_cnn`.
    """
    sampler = RowSampler(network)
    height, width, _ = sampler.shape
    uniform, label = keras.Input((height, width, 1), name="uniform"), label_inputs(network)
    image: Tensor = ops.tile(ops.zeros_like(uniform[:, :1, :1]), (1, *sampler.shape))
    features: Tensor = ops.tile(ops.zeros_like(uniform[:, :1, :1, :, None]), (1, *sampler.features_shape))
    found = []
    for row in range(height):
        image, features, logits, codes = sampler([image, features, uniform[:, row], *label])
        found.append((codes, logits))
    codes, logits = (ops.stack(each, axis=1) for each in zip(*found, strict=True))
    return named_network([uniform, *label], {"codes": codes, "logits": logits})


def label_inputs(network: keras.Model) -> list[KerasTensor]:
    """A fresh input for the label where the network has one."""
    return [keras.Input((), dtype="int32", name="label") for _ in network.inputs[1:]]


class RowSampler(layers.Layer):
    """A row of a sample, pixel by pixel, by the weights of a `pixel_cnn`.

    Args:
        network: made by `pixel_cnn`.
    """

    def __init__(self, network: keras.Model):
        super().__init__(dtype=full_precision(), name="row")
        self.blocks = [layer for layer in network.layers if isinstance(layer, GatedBlock)]
        self.encoding, self.hidden, self.logits = (network.get_layer(name) for name in ("encoding", "hidden", "logits"))
        self.shape = tuple(self.encoding.output.shape[1:])
        first, second = self.blocks[:2]
        self.features_shape = (len(self.blocks) - 1, second.depth - 1, self.shape[1], first.filters)

    def call(self, inputs: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See `pixel_cnn_step`; the codes of the row besides, (batch, width, 1) int32."""
        image, features, uniform, *labels = inputs
        features, links = self.compute_rows(image, features, labels)
        values: list[Tensor] = []  # (batch, channels) each
        maps: list[list[Tensor]] = [values, *([] for _ in self.blocks[1:])]  # what enters each block's horizontal stack
        found = []
        for column in range(self.shape[1]):
            skips = 0.0
            for number, (block, link) in enumerate(zip(self.blocks, links, strict=True)):
                # The first block sees the pixels on the left alone, the others their own place too.
                out = dense(gate(self.sum_up(block, maps[number]) + link[column]), block.out)
                if block.last:
                    skips += out
                else:
                    added, skip = ops.split(out, 2, axis=-1)
                    skips += skip
                    maps[number + 1].append(added + maps[number][-1] if block.residual else added)
            logits = dense(ops.relu(dense(ops.relu(skips), self.hidden)), self.logits)
            codes = draw_codes(logits, uniform[:, column])
            values.append(ops.cast(self.encoding(codes[:, None, None])[:, 0, 0], self.compute_dtype))
            found.append((logits, codes))
        logits, codes = (ops.stack(each, axis=1) for each in zip(*found, strict=True))
        row = ops.stack(values, axis=1)[:, None]
        return ops.concatenate([image[:, 1:], row], axis=1), features, logits[:, :, None], codes

    def compute_rows(self, image: Tensor, features: Tensor, labels: list[Tensor]) -> tuple[Tensor, list[list[Tensor]]]:
        """The vertical stack at one row: the new features, and of each block what its horizontal stack takes of it.

        The latter is (batch, 2 filters) for each column, shifts by class included.
        """
        missing = max(0, self.blocks[0].depth - self.shape[0])
        window = ops.pad(image, [(0, 0), (missing, 0), (0, 0), (0, 0)])[:, -self.blocks[0].depth :]
        kept, links = [], []
        for number, block in enumerate(self.blocks):
            if number:
                window = ops.concatenate([features[:, number - 1], window], axis=1)
                kept.append(window[:, 1:])
            side = block.kernel // 2
            padded = ops.pad(window, [(0, 0), (0, 0), (side, side), (0, 0)])
            rows = ops.conv(padded, ops.convert_to_tensor(block.vertical.kernel), padding="valid") + block.vertical.bias
            link = dense(rows, block.link) + block.horizontal.bias
            if block.shift is not None:
                shifts = ops.take(ops.convert_to_tensor(block.shift.embeddings), labels[0], axis=0)
                rows, link = block.shift_by_class(rows, link, shifts[:, None, None])
            links.append(ops.unstack(link[:, 0], axis=1))
            window = gate(rows)
        return ops.stack(kept, axis=1), links

    def sum_up(self, block: GatedBlock, maps: list[Tensor]) -> Tensor:
        """The horizontal convolution at the next place, without its bias; places outside of the row are left out."""
        seen = maps[-block.depth :]
        if not seen:
            return 0.0
        kernel = ops.convert_to_tensor(block.horizontal.kernel)[0, block.depth - len(seen) :]
        return ops.matmul(ops.concatenate(seen, axis=-1), ops.reshape(kernel, (-1, 2 * block.filters)))


def dense(x: Tensor, layer: layers.Conv2D) -> Tensor:
    """A convolution of 1x1 along the last axis, without its activation."""
    return ops.matmul(x, ops.convert_to_tensor(layer.kernel)[0, 0]) + layer.bias


def draw_codes(logits: Tensor, uniform: Tensor) -> Tensor:
    """Level k where cdf[k - 1] <= u < cdf[k], computed in float32.

    Args:
        logits: (batch, levels).
        uniform: u, (batch, 1) in [0, 1).

    Returns:
        (batch, 1) int32.
    """
    probabilities = ops.softmax(ops.cast(logits, "float32"))
    cumulative = ops.cumsum(probabilities, axis=-1)[:, :-1]
    return ops.sum(ops.cast(cumulative <= ops.cast(uniform, "float32"), "int32"), axis=-1, keepdims=True)
