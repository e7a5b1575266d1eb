"""SRResNet (arXiv:1609.04802): residual networks that enlarge images, by the mean squared error of pixels (eq. 4)."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, final

import keras
import numpy as np
from keras import ops

from serving.images import interleave
from zoo.core.ability import Ability, upscale_ability
from zoo.core.arguments import check_counts, check_image_shape
from zoo.core.batch import images_of
from zoo.core.model import GenerativeModel
from zoo.core.types import Tensor
from zoo.layers.resampling import resize_bicubic
from zoo.losses.reconstruction import mean_squared_error, peak_signal_to_noise
from zoo.networks import srresnet
from zoo.networks.functional import with_image_in_range

PREVIEWED = 16


@final
class SRResNet(GenerativeModel):
    """Learns to give back images from what a bicubic filter left of them.

    Args:
        image_shape: (height, width, channels) of the large images, float32 in [-1, 1]; sides are multiples of `scale`.
        scale: how many times as high and wide images become, 2 or 4.
        width: channels of the network's maps.
        blocks: residual blocks.

    Raises:
        ValueError: another factor, sides that it does not divide, or a number below 1.
    """

    def __init__(self, image_shape: Sequence[int], scale: int = 4, width: int = 64, blocks: int = 16):
        super().__init__()
        shape = check_image_shape(image_shape)
        check_counts(width=width, blocks=blocks)
        srresnet.check_scale(shape, scale)
        self.scale = scale
        self.small_sides = (shape[0] // scale, shape[1] // scale)
        self.generator = srresnet.generator(shape[-1], scale, width, blocks)
        self.setup("loss")

    @property
    def players(self) -> Mapping[str, Sequence[keras.Model]]:
        """The network alone."""
        return {"generator": (self.generator,)}

    def abilities(self) -> Mapping[str, Ability]:
        """upscale: image -> upscaled, `scale` times as high and wide; of any size."""
        return {"upscale": upscale_ability(with_image_in_range(self.generator, "upscaled"), self.scale)}

    def pixel_loss(self, images: Tensor) -> Tensor:
        """mean over pixels of (I^HR - G(I^LR))^2  (eq. 4), one value per row.

        Args:
            images: I^HR, (batch, height, width, channels) in [-1, 1].
        """
        return mean_squared_error(self.generator(self.reduce(images), training=True), images)

    def reduce(self, images: Tensor) -> Tensor:
        """I^LR of I^HR, (batch, height / scale, width / scale, channels)."""
        return resize_bicubic(images, self.small_sides)

    def train_step(self, data: Any) -> dict[str, Tensor]:
        """One update of the network."""
        self.draws(data)
        return self.record(loss=self.minimize("generator", partial(self.pixel_loss, images_of(data))))

    def diagnose(self, training: Any, held_out: Any) -> dict[str, Tensor]:
        """The mean PSNR in dB, over all channels, of enlarged training images and of held-out ones.

        Args:
            training: {"image": (count, height, width, channels) in [-1, 1]}.
            held_out: images that training never shows, likewise.
        """
        return {
            f"{name}_psnr": ops.mean(peak_signal_to_noise(self.upscale_again(images_of(batch)), images_of(batch)))
            for name, batch in {"train": training, "held_out": held_out}.items()
        }

    def upscale_again(self, images: Tensor) -> Tensor:
        """Images scaled down and enlarged, in inference mode, likewise in [-1, 1]."""
        return ops.clip(self.generator(self.reduce(images), training=False), -1.0, 1.0)

    def preview(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """Of each of the first images: enlarged by the bicubic filter, by the network, itself, the error's size."""
        images = np.asarray(images_of(batch)[:PREVIEWED])
        small = self.reduce(images)
        made = self._first_output("upscale", image=np.asarray(small))
        filtered = resize_bicubic(small, images.shape[1:3])
        return interleave([filtered, made, images, np.abs(made - images) - 1.0], (-1.0, 1.0))
