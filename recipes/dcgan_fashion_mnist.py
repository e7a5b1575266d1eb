"""DCGAN on Fashion-MNIST: the preset `dcgan-fashion-mnist`.

Trains the networks of Radford et al. (arXiv:1511.06434) on the 60,000 training images, padded from 28x28 to 32x32.
Adam at 2e-4 with beta_1 = 0.5, as published. Paper: batches of 128, uniform latents, twice the width; here 64, normal
latents, 4x4 kernels, and an EMA of G. 20,000 steps of 64 took 92 minutes on one core of an AMD EPYC that was busy with
other things. At the end D gave its training images 0.62 and held-out ones 0.55. By `zoo evaluate dcgan-fashion-mnist`
each class has at least 8 % of the samples; the scores are on the card.

Without TensorFlow Datasets at hand, `--data embedded` trains on the test images that come with the package.

    python recipes/dcgan_fashion_mnist.py
    zoo train dcgan-fashion-mnist --devices 2
"""

from zoo.training.main import main
from zoo.training.optimizers import Adam
from zoo.training.recipe import Recipe

recipe = Recipe(
    preset="dcgan-fashion-mnist",
    data="fashion_mnist",
    fit="pad",
    steps=20_000,
    score_every=1_000,
    batch_size=64,
    optimizers={"generator": Adam(2e-4, beta_1=0.5), "discriminator": Adam(2e-4, beta_1=0.5)},  # DCGAN, section 4
)

if __name__ == "__main__":
    main(recipe)
