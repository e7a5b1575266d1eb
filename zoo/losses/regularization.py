"""Remedies for games that do not settle, chosen by name and put together: any two-player model takes them."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, final

import keras
from keras import ops

from zoo.core import context
from zoo.core.step import ALIKE, sum_over_replicas
from zoo.core.types import Tensor
from zoo.layers.augmentation import annealed, changes_of, differentiable_augment, next_probability
from zoo.layers.minibatch import MinibatchDiscrimination, MinibatchStddev
from zoo.losses.adversarial import AdversarialLoss, feature_matching, minimax_discriminator_loss
from zoo.losses.penalties import distance_to_average, dragan, gradient_penalty, zero_centered
from zoo.losses.rows import per_row

Judge = Callable[[Tensor], Tensor]
VariablesOf = Callable[[str], Sequence[keras.Variable]]

SLOPES = ("r1", "r2", "gradient_penalty", "dragan")
"""The remedies that look at one image's slope: D must not mix the rows of a batch."""
MIXING = (keras.layers.BatchNormalization, MinibatchStddev, MinibatchDiscrimination)


@final
class Regularization(keras.layers.Layer):
    """What is done to a game besides its losses; nothing by default.

    Remedies that stand elsewhere: spectral norm, dropout and minibatch layers are arguments of the discriminator, the
    relativistic losses are losses; gradients are clipped, and rates chosen for two time scales, in the optimizers.

    Args:
        label_smoothing: D is to give images 1 - this, one-sided (arXiv:1606.03498, section 3.4); of the minimax and
            the non-saturating loss.
        instance_noise: standard deviation of normal noise on all that D sees (arXiv:1610.04490).
        instance_noise_steps: steps in which it falls to 0, in a straight line; None for noise that stays.
        augment: what D sees is augmented, images and samples alike: "color", "translation", "cutout", with commas
            between them (DiffAugment, arXiv:2006.10738).
        augment_target: r_t that an adaptive probability of augmentation keeps, 0.6 as published (ADA,
            arXiv:2006.06676); None to augment always. Not of a game that sees differences of logits alone.
        r1: gamma, of the squared slope at images (arXiv:1801.04406).
        r2: gamma, of the squared slope at samples.
        gradient_penalty: lambda, of WGAN-GP's penalty between images and samples (arXiv:1704.00028).
        dragan: lambda, of the same penalty around images (arXiv:1705.07215).
        feature_matching: weight, in G's loss, of the distance between the means of D's last features
            (arXiv:1606.03498, section 3.1).
        historical_averaging: weight, in both losses, of ||theta - its average so far||^2 (arXiv:1606.03498, section
            3.3).
        weight_clipping: c, every weight of D is kept in [-c, c] (arXiv:1701.07875); None for no bound.
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
        super().__init__(name="stabilizers")
        weights = {
            "instance_noise": instance_noise,
            "r1": r1,
            "r2": r2,
            "gradient_penalty": gradient_penalty,
            "dragan": dragan,
            "feature_matching": feature_matching,
            "historical_averaging": historical_averaging,
        }
        for name, value in weights.items():
            if not 0.0 <= value < math.inf:
                raise ValueError(f"stabilizers: {name}={value}: choose a number >= 0; 0 leaves it out.")
        if not 0.0 <= label_smoothing < 0.5:
            raise ValueError(f"stabilizers: label_smoothing={label_smoothing}: choose from [0, 0.5), such as 0.1.")
        if instance_noise_steps is not None and (instance_noise_steps < 1 or not instance_noise):
            raise ValueError(
                f"stabilizers: instance_noise_steps={instance_noise_steps}: choose at least 1, with instance_noise > 0."
            )
        if weight_clipping is not None and not weight_clipping > 0.0:
            raise ValueError(f"stabilizers: weight_clipping={weight_clipping}: choose a number > 0.")
        if augment:
            changes_of(augment)
        elif augment_target is not None:
            raise ValueError(f"stabilizers: augment_target={augment_target}: it takes augment, such as 'translation'.")
        if augment_target is not None and not -1.0 < augment_target < 1.0:
            raise ValueError(f"stabilizers: augment_target={augment_target}: choose from (-1, 1), such as 0.6.")
        self.weights_of = weights
        self.label_smoothing = label_smoothing
        self.instance_noise = instance_noise
        self.instance_noise_steps = instance_noise_steps
        self.augment = augment
        self.augment_target = augment_target
        self.weight_clipping = weight_clipping
        self.slopes = {name: weights[name] for name in SLOPES if weights[name]}
        self.histories: dict[str, list[keras.Variable]] = {}
        self.probability = None
        if augment_target is not None:
            self.probability = self.add_weight(
                shape=(), initializer="zeros", trainable=False, aggregation=ALIKE, name="probability"
            )
        self.built = True

    @classmethod
    def chosen(cls, remedies: Mapping[str, Any], by: str = "", **own: Any) -> "Regularization":
        """From the constructor's arguments by name.

        Args:
            remedies: that a user chose.
            by: the model's arguments that decide `own`.
            own: not to be chosen here.

        Raises:
            ValueError: there is no such remedy, its value is out of range, or another argument decides it.
        """
        if not isinstance(remedies, Mapping):
            raise ValueError(f"stabilizers={remedies!r}: give each with its value, such as {{'r1': 10.0}}.")
        known = list(inspect.signature(cls.__init__).parameters)[1:]
        unknown = sorted(set(remedies) - set(known))
        if unknown:
            raise ValueError(f"stabilizers: {unknown} are none: choose from {known}.")
        twice = sorted(set(remedies) & set(own))
        if twice:
            raise ValueError(f"stabilizers: {twice} are not chosen here: {by} decide them.")
        return cls(**remedies, **own)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the metrics that `record` gives."""
        return ("slope_penalty",) * bool(self.slopes) + ("augment_probability",) * (self.probability is not None)

    def smoothed(self, game: AdversarialLoss) -> AdversarialLoss:
        """The game with D's targets for images smoothed.

        Raises:
            ValueError: D's answers in this game are no probabilities, or have no sign for `adapt` to go by.
        """
        if self.probability is not None and game.threshold is None:
            raise ValueError(
                "stabilizers: augment_target takes a loss whose D judges an image by itself, such as loss='hinge', of "
                "GAN and ConditionalGAN."
            )
        if not self.label_smoothing:
            return game
        if game.discriminator is not minimax_discriminator_loss:
            raise ValueError(
                "stabilizers: label_smoothing takes loss='minimax' or 'non_saturating', of GAN and ConditionalGAN."
            )
        return game._replace(discriminator=partial(minimax_discriminator_loss, smoothing=self.label_smoothing))

    def require_per_sample(self, judge: keras.Model, *penalties: str) -> None:
        """Refuses a D whose logit of an image depends on the others, if a penalty is chosen that does not allow it.

        Args:
            judge: D.
            penalties: the model's own of that kind.

        Raises:
            ValueError: it does.
        """
        looking = sorted({*self.slopes, *penalties})
        if looking and any(isinstance(layer, MIXING) for layer in judge.layers):
            raise ValueError(
                f"stabilizers: {looking} look at one image's slope, and this discriminator mixes "
                "the rows of a batch: choose discriminator_norm='layer', 'spectral' or 'none', and no minibatch layer "
                "(of WGAN, these penalties take constraint='gradient_penalty')."
            )

    def attach(self, players: Iterable[str], variables_of: VariablesOf, judge: str) -> None:
        """Make room for what is remembered of the players' weights, and bound D's.

        Args:
            players: their names.
            variables_of: player -> its trainable variables.
            judge: D's name.
        """
        self.variables_of = variables_of
        if self.weight_clipping is not None:
            for variable in variables_of(judge):
                variable.constraint = Clip(self.weight_clipping)
        if self.weights_of["historical_averaging"]:
            for player in players:
                self.histories[player] = [
                    self.add_weight(
                        shape=variable.shape,
                        initializer=lambda shape, dtype=None, start=variable: ops.convert_to_tensor(start),
                        trainable=False,
                        aggregation=ALIKE,
                        name=f"{player}_history_{number}",
                    )
                    for number, variable in enumerate(variables_of(player))
                ]
                for average in self.histories[player]:
                    setattr(self, average.name, average)  # a checkpoint holds a layer's attributes, not its lists

    def see(self, images: Tensor, step: Tensor) -> Tensor:
        """What D sees of images or samples, (batch, height, width, channels).

        Args:
            images: in [-1, 1].
            step: the number of train steps done.
        """
        if self.augment:
            images = differentiable_augment(images, context.active().draws, self.augment, self.probability)
        if self.instance_noise:
            deviation = self.instance_noise
            if self.instance_noise_steps is not None:
                deviation = annealed(self.instance_noise, step, self.instance_noise_steps)
            images = images + ops.cast(deviation, images.dtype) * context.active().draws.normal(*images.shape[1:])
        return images

    def penalty(self, judge: Judge, real: Tensor, fake: Tensor) -> tuple[Tensor | float, dict[str, Tensor]]:
        """The sum of the chosen slopes' penalties, weights included, one value a row; 0 where there are none.

        Args:
            judge: D in training mode, images -> logits, each row's of that row alone.
            real: what D sees of images, (batch, height, width, channels).
            fake: what it sees of samples, likewise.

        Returns:
            The sum, and the same by its metric's name.
        """
        if not self.slopes:
            return 0.0, {}
        draws = context.active().draws
        terms: dict[str, Callable[[], Tensor]] = {
            "r1": lambda: 0.5 * zero_centered(judge, real),
            "r2": lambda: 0.5 * zero_centered(judge, fake),
            "gradient_penalty": lambda: gradient_penalty(judge, real, fake, draws.uniform()),
            "dragan": lambda: dragan(judge, real, draws.normal(*real.shape[1:])),
        }
        total = sum(weight * terms[name]() for name, weight in self.slopes.items())
        return total, {"slope_penalty": total}

    @property
    def matches(self) -> bool:
        """Whether G's loss takes D's features of images and of samples."""
        return self.weights_of["feature_matching"] > 0.0

    def matching(self, real: Tensor, fake: Tensor) -> Tensor:
        """Feature matching's term of G's loss, weight included, one value a row; of D's features, (batch, size)."""
        return self.weights_of["feature_matching"] * feature_matching(real, fake)

    def history(self, player: str) -> Tensor:
        """Historical averaging's term of a player's loss, a scalar; 0 where it is not chosen.

        Take it inside the held pass where a loss is carried back through one: the loss then sees no weights but so.
        """
        if player not in self.histories:
            return ops.zeros(())
        weight = self.weights_of["historical_averaging"]
        values = [ops.convert_to_tensor(variable) for variable in self.variables_of(player)]
        return weight * distance_to_average(values, self.histories[player])

    def remember(self, step: Tensor) -> None:
        """After a step: the averages of the weights so far, (1 / t) sum theta_i, take those of this step in."""
        for player, averages in self.histories.items():
            for average, variable in zip(averages, self.variables_of(player), strict=True):
                now = ops.convert_to_tensor(variable)
                share = 1.0 / ops.cast(step + 1, average.dtype)
                average.assign(average + share * (now - average))

    def overfitting(self, game: AdversarialLoss, real_logits: Tensor) -> dict[str, Tensor]:
        """What `adapt` goes by: on which side of the game's threshold D puts images, 1 or -1, one value a row.

        The threshold is 0 in most games, as published. Nothing where nothing adapts.
        """
        if self.probability is None:
            return {}
        return {"augment_probability": ops.sign(per_row(real_logits) - game.threshold)}

    def adapt(self, recorded: Mapping[str, Tensor], k: int) -> dict[str, Tensor]:
        """After a step: move the probability of augmentation by how sure D is of images.

        Args:
            recorded: what D's last loss recorded, `overfitting` included.
            k: updates of D in a step.

        Returns:
            The same, with the probability in the signs' place.
        """
        if self.probability is None or self.augment_target is None:
            return dict(recorded)
        signs = recorded["augment_probability"]
        total, count = sum_over_replicas([ops.sum(signs), ops.sum(ops.ones_like(signs))])
        next_one = next_probability(
            ops.convert_to_tensor(self.probability), total / count, self.augment_target, images=k * count
        )
        self.probability.assign(next_one)
        return {**recorded, "augment_probability": ops.broadcast_to(next_one, ops.shape(signs))}


class Clip(keras.constraints.Constraint):
    """w <- clip(w, -c, c)."""

    def __init__(self, largest: float):
        self.largest = largest

    def __call__(self, w: Tensor) -> Tensor:
        """A weight -> the nearest allowed one."""
        return ops.clip(w, -self.largest, self.largest)
