"""The train step of keras.io's tutorial "DCGAN to generate face images", in our own words, on networks handed in.

Fakes and images go through D as one batch with slightly noisy labels; G then moves on fakes of its own. The tutorial
ends D in a sigmoid and has no batch norm: here the logit stays bare and `training=True` is said.
"""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

Tensor = Any
REAL, FAKE = 0.0, 1.0  # the tutorial's labels


class TutorialGAN(keras.Model):
    """Two networks, two optimizers, two tapes.

    Args:
        generator: latent (batch, latent_dim) -> image.
        discriminator: image -> logit (batch, 1).
        latent_dim: length of a latent vector.
    """

    def __init__(self, generator: keras.Model, discriminator: keras.Model, latent_dim: int):
        super().__init__()
        self.generator, self.discriminator, self.latent_dim = generator, discriminator, latent_dim
        self.seeds = keras.random.SeedGenerator(0)
        self.trackers = {name: keras.metrics.Mean(name) for name in ("discriminator_loss", "generator_loss")}
        self.built = True

    def compile(
        self, generator_optimizer: keras.optimizers.Optimizer, discriminator_optimizer: keras.optimizers.Optimizer
    ) -> None:
        """One optimizer a network."""
        super().compile()
        self.generator_optimizer, self.discriminator_optimizer = generator_optimizer, discriminator_optimizer
        self.cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Running means of both losses."""
        return list(self.trackers.values())

    @property
    def players(self) -> dict[str, tuple[keras.Model, ...]]:
        """D and G, by name."""
        return {"discriminator": (self.discriminator,), "generator": (self.generator,)}

    def train_step(self, data: Tensor) -> dict[str, Tensor]:
        """D on both kinds at once, then G on fresh fakes; data: real (batch, height, width, channels)."""
        count = ops.shape(data)[0]
        fakes = self.generator(self.latents(count), training=True)
        labels = ops.concatenate([ops.full((count, 1), FAKE), ops.full((count, 1), REAL)])
        labels += 0.05 * keras.random.uniform(ops.shape(labels), seed=self.seeds)
        with tf.GradientTape() as tape:
            logits = self.discriminator(ops.concatenate([fakes, data]), training=True)
            discriminator_loss = self.cross_entropy(labels, logits)
        weights = self.discriminator.trainable_weights
        self.discriminator_optimizer.apply_gradients(
            zip(tape.gradient(discriminator_loss, weights), weights, strict=True)
        )

        latents = self.latents(count)
        with tf.GradientTape() as tape:
            logits = self.discriminator(self.generator(latents, training=True), training=True)
            generator_loss = self.cross_entropy(ops.full((count, 1), REAL), logits)
        weights = self.generator.trainable_weights
        self.generator_optimizer.apply_gradients(zip(tape.gradient(generator_loss, weights), weights, strict=True))

        self.trackers["discriminator_loss"].update_state(discriminator_loss)
        self.trackers["generator_loss"].update_state(generator_loss)
        return {name: tracker.result() for name, tracker in self.trackers.items()}

    def latents(self, count: Tensor) -> Tensor:
        """Standard normal (count, latent_dim)."""
        return keras.random.normal((count, self.latent_dim), seed=self.seeds)
