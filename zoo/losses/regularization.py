"""What steadies adversarial training besides the losses; any model with a discriminator takes it as plain options."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypedDict, final

import keras
from keras import ops

from zoo.core import context
from zoo.core.replicas import ONLY_FIRST_REPLICA, sum_over_replicas
from zoo.core.types import Tensor
from zoo.layers.augmentation import differentiable_augment, linear_decay, next_probability, parse_policy
from zoo.layers.minibatch import MinibatchDiscrimination, MinibatchStddev
from zoo.layers.normalization import BatchNorm
from zoo.losses.adversarial import LossPair, feature_matching, minimax_discriminator_loss
from zoo.losses.penalties import distance_to_average, dragan, gradient_penalty, zero_centered_penalty
from zoo.losses.rows import per_row

Logits = Callable[[Tensor], Tensor]
VariablesOf = Callable[[str], Sequence[keras.Variable]]

GRADIENT_PENALTIES = ("r1", "r2", "gradient_penalty", "dragan")
"""Options that take the discriminator's gradient by one image: its logit must not depend on other rows of the batch."""
PER_SAMPLE = "discriminator_norm='layer', 'spectral' or 'none', and minibatch='none'"
MIXES_ROWS = (BatchNorm, keras.layers.BatchNormalization, MinibatchStddev, MinibatchDiscrimination)


class RegularizationOptions(TypedDict, total=False):
    """The arguments of `Regularization`, which an adversarial model's constructor takes among its own."""

    label_smoothing: float
    instance_noise: float
    instance_noise_steps: int | None
    augment: str
    augment_target: float | None
    r1: float
    r2: float
    gradient_penalty: float
    dragan: float
    feature_matching: float
    historical_averaging: float
    weight_clipping: float | None


@final
class Regularization(keras.layers.Layer):
    """Penalties, noise, augmentation and bounds of adversarial training; none of them by default.

    What stands elsewhere: spectral norm, dropout and minibatch layers are arguments of the discriminator, relativistic
    losses are losses; gradient clipping and the rates of two time scales are arguments of the optimizers.

    Args:
        label_smoothing: the discriminator's target for images is 1 - this, one-sided (arXiv:1606.03498, section 3.4);
            0 <= label_smoothing < 0.5. Of the minimax and the non-saturating loss.
        instance_noise: standard deviation of normal noise on all that the discriminator is given (arXiv:1610.04490).
        instance_noise_steps: steps in which that noise falls to 0, linearly; None for noise that stays.
        augment: what the discriminator is given is augmented, images and samples alike: "color", "translation",
            "cutout", with commas between them (DiffAugment, arXiv:2006.10738).
        augment_target: r_t that an adaptive probability of augmentation keeps, in (-1, 1), 0.6 as published (ADA,
            arXiv:2006.06676); None to augment always. Of losses that score an image by itself.
        r1: gamma, weight of the squared gradient norm at images (arXiv:1801.04406).
        r2: gamma, weight of the squared gradient norm at samples.
        gradient_penalty: lambda, weight of WGAN-GP's penalty between images and samples (arXiv:1704.00028).
        dragan: lambda, weight of the same penalty around images (arXiv:1705.07215).
        feature_matching: weight, in the generator's loss, of the squared distance between the means of the
            discriminator's last features (arXiv:1606.03498, section 3.1).
        historical_averaging: weight, in both losses, of ||theta - its average so far||^2 (arXiv:1606.03498, section
            3.3).
        weight_clipping: c, every weight of the discriminator is kept in [-c, c] (arXiv:1701.07875); None for no bound.

    Raises:
        ValueError: a number out of its range, an unknown augmentation, or an option without the one that it needs.
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        instance_noise: float = 0.0,
        instance_noise_steps: int | None = None,
        augment: str = "",
        augment_target: float | None = None,
        r1: float = 0.0,
        r2: float = 0.0,
        gradient_penalty: float = 0.0,
        dragan: float = 0.0,
        feature_matching: float = 0.0,
        historical_averaging: float = 0.0,
        weight_clipping: float | None = None,
    ):
        super().__init__(name="regularization")
        coefficients = {
            "instance_noise": instance_noise,
            "r1": r1,
            "r2": r2,
            "gradient_penalty": gradient_penalty,
            "dragan": dragan,
            "feature_matching": feature_matching,
            "historical_averaging": historical_averaging,
        }
        for name, value in coefficients.items():
            if not 0.0 <= value < math.inf:
                raise ValueError(f"{name}={value}: choose a number >= 0; 0 leaves it out.")
        if not 0.0 <= label_smoothing < 0.5:
            raise ValueError(f"label_smoothing={label_smoothing}: choose from [0, 0.5), such as 0.1.")
        if instance_noise_steps is not None and (instance_noise_steps < 1 or not instance_noise):
            raise ValueError(
                f"instance_noise_steps={instance_noise_steps}: choose at least 1, with instance_noise > 0."
            )
        if weight_clipping is not None and not weight_clipping > 0.0:
            raise ValueError(f"weight_clipping={weight_clipping}: choose a number > 0.")
        if augment:
            parse_policy(augment)
        elif augment_target is not None:
            raise ValueError(f"augment_target={augment_target}: it takes augment, such as 'translation'.")
        if augment_target is not None and not -1.0 < augment_target < 1.0:
            raise ValueError(f"augment_target={augment_target}: choose from (-1, 1), such as 0.6.")
        self.coefficients = coefficients
        self.label_smoothing = label_smoothing
        self.instance_noise = instance_noise
        self.instance_noise_steps = instance_noise_steps
        self.augmentation = augment
        self.augment_target = augment_target
        self.weight_clipping = weight_clipping
        self.gradient_penalties = {name: coefficients[name] for name in GRADIENT_PENALTIES if coefficients[name]}
        self.histories: dict[str, list[keras.Variable]] = {}
        self.probability = None
        if augment_target is not None:
            self.probability = self.add_weight(
                shape=(), initializer="zeros", trainable=False, aggregation=ONLY_FIRST_REPLICA, name="probability"
            )
        self.built = True

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> "Regularization":
        """From a constructor's keyword arguments.

        Raises:
            TypeError: a name that is no option; the message has those that are.
            ValueError: as of the constructor.
        """
        known = list(inspect.signature(cls.__init__).parameters)[1:]
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise TypeError(f"unknown arguments {unknown}: regularization takes {known}.")
        return cls(**options)

    @property
    def metrics_recorded(self) -> tuple[str, ...]:
        """Names of the metrics that the chosen options add to the log."""
        found = ["gradient_penalty"] if self.gradient_penalties else []
        if self.probability is not None:
            found.append("augment_probability")
        return tuple(found)

    def smooth_labels(self, loss_pair: LossPair) -> LossPair:
        """The losses with the discriminator's targets for images smoothed, where that is chosen.

        Raises:
            ValueError: the discriminator's scores under these losses are no probabilities, or have no sign for `adapt`
                to go by.
        """
        if self.probability is not None and loss_pair.threshold is None:
            raise ValueError(
                "augment_target takes a loss whose discriminator scores an image by itself, such as loss='hinge'."
            )
        if not self.label_smoothing:
            return loss_pair
        if loss_pair.discriminator is not minimax_discriminator_loss:
            raise ValueError("label_smoothing takes loss='minimax' or 'non_saturating'.")
        return loss_pair._replace(discriminator=partial(minimax_discriminator_loss, smoothing=self.label_smoothing))

    def require_per_sample(self, discriminator: keras.Model, *penalties: str, instead: str = PER_SAMPLE) -> None:
        """Refuse a discriminator whose logit of an image depends on other rows, where a gradient penalty is chosen.

        Args:
            discriminator: the network that is penalized.
            penalties: the model's own gradient penalties, by name.
            instead: which of the model's arguments to choose otherwise, for the message.

        Raises:
            ValueError: it has batch norm or a minibatch layer.
        """
        chosen = sorted({*self.gradient_penalties, *penalties})
        if chosen and any(isinstance(layer, MIXES_ROWS) for layer in discriminator.layers):
            raise ValueError(
                f"{chosen} take the gradient of one image's logit, and this discriminator mixes the rows of a batch: "
                f"choose {instead}."
            )

    def attach(self, players: Iterable[str], variables_of: VariablesOf, discriminator: str) -> None:
        """Create the averages of the players' weights, and bound the discriminator's, where these are chosen.

        Args:
            players: their names.
            variables_of: player -> its trainable variables.
            discriminator: the discriminator's name among the players.
        """
        self.variables_of = variables_of
        if self.weight_clipping is not None:
            for variable in variables_of(discriminator):
                variable.constraint = Clip(self.weight_clipping)
        if self.coefficients["historical_averaging"]:
            for player in players:
                self.histories[player] = [
                    self.add_weight(
                        shape=variable.shape,
                        initializer=lambda shape, dtype=None, start=variable: ops.convert_to_tensor(start),
                        trainable=False,
                        aggregation=ONLY_FIRST_REPLICA,
                        name=f"{player}_history_{number}",
                    )
                    for number, variable in enumerate(variables_of(player))
                ]
                for average in self.histories[player]:
                    setattr(self, average.name, average)  # a checkpoint holds a layer's attributes, not its lists

    def augment(self, images: Tensor, step: Tensor) -> Tensor:
        """What the discriminator is given of images or samples: augmented, then with instance noise.

        Args:
            images: (batch, height, width, channels) in [-1, 1].
            step: the number of train steps done.
        """
        if self.augmentation:
            images = differentiable_augment(images, context.active().draws, self.augmentation, self.probability)
        if self.instance_noise:
            deviation = self.instance_noise
            if self.instance_noise_steps is not None:
                deviation = linear_decay(self.instance_noise, step, self.instance_noise_steps)
            images = images + ops.cast(deviation, images.dtype) * context.active().draws.normal(*images.shape[1:])
        return images

    def penalty(self, logits: Logits, real: Tensor, fake: Tensor) -> tuple[Tensor | float, dict[str, Tensor]]:
        """The sum of the chosen gradient penalties, weights included, one value per row; 0 where none is chosen.

        Args:
            logits: the discriminator in training mode, images -> logits, each row's of that row alone.
            real: images as the discriminator is given them, (batch, height, width, channels).
            fake: samples, likewise.

        Returns:
            The sum, and the same by its metric's name.
        """
        if not self.gradient_penalties:
            return 0.0, {}
        draws = context.active().draws
        terms: dict[str, Callable[[], Tensor]] = {
            "r1": lambda: 0.5 * zero_centered_penalty(logits, real),
            "r2": lambda: 0.5 * zero_centered_penalty(logits, fake),
            "gradient_penalty": lambda: gradient_penalty(logits, real, fake, draws.uniform()),
            "dragan": lambda: dragan(logits, real, draws.normal(*real.shape[1:])),
        }
        total = sum(weight * terms[name]() for name, weight in self.gradient_penalties.items())
        return total, {"gradient_penalty": total}

    @property
    def matches_features(self) -> bool:
        """Whether the generator's loss takes the discriminator's features of images and of samples."""
        return self.coefficients["feature_matching"] > 0.0

    def feature_matching(self, real_features: Tensor, fake_features: Tensor) -> Tensor:
        """Feature matching's term of the generator's loss, weight included, one value per row.

        Args:
            real_features: what the discriminator's last layer is given of images, (batch, size).
            fake_features: the same of samples.
        """
        return self.coefficients["feature_matching"] * feature_matching(real_features, fake_features)

    def weight_penalty(self, player: str) -> Tensor | None:
        """Historical averaging's term of a player's loss, a scalar; None where it is not chosen."""
        if player not in self.histories:
            return None
        values = [ops.convert_to_tensor(variable) for variable in self.variables_of(player)]
        return self.coefficients["historical_averaging"] * distance_to_average(values, self.histories[player])

    def remember(self, step: Tensor) -> None:
        """After a step: the averages of the weights so far, (1 / t) sum theta_i, take those of this step in."""
        for player, averages in self.histories.items():
            for average, variable in zip(averages, self.variables_of(player), strict=True):
                now = ops.convert_to_tensor(variable)
                share = 1.0 / ops.cast(step + 1, average.dtype)
                average.assign(average + share * (now - average))

    def overfitting(self, loss_pair: LossPair, real_logits: Tensor) -> dict[str, Tensor]:
        """What `adapt` goes by: on which side of the losses' threshold images are scored, 1 or -1, one value per row.

        The threshold is 0 for most losses, as published. Nothing where nothing adapts.
        """
        if self.probability is None:
            return {}
        return {"augment_probability": ops.sign(per_row(real_logits) - loss_pair.threshold)}

    def overfitting_of_step(self, metrics: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """`overfitting` of all minibatches of a step, one value per row: its mean over them.

        Args:
            metrics: of each update of the discriminator, with what `overfitting` gave.
        """
        if self.probability is None:
            return {}
        return {"augment_probability": ops.mean(ops.stack([each["augment_probability"] for each in metrics]), axis=0)}

    def adapt(self, rows: Mapping[str, Tensor], minibatches: int) -> dict[str, Tensor]:
        """After a step: move the probability of augmentation by how sure the discriminator is of images.

        Args:
            rows: what is to be recorded, `overfitting_of_step` included.
            minibatches: images of a row that the discriminator was given in the step.

        Returns:
            The same, with the probability in the signs' place.
        """
        if self.probability is None or self.augment_target is None:
            return dict(rows)
        signs = rows["augment_probability"]
        total, count = sum_over_replicas([ops.sum(signs), ops.sum(ops.ones_like(signs))])
        updated = next_probability(
            ops.convert_to_tensor(self.probability), total / count, self.augment_target, images=minibatches * count
        )
        self.probability.assign(updated)
        return {**rows, "augment_probability": ops.broadcast_to(updated, ops.shape(signs))}


class Clip(keras.constraints.Constraint):
    """w <- clip(w, -bound, bound)."""

    def __init__(self, bound: float):
        self.bound = bound

    def __call__(self, w: Tensor) -> Tensor:
        """A weight -> the nearest allowed one."""
        return ops.clip(w, -self.bound, self.bound)
