"""GANs and VAEs in one view: what is raised by turns, and what a model that is too small gives up.

    python -m studies.bounds

Left: a linear-Gaussian VAE whose encoder and decoder move by turns. The exact log-likelihood is that of probabilistic
PCA; the bound touches it when the encoder has had its turn: variational EM.

Right: one bell for two hills. Images are points of 0.65 N(-2, 0.5^2) + 0.35 N(2, 0.5^2), samples N(mean,
deviation^2), from a VAE with a linear decoder and from GANs with a linear generator. The bells at which KL(p || q), the
Jensen-Shannon divergence and KL(q || p) are least, or least nearby, are found by quadrature.

Writes results/bounds.csv and docs/bounds.png.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import tyro
from keras import layers
from rich.console import Console

from studies.figures import pyplot, write_table
from studies.points import batches, mlp_discriminator, playing
from zoo.models.gan import GAN
from zoo.models.vae import VAE

COLUMNS = ("figure", "curve", "x", "y")
SHAPE = (1, 2, 1)  # points in the plane, as images
COVARIANCE = np.array([[1.0, 0.9], [0.9, 1.25]])
NOISE = 0.5  # deviation of p(x|z)
HILLS = ((0.65, -2.0, 0.5), (0.35, 2.0, 0.5))  # share, mean, deviation
GRID = np.linspace(-8.0, 8.0, 4001)
DIVERGENCES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "KL(p || q)": lambda p, q: p * np.log(p / q),
    "JSD": lambda p, q: 0.5 * (p * np.log(2 * p / (p + q)) + q * np.log(2 * q / (p + q))),
    "KL(q || p)": lambda p, q: q * np.log(q / p),
}


@dataclass(frozen=True)
class Options:
    """Both figures."""

    turns: int = 10
    """Of encoder and decoder, one after the other."""
    turn: int = 50
    """Steps in one."""
    steps: int = 4_000
    """Of the two games and of the VAE, on the right."""
    batch_size: int = 256
    """Points a step."""
    table: Path = Path("results/bounds.csv")
    """What is measured."""
    figure: Path = Path("docs/bounds.png")
    """Two panels."""


def linear_vae(dimensions: int, **options: object) -> VAE:
    """One latent, linear maps, Gaussian all through: probabilistic PCA."""
    keras.utils.set_random_seed(0)
    model = VAE((1, dimensions, 1), latent_dim=1, hidden=(), likelihood="gaussian", bound_samples=100, **options)
    model.compile(autoencoder=keras.optimizers.Adam(0.02))
    return model


def exact(model: VAE, points: np.ndarray) -> float:
    """Mean log p(x) of points (count, dimensions): N(b, W W^T + scale^2 I)."""
    weights, bias = model.decoder.get_layer("values").get_weights()
    covariance = weights.T @ weights + float(model.log_likelihood.scale) ** 2 * np.eye(len(bias))
    away = points - bias
    squares = np.einsum("ni,ij,nj->n", away, np.linalg.inv(covariance), away)
    return float(np.mean(-0.5 * squares) - 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1])


def turns(options: Options) -> list[tuple[object, ...]]:
    """Exact log-likelihood and bound, every ten steps, while encoder and decoder move by turns."""
    points = np.random.default_rng(0).multivariate_normal([0.5, -0.5], COVARIANCE, options.batch_size)
    model = linear_vae(2, scale=NOISE)
    for network in (model.encoder, model.decoder):
        network.set_weights([0.2 * weights for weights in network.get_weights()])  # q(z|x) begins near p(z)
    data = batches(points, model, options.batch_size)
    images = points.reshape(-1, *SHAPE).astype(np.float32)
    rows: list[tuple[object, ...]] = []
    for number in range(options.turns):
        model.encoder.trainable, model.decoder.trainable = number % 2 == 0, number % 2 == 1
        model.make_train_function(force=True)
        for _ in range(options.turn // 10):
            bound = float(np.mean(model.log_prob(images, bound="elbo", samples=400).values))
            rows.append(("turns", "log p(x)", int(model.step), exact(model, points)))
            rows.append(("turns", "ELBO", int(model.step), bound))
            model.fit(data, steps_per_epoch=10, shuffle=False, verbose=0)
    return rows


def density(x: np.ndarray, *parts: tuple[float, float, float]) -> np.ndarray:
    """Of a mixture of normals: share, mean, deviation of each."""
    bells = [w * np.exp(-0.5 * ((x - mean) / deviation) ** 2) / deviation for w, mean, deviation in parts]
    return np.sum(bells, axis=0) / np.sqrt(2 * np.pi)


def nearest(divergence: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> list[tuple[float, float]]:
    """Mean and deviation of the bells at which it is least nearby, the lowest first, by quadrature and descent."""
    from scipy.optimize import minimize

    p = density(GRID, *HILLS) + 1e-300

    def distance(place: np.ndarray) -> float:
        q = density(GRID, (1.0, place[0], np.exp(place[1]))) + 1e-300
        return float(np.trapezoid(divergence(p, q), GRID))

    starts = [(-2.0, np.log(0.5)), (-0.6, np.log(2.0))]
    found = sorted((minimize(distance, start, method="Nelder-Mead") for start in starts), key=lambda each: each.fun)
    places = [(float(each.x[0]), float(np.exp(each.x[1]))) for each in found]
    return places[: 1 + (abs(places[0][0] - places[1][0]) > 0.01)]


def bell(image_shape: tuple[int, int, int], latent_dim: int, width: int = 1, name: str = "generator") -> keras.Model:
    """latent -> mean + deviation latent: two weights, which begin as N(0, 1)."""
    latent = keras.Input((latent_dim,), name="latent")
    point = layers.Dense(1, kernel_initializer="ones", name="bell")(latent)
    return keras.Model(latent, layers.Reshape(image_shape, name="image")(point), name=name)


def bells(options: Options) -> list[tuple[object, ...]]:
    """(mean, deviation) of the nearest bells, and of those that models come to."""
    rows: list[tuple[object, ...]] = [
        ("bells", name + ", nearby" * (number > 0), *place)
        for name, each in DIVERGENCES.items()
        for number, place in enumerate(nearest(each))
    ]
    random = np.random.default_rng(0)
    count = options.batch_size * 400
    hill = random.choice(len(HILLS), size=count, p=[share for share, *_ in HILLS])
    points = (np.array(HILLS)[hill, 1] + np.array(HILLS)[hill, 2] * random.standard_normal(count))[:, None]
    vae = linear_vae(1)
    vae.fit(batches(points, vae, options.batch_size), steps_per_epoch=options.steps, shuffle=False, verbose=0)
    weights, bias = vae.decoder.get_layer("values").get_weights()
    rows.append(("bells", "VAE", float(bias[0]), float(np.hypot(weights[0, 0], vae.log_likelihood.scale))))
    for loss in ("minimax", "non_saturating"):
        keras.utils.set_random_seed(0)
        with playing(bell=SimpleNamespace(generator=bell, discriminator=mlp_discriminator)):
            game = GAN((1, 1, 1), 1, architecture="bell", loss=loss, discriminator_steps=5, ema_decay=0.99)
        game.compile(
            discriminator=keras.optimizers.Adam(1e-3), generator=keras.optimizers.Adam(2e-3), steps_per_execution=10
        )
        data = batches(points, game, options.batch_size)
        game.fit(data, steps_per_epoch=options.steps, shuffle=False, verbose=0)
        kernel, mean = game.generator_ema.get_weights()
        rows.append(("bells", f"GAN, {loss.replace('_', '-')}", float(mean[0]), abs(float(kernel[0, 0]))))
    return rows


def main(options: Options) -> None:
    """Measure, write the table, draw."""
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in turns(options) + bells(options)]
    texts = [{name: f"{v:.5g}" if isinstance(v, float) else v for name, v in row.items()} for row in rows]
    write_table(options.table, COLUMNS, texts)
    for row in texts:
        if row["figure"] == "bells":
            Console().print(f"{row['curve']}: N({row['x']}, {row['y']}^2)", highlight=False)
    draw(rows, options)


def draw(rows: list[dict[str, object]], options: Options) -> None:
    """Two panels."""
    figure, (left, right) = pyplot().subplots(1, 2, figsize=(11, 4), layout="constrained")
    for curve in ("log p(x)", "ELBO"):
        chosen = [row for row in rows if row["curve"] == curve]
        left.plot([row["x"] for row in chosen], [row["y"] for row in chosen], label=curve)
    for number in range(0, options.turns, 2):
        left.axvspan(number * options.turn, (number + 1) * options.turn, color="black", alpha=0.08, linewidth=0)
    left.set(xlabel="step; gray: the encoder's turn", ylabel="nats a point", title="The bound, raised by turns")
    left.legend()
    x = np.linspace(-5, 5, 500)
    right.fill_between(x, density(x, *HILLS), color="black", alpha=0.12, linewidth=0, label="images")
    for row in rows:
        if row["figure"] == "bells":
            mean, deviation = float(str(row["x"])), float(str(row["y"]))
            name = str(row["curve"])
            sought = name.partition(",")[0] in DIVERGENCES
            look = {"linewidth": 4, "alpha": 0.35} if sought else {"linewidth": 1.5, "linestyle": "--"}
            right.plot(x, density(x, (1.0, mean, deviation)), label=f"least {name}" if sought else name, **look)
    right.set(title="One bell for two hills")
    right.legend(fontsize="small")
    figure.savefig(options.figure, dpi=100)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
