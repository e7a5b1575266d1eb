"""`AdversarialModel`: what models share in which a generator learns from a discriminator; abstract, of no one paper."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import keras
from keras import ops

from zoo.core.model import GenerativeModel
from zoo.core.step import LossValues
from zoo.core.types import Tensor
from zoo.losses.adversarial import LossPair
from zoo.losses.regularization import Regularization
from zoo.losses.rows import per_row

Discriminate = Callable[[Tensor], tuple[Tensor, ...]]


class AdversarialModel(GenerativeModel):
    """Abstract base of models with a discriminator (or critic) D and a generator G.

    A constructor sets `loss_pair` and `regularization`, then ends with `self.setup(...)` as every model's.
    """

    loss_pair: LossPair
    """What D and G minimize."""
    regularization: Regularization
    """What steadies the training besides."""
    discriminator_player = "discriminator"
    """D's name among the players."""

    def setup(self, *metric_names: str, ema: Mapping[str, tuple[keras.Model, keras.Model]] | None = None) -> None:
        """As `GenerativeModel.setup`, with the metrics and the state of the regularization."""
        recorded = dict.fromkeys((*metric_names, *self.regularization.metrics_recorded))
        super().setup(*recorded, ema=ema)
        self.regularization.attach(self.players, self.variables_of, self.discriminator_player)

    @abstractmethod
    def logits(self, batch: Any) -> Tensor:
        """D's logits of a batch of training data, in inference mode."""

    @property
    def score_kind(self) -> Literal["probability", "logit"]:
        """What `real_score` and `fake_score` are."""
        return self.loss_pair.score_kind

    def scores(self, logits: Tensor) -> Tensor:
        """D(x), one value per row: a probability where the loss makes it one, otherwise the bare logit."""
        return per_row(self.loss_pair.score(logits))

    def discriminator_input(self, images: Tensor) -> Tensor:
        """What D is given of images or samples, (batch, height, width, channels) in [-1, 1]."""
        return self.regularization.augment(images, self.step.read_value())

    def discriminator_metrics(self, real_logits: Tensor, fake_logits: Tensor) -> dict[str, Tensor]:
        """What is recorded of D's logits of images and of samples, one value per row each."""
        return {
            "real_score": self.scores(real_logits),
            "fake_score": self.scores(fake_logits),
            "discriminator_accuracy": self.loss_pair.accuracy(real_logits, fake_logits),
            **self.regularization.overfitting(self.loss_pair, real_logits),
        }

    def metrics_of_updates(self, updates: Sequence[LossValues]) -> dict[str, Tensor]:
        """What is recorded of a step's updates of D: the last one's metrics, and what `adapt` goes by of all of them.

        Args:
            updates: (loss, metrics) of each, in their order.
        """
        metrics = [of_update for _, of_update in updates]
        return metrics[-1] | self.regularization.overfitting_of_step(metrics)

    def adversarial_generator_loss(
        self, discriminate: Discriminate, fake: Tensor, real: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """G's loss against D, and feature matching where that is chosen, one value per row.

        Args:
            discriminate: D in training mode: images -> its last features (batch, size), its logits, and what else D
                gives.
            fake: samples, (batch, height, width, channels) in [-1, 1].
            real: images, likewise; for a paired loss and for feature matching, otherwise not looked at.

        Returns:
            The loss, and what else D gives of the samples.
        """
        fake = self.discriminator_input(fake)
        if not (self.loss_pair.paired or self.regularization.matches_features):
            _, fake_logits, *more = discriminate(fake)
            return self.loss_pair.generator(fake_logits), tuple(more)
        real_features, real_logits, *_ = discriminate(self.discriminator_input(real))
        fake_features, fake_logits, *more = discriminate(fake)
        logits = (fake_logits, real_logits) if self.loss_pair.paired else (fake_logits,)
        loss = self.loss_pair.generator(*logits)
        if self.regularization.matches_features:
            loss = loss + self.regularization.feature_matching(real_features, fake_features)
        return loss, tuple(more)

    def weight_penalty(self, player: str) -> Tensor | None:
        """The historical-averaging penalty on the variables of `player`, a scalar; None where it is not chosen."""
        return self.regularization.weight_penalty(player)

    def record(self, **rows: Tensor) -> dict[str, Tensor]:
        """As `GenerativeModel.record`, once what the regularization keeps from step to step is up to date."""
        rows = self.regularization.adapt(rows, self.minibatches_per_step)
        self.regularization.remember(self.step)
        return super().record(**rows)

    def diagnose(self, training: Any, held_out: Any) -> dict[str, Tensor]:
        """The mean score, in inference mode, of training images and of held-out ones: a gap says that D memorizes.

        Args:
            training: a batch of training data, as `train_step` takes it.
            held_out: images that training never shows, likewise.
        """
        batches = {"train_score": training, "held_out_score": held_out}
        return {name: ops.mean(self.scores(self.logits(batch))) for name, batch in batches.items()}
