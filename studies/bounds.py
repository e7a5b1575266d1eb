"""What do VAEs and GANs optimize in alternation, and what does a model give up that is too small for the data?

    python -m studies.bounds

Left: a linear-Gaussian VAE whose encoder and decoder are updated in alternation. The exact log-likelihood is that of
probabilistic PCA; the bound reaches it once the encoder has been trained: variational EM.

Right: one Gaussian fitted to a mixture of two. Images are points of 0.65 N(-2, 0.5^2) + 0.35 N(2, 0.5^2), samples
N(mean, deviation^2), from a VAE with a linear decoder and from GANs with a linear generator. The Gaussians at which
KL(p || q), the Jensen-Shannon divergence and KL(q || p) have a minimum are found by quadrature.

Writes results/bounds.csv and docs/bounds.png.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tyro
from keras import layers
from rich.console import Console

from studies.figures import pyplot, write_table
from studies.points import MLP_OPTIONS, make_batches, mlp_discriminator, small_architectures
from zoo.models.gan import GAN, Architecture
from zoo.models.vae import VAE

COLUMNS = ("figure", "curve", "x", "y")
SHAPE = (1, 2, 1)  # points in the plane, as images
COVARIANCE = np.array([[1.0, 0.9], [0.9, 1.25]])
NOISE = 0.5  # deviation of p(x|z)
MIXTURE = ((0.65, -2.0, 0.5), (0.35, 2.0, 0.5))  # weight, mean, deviation
GRID = np.linspace(-8.0, 8.0, 4001)
DIVERGENCES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "KL(p || q)": lambda p, q: p * np.log(p / q),
    "JSD": lambda p, q: 0.5 * (p * np.log(2 * p / (p + q)) + q * np.log(2 * q / (p + q))),
    "KL(q || p)": lambda p, q: q * np.log(q / p),
}


@dataclass(frozen=True)
class Options:
    """Both figures."""

    phases: int = 10
    """Of the encoder and of the decoder, in alternation."""
    steps_per_phase: int = 50
    """Train steps of one of the two networks."""
    steps: int = 4_000
    """Train steps of the GANs and of the VAE on the right."""
    batch_size: int = 256
    """Points of a step."""
    table: Path = Path("results/bounds.csv")
    """The table to write."""
    figure: Path = Path("docs/bounds.png")
    """The figure to draw, two panels."""


def make_linear_vae(dimensions: int, **options: object) -> VAE:
    """One latent, linear maps, Gaussian all through: probabilistic PCA."""
    keras.utils.set_random_seed(0)
    model = VAE((1, dimensions, 1), latent_dim=1, hidden=(), likelihood="gaussian", bound_samples=100, **options)
    model.compile(autoencoder=keras.optimizers.Adam(0.02))
    return model


def exact_log_likelihood(model: VAE, points: np.ndarray) -> float:
    """Mean log p(x) of points (count, dimensions): N(b, W W^T + scale^2 I)."""
    weights, bias = model.decoder.get_layer("values").get_weights()
    covariance = weights.T @ weights + float(model.log_likelihood.scale) ** 2 * np.eye(len(bias))
    centered = points - bias
    squares = np.einsum("ni,ij,nj->n", centered, np.linalg.inv(covariance), centered)
    return float(np.mean(-0.5 * squares) - 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1])


def alternate_updates(options: Options) -> list[tuple[object, ...]]:
    """Exact log-likelihood and bound, every ten steps, while encoder and decoder are trained in alternation."""
    points = np.random.default_rng(0).multivariate_normal([0.5, -0.5], COVARIANCE, options.batch_size)
    model = make_linear_vae(2, scale=NOISE)
    for network in (model.encoder, model.decoder):
        network.set_weights([0.2 * weights for weights in network.get_weights()])  # q(z|x) begins near p(z)
    data = make_batches(points, model, options.batch_size)
    images = points.reshape(-1, *SHAPE).astype(np.float32)
    rows: list[tuple[object, ...]] = []
    for phase in range(options.phases):
        model.encoder.trainable, model.decoder.trainable = phase % 2 == 0, phase % 2 == 1
        model.make_train_function(force=True)
        for _ in range(options.steps_per_phase // 10):
            bound = float(np.mean(model.log_prob(images, bound="elbo", samples=400).values))
            rows.append(("alternation", "log p(x)", int(model.step), exact_log_likelihood(model, points)))
            rows.append(("alternation", "ELBO", int(model.step), bound))
            model.fit(data, steps_per_epoch=10, shuffle=False, verbose=0)
    return rows


def density(x: np.ndarray, *components: tuple[float, float, float]) -> np.ndarray:
    """Of a Gaussian mixture at `x`, each component a weight, a mean, a deviation."""
    parts = [w * np.exp(-0.5 * ((x - mean) / deviation) ** 2) / deviation for w, mean, deviation in components]
    return np.sum(parts, axis=0) / np.sqrt(2 * np.pi)


def find_minima(divergence: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> list[tuple[float, float]]:
    """(mean, deviation) of the Gaussians at its local minima, the lowest first, by quadrature and descent."""
    from scipy.optimize import minimize

    p = density(GRID, *MIXTURE) + 1e-300

    def distance(parameters: np.ndarray) -> float:
        q = density(GRID, (1.0, parameters[0], np.exp(parameters[1]))) + 1e-300
        return float(np.trapezoid(divergence(p, q), GRID))

    starts = [(-2.0, np.log(0.5)), (-0.6, np.log(2.0))]
    found = sorted((minimize(distance, start, method="Nelder-Mead") for start in starts), key=lambda each: each.fun)
    minima = [(float(each.x[0]), float(np.exp(each.x[1]))) for each in found]
    distinct = abs(minima[0][0] - minima[1][0]) > 0.01
    return minima if distinct else minima[:1]


def gaussian_generator(
    image_shape: tuple[int, int, int], latent_dim: int, width: int = 1, name: str = "generator"
) -> keras.Model:
    """latent -> mean + deviation latent: two weights, which begin as N(0, 1)."""
    latent = keras.Input((latent_dim,), name="latent")
    point = layers.Dense(1, kernel_initializer="ones", name="gaussian")(latent)
    return keras.Model(latent, layers.Reshape(image_shape, name="image")(point), name=name)


def fit_gaussians(options: Options) -> list[tuple[object, ...]]:
    """(mean, deviation) of the Gaussians of least divergence, and of those that models converge to."""
    rows: list[tuple[object, ...]] = [
        ("gaussians", name + ", local minimum" * (number > 0), *minimum)
        for name, divergence in DIVERGENCES.items()
        for number, minimum in enumerate(find_minima(divergence))
    ]
    random = np.random.default_rng(0)
    count = options.batch_size * 400
    component = random.choice(len(MIXTURE), size=count, p=[weight for weight, *_ in MIXTURE])
    points = (np.array(MIXTURE)[component, 1] + np.array(MIXTURE)[component, 2] * random.standard_normal(count))[
        :, None
    ]
    vae = make_linear_vae(1)
    vae.fit(make_batches(points, vae, options.batch_size), steps_per_epoch=options.steps, shuffle=False, verbose=0)
    weights, bias = vae.decoder.get_layer("values").get_weights()
    rows.append(("gaussians", "VAE", float(bias[0]), float(np.hypot(weights[0, 0], vae.log_likelihood.scale))))
    for loss in ("minimax", "non_saturating"):
        keras.utils.set_random_seed(0)
        with small_architectures(gaussian=Architecture(gaussian_generator, mlp_discriminator, MLP_OPTIONS)):
            gan = GAN((1, 1, 1), 1, architecture="gaussian", loss=loss, discriminator_steps=5, ema_decay=0.99)
        gan.compile(
            discriminator=keras.optimizers.Adam(1e-3), generator=keras.optimizers.Adam(2e-3), steps_per_execution=10
        )
        data = make_batches(points, gan, options.batch_size)
        gan.fit(data, steps_per_epoch=options.steps, shuffle=False, verbose=0)
        kernel, mean = gan.generator_ema.get_weights()
        rows.append(("gaussians", f"GAN, {loss.replace('_', '-')}", float(mean[0]), abs(float(kernel[0, 0]))))
    return rows


def main(options: Options) -> None:
    """Measure, write the table, draw."""
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in alternate_updates(options) + fit_gaussians(options)]
    texts = [{name: f"{v:.5g}" if isinstance(v, float) else v for name, v in row.items()} for row in rows]
    write_table(options.table, COLUMNS, texts)
    for row in texts:
        if row["figure"] == "gaussians":
            Console().print(f"{row['curve']}: N({row['x']}, {row['y']}^2)", highlight=False)
    draw(rows, options)


def draw(rows: list[dict[str, object]], options: Options) -> None:
    """Two panels."""
    figure, (left, right) = pyplot().subplots(1, 2, figsize=(11, 4), layout="constrained")
    for curve in ("log p(x)", "ELBO"):
        chosen = [row for row in rows if row["curve"] == curve]
        left.plot([row["x"] for row in chosen], [row["y"] for row in chosen], label=curve)
    for phase in range(0, options.phases, 2):
        left.axvspan(
            phase * options.steps_per_phase,
            (phase + 1) * options.steps_per_phase,
            color="black",
            alpha=0.08,
            linewidth=0,
        )
    left.set(
        xlabel="step; gray: the encoder is trained",
        ylabel="nats per point",
        title="The bound of a VAE trained in alternation",
    )
    left.legend()
    x = np.linspace(-5, 5, 500)
    right.fill_between(x, density(x, *MIXTURE), color="black", alpha=0.12, linewidth=0, label="images")
    for row in rows:
        if row["figure"] == "gaussians":
            mean, deviation = float(str(row["x"])), float(str(row["y"]))
            name = str(row["curve"])
            minimum = name.partition(",")[0] in DIVERGENCES
            style = {"linewidth": 4, "alpha": 0.35} if minimum else {"linewidth": 1.5, "linestyle": "--"}
            right.plot(x, density(x, (1.0, mean, deviation)), label=f"least {name}" if minimum else name, **style)
    right.set(title="One Gaussian fitted to two")
    right.legend(fontsize="small")
    figure.savefig(options.figure, dpi=100)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
