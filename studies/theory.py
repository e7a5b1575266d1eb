"""What the theory of GANs says, measured: figures of docs/theory.md.

    python -m studies.theory

Images are numbers from N(0, 1), or N(0, s^2); samples are theta + s z: a generator of one weight, held where it is.
Only D learns, a perceptron with two hidden layers of 128; `zoo.models.gan.GAN` trains it.

Writes results/theory.csv and docs/theory.png: the value of the game against the Jensen-Shannon divergence; D's output
when the generator becomes exact; the gradient that reaches theta as D gets better.
"""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import tensorflow as tf
import tyro
from keras import layers

from studies.figures import pyplot, write_table
from studies.points import batches, mlp_discriminator, playing
from zoo.models.gan import GAN

COLUMNS = ("figure", "curve", "x", "y", "expected")
SAMPLES = 100_000  # of a value
LOSSES = {"minimax": {}, "non_saturating": {}, "wasserstein": {"stabilizers": {"gradient_penalty": 10.0}}}


@dataclass(frozen=True)
class Options:
    """All figures."""

    shifts: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
    """theta, of the first figure."""
    steps: int = 1_500
    """Of D, for a value."""
    batch_size: int = 512
    """Of each side."""
    rate: float = 1e-3
    """Adam's."""
    table: Path = Path("results/theory.csv")
    """What is measured."""
    figure: Path = Path("docs/theory.png")
    """Three panels."""


def shifting(deviation: float) -> SimpleNamespace:
    """An architecture: samples theta + deviation z."""

    def generator(
        image_shape: tuple[int, int, int], latent_dim: int, width: int = 1, name: str = "generator"
    ) -> keras.Model:
        latent = keras.Input((latent_dim,), name="latent")
        fixed = layers.Dense(
            1, kernel_initializer=keras.initializers.Constant(deviation), bias_initializer="zeros", name="theta"
        )
        return keras.Model(latent, layers.Reshape(image_shape, name="image")(fixed(latent)), name=name)

    return SimpleNamespace(generator=generator, discriminator=mlp_discriminator)


def game(theta: float, options: Options, loss: str = "minimax", deviation: float = 1.0) -> GAN:
    """D before its first step, G at `theta`."""
    keras.utils.set_random_seed(0)
    with playing(shifting=shifting(deviation)):
        model = GAN((1, 1, 1), 1, architecture="shifting", loss=loss, ema_decay=None, **LOSSES[loss])
    model.compile(
        discriminator=keras.optimizers.Adam(options.rate), generator=keras.optimizers.SGD(0.0), steps_per_execution=10
    )
    move(model, theta)
    return model


def move(model: GAN, theta: float) -> None:
    """Put G at `theta`."""
    kernel, _ = model.generator.get_weights()
    model.generator.set_weights([kernel, np.array([theta], np.float32)])


def learn(model: GAN, steps: int, options: Options, deviation: float = 1.0) -> dict[str, list[float]]:
    """Let D learn for so many steps; the history of each ten."""
    points = deviation * np.random.default_rng(int(model.step)).standard_normal((options.batch_size * 200, 1))
    data = batches(points, model, options.batch_size)
    return dict(model.fit(data, steps_per_epoch=10, epochs=steps // 10, shuffle=False, verbose=0).history)


def value(model: GAN, theta: float) -> float:
    """E log D(x) + E log(1 - D(G(z))), on fresh numbers."""
    real, latents = np.random.default_rng(1).standard_normal((2, SAMPLES, 1, 1, 1)).astype(np.float32)
    real_logits, fake_logits = (model.discriminator.predict(side, 4096, verbose=0) for side in (real, theta + latents))
    return -float(np.mean(np.logaddexp(0, -real_logits)) + np.mean(np.logaddexp(0, fake_logits)))


def jensen_shannon(theta: float) -> float:
    """Of N(0, 1) and N(theta, 1), in nats, by quadrature."""
    x = np.linspace(-12.0, 12.0 + theta, 200_001)
    p, q = (np.exp(-0.5 * (x - mean) ** 2) / np.sqrt(2 * np.pi) for mean in (0.0, theta))
    middle = 0.5 * (p + q)
    integrand = [np.where(side > 0, side * np.log(np.where(side > 0, side / middle, 1.0)), 0.0) for side in (p, q)]
    return float(0.5 * sum(np.trapezoid(side, x) for side in integrand))


def values(options: Options) -> list[tuple[object, ...]]:
    """The game's value at the best D against 2 JSD - log 4."""
    rows: list[tuple[object, ...]] = []
    for theta in options.shifts:
        model = game(theta, options)
        learn(model, options.steps, options)
        rows.append(("value", "V(D)", theta, value(model, theta), 2 * jensen_shannon(theta) - np.log(4)))
    return rows


def outputs(options: Options) -> list[tuple[object, ...]]:
    """D(x) and D(G(z)) while G stands at 2, and after it has become exact."""
    model = game(2.0, options, "non_saturating")
    rows: list[tuple[object, ...]] = []
    for theta, first in ((2.0, 0), (0.0, options.steps)):
        move(model, theta)
        history = learn(model, options.steps, options)
        for curve, name in (("D(x)", "real_score"), ("D(G(z))", "fake_score")):
            rows += [
                ("output", curve, first + 10 * (number + 1), score, 0.5 if theta == 0.0 else "")
                for number, score in enumerate(history[name])
            ]
    return rows


def gradients(options: Options, theta: float = 2.0, deviation: float = 0.3) -> list[tuple[object, ...]]:
    """|dL_G / dtheta| after so many steps of D; images and samples hardly overlap."""
    rows: list[tuple[object, ...]] = []
    latents = np.random.default_rng(2).standard_normal((4096, 1)).astype(np.float32)
    for loss in LOSSES:
        model = game(theta, options, loss, deviation)
        done = 0
        for steps in (10, 20, 50, 100, 200, 500, 1_000, 2_000):
            learn(model, steps - done, options, deviation)
            done = steps
            place = model.generator.trainable_variables[1].value
            with tf.GradientTape() as tape:
                losses = model.generator_loss(model.generator(latents, training=True))
                mean = tf.reduce_mean(losses)
            rows.append(("gradient", loss, steps, abs(float(tape.gradient(mean, place)[0])), ""))
    return rows


def main(options: Options) -> None:
    """Measure, write the table, draw."""
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in values(options) + outputs(options) + gradients(options)]
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
    left.plot(*curve("value", "V(D)"), "o", label="V(D), D trained")
    left.set(xlabel=r"$\theta$", title="The game's value")
    for name in ("D(x)", "D(G(z))"):
        middle.plot(*curve("output", name), label=name)
    middle.axvline(options.steps, color="black", linewidth=0.8, linestyle=":")
    middle.axhline(0.5, color="black", linewidth=0.8)
    middle.set(xlabel="steps of D; from the dotted line on, G is exact", title="D's output", ylim=(0, 1))
    for name in LOSSES:
        right.loglog(*curve("gradient", name), marker="o", label=name.replace("_", "-"))
    right.set(xlabel="steps of D", title=r"The gradient that reaches $\theta$")
    for axis in (left, middle, right):
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    figure.savefig(options.figure, dpi=100)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
