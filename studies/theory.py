"""Does a trained discriminator behave as the theory of GANs says?

    python -m studies.theory

Images are numbers from N(0, 1), or N(0, s^2); samples are theta + s z: a generator whose weights are fixed. Only the
discriminator learns, a perceptron with two hidden layers of 128; `zoo.models.gan.GAN` trains it.

Writes results/theory.csv and docs/theory.png: the value function against the Jensen-Shannon divergence; the
discriminator's output when the generator becomes exact; the gradient that reaches theta as the discriminator improves.
"""

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tyro
from keras import layers

from studies.figures import pyplot, write_table
from studies.points import MLP_OPTIONS, make_batches, mlp_discriminator, small_architectures
from zoo.models.gan import GAN, Architecture

COLUMNS = ("figure", "curve", "x", "y", "expected")
SAMPLES = 100_000  # of each density, for an estimate of the value function
LOSSES = {"minimax": {}, "non_saturating": {}, "wasserstein": {"gradient_penalty": 10.0}}  # and GAN's options


@dataclass(frozen=True)
class Options:
    """All figures."""

    shifts: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
    """Values of theta in the first figure."""
    steps: int = 1_500
    """Updates of the discriminator for one value of theta."""
    batch_size: int = 512
    """Images, and as many samples, of an update."""
    learning_rate: float = 1e-3
    """Of Adam."""
    table: Path = Path("results/theory.csv")
    """The table to write."""
    figure: Path = Path("docs/theory.png")
    """The figure to draw, three panels."""


def make_architecture(deviation: float) -> Architecture:
    """Networks whose samples are theta + deviation z."""

    def generator(
        image_shape: tuple[int, int, int], latent_dim: int, width: int = 1, name: str = "generator"
    ) -> keras.Model:
        latent = keras.Input((latent_dim,), name="latent")
        fixed = layers.Dense(
            1, kernel_initializer=keras.initializers.Constant(deviation), bias_initializer="zeros", name="theta"
        )
        return keras.Model(latent, layers.Reshape(image_shape, name="image")(fixed(latent)), name=name)

    return Architecture(generator, mlp_discriminator, MLP_OPTIONS)


def make_gan(theta: float, options: Options, loss: str = "minimax", deviation: float = 1.0) -> GAN:
    """The discriminator before its first update, the generator at `theta`."""
    keras.utils.set_random_seed(0)
    with small_architectures(shifting=make_architecture(deviation)):
        model = GAN((1, 1, 1), 1, architecture="shifting", loss=loss, ema_decay=None, **LOSSES[loss])
    model.compile(
        discriminator=keras.optimizers.Adam(options.learning_rate),
        generator=keras.optimizers.SGD(0.0),
        steps_per_execution=10,
    )
    set_theta(model, theta)
    return model


def set_theta(model: GAN, theta: float) -> None:
    """Put the generator at `theta`."""
    kernel, _ = model.generator.get_weights()
    model.generator.set_weights([kernel, np.array([theta], np.float32)])


def train_discriminator(model: GAN, steps: int, options: Options, deviation: float = 1.0) -> dict[str, list[float]]:
    """Train for so many steps; returns the history, a value for every ten."""
    points = deviation * np.random.default_rng(int(model.step)).standard_normal((options.batch_size * 200, 1))
    data = make_batches(points, model, options.batch_size)
    return dict(model.fit(data, steps_per_epoch=10, epochs=steps // 10, shuffle=False, verbose=0).history)


def estimate_value(model: GAN, theta: float) -> float:
    """V(D) = E log D(x) + E log(1 - D(G(z))), on fresh numbers."""
    real, latents = np.random.default_rng(1).standard_normal((2, SAMPLES, 1, 1, 1)).astype(np.float32)
    real_logits, fake_logits = (model.discriminator.predict(x, 4096, verbose=0) for x in (real, theta + latents))
    return -float(np.mean(np.logaddexp(0, -real_logits)) + np.mean(np.logaddexp(0, fake_logits)))


def jensen_shannon(theta: float) -> float:
    """Of N(0, 1) and N(theta, 1), in nats, by quadrature."""
    x = np.linspace(-12.0, 12.0 + theta, 200_001)
    p, q = (np.exp(-0.5 * (x - mean) ** 2) / np.sqrt(2 * np.pi) for mean in (0.0, theta))
    mixture = 0.5 * (p + q)
    integrands = [
        np.where(density > 0, density * np.log(np.where(density > 0, density / mixture, 1.0)), 0.0)
        for density in (p, q)
    ]
    return float(0.5 * sum(np.trapezoid(integrand, x) for integrand in integrands))


def measure_values(options: Options) -> list[tuple[object, ...]]:
    """The value function at the trained discriminator against 2 JSD - log 4."""
    rows: list[tuple[object, ...]] = []
    for theta in options.shifts:
        model = make_gan(theta, options)
        train_discriminator(model, options.steps, options)
        rows.append(("value", "V(D)", theta, estimate_value(model, theta), 2 * jensen_shannon(theta) - np.log(4)))
    return rows


def measure_outputs(options: Options) -> list[tuple[object, ...]]:
    """D(x) and D(G(z)) while the generator stands at theta = 2, and after it has become exact."""
    model = make_gan(2.0, options, "non_saturating")
    rows: list[tuple[object, ...]] = []
    for theta, first in ((2.0, 0), (0.0, options.steps)):
        set_theta(model, theta)
        history = train_discriminator(model, options.steps, options)
        for curve, name in (("D(x)", "real_score"), ("D(G(z))", "fake_score")):
            rows += [
                ("output", curve, first + 10 * (number + 1), score, 0.5 if theta == 0.0 else "")
                for number, score in enumerate(history[name])
            ]
    return rows


def measure_gradients(options: Options, theta: float = 2.0, deviation: float = 0.3) -> list[tuple[object, ...]]:
    """|dL_G / dtheta| after so many updates of the discriminator; images and samples hardly overlap."""
    rows: list[tuple[object, ...]] = []
    latents = np.random.default_rng(2).standard_normal((4096, 1)).astype(np.float32)
    for loss in LOSSES:
        model = make_gan(theta, options, loss, deviation)
        done = 0
        for steps in (10, 20, 50, 100, 200, 500, 1_000, 2_000):
            train_discriminator(model, steps - done, options, deviation)
            done = steps
            bias = model.generator.trainable_variables[1].value
            with tf.GradientTape() as tape:
                losses = model.generator_loss(model.generator(latents, training=True))
                mean = tf.reduce_mean(losses)
            rows.append(("gradient", loss, steps, abs(float(tape.gradient(mean, bias)[0])), ""))
    return rows


def measure(options: Options) -> list[tuple[object, ...]]:
    """The rows of all three panels."""
    return measure_values(options) + measure_outputs(options) + measure_gradients(options)


def main(options: Options) -> None:
    """Measure, write the table, draw."""
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in measure(options)]
    texts = [{name: f"{v:.6g}" if isinstance(v, float) else v for name, v in row.items()} for row in rows]
    write_table(options.table, COLUMNS, texts)
    draw(rows, options)


def draw(rows: list[dict[str, object]], options: Options) -> None:
    """Three panels."""

    def curve(figure: str, name: str, column: str = "y") -> tuple[list[float], list[float]]:
        chosen = [row for row in rows if (row["figure"], row["curve"]) == (figure, name)]
        return [float(str(row["x"])) for row in chosen], [float(str(row[column])) for row in chosen]

    figure, (left, middle, right) = pyplot().subplots(1, 3, figsize=(13, 4), layout="constrained")
    left.plot(*curve("value", "V(D)", "expected"), color="black", label="2 JSD - log 4")
    left.plot(*curve("value", "V(D)"), "o", label="V(D), discriminator trained")
    left.set(xlabel=r"$\theta$", title="The value function")
    for name in ("D(x)", "D(G(z))"):
        middle.plot(*curve("output", name), label=name)
    middle.axvline(options.steps, color="black", linewidth=0.8, linestyle=":")
    middle.axhline(0.5, color="black", linewidth=0.8)
    middle.set(
        xlabel="updates; from the dotted line on, the generator is exact",
        title="The discriminator's output",
        ylim=(0, 1),
    )
    for name in LOSSES:
        right.loglog(*curve("gradient", name), marker="o", label=name.replace("_", "-"))
    right.set(xlabel="updates of the discriminator", title=r"The gradient that reaches $\theta$")
    for axis in (left, middle, right):
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    figure.savefig(options.figure, dpi=100)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
