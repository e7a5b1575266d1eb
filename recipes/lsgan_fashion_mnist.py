"""LSGAN on Fashion-MNIST: the preset `lsgan-fashion-mnist`.

Mao et al. (arXiv:1611.04076): D answers 1 for images and 0 for samples, G wants 1, squared errors all (their eq. 9).
Everything else is that of `dcgan-fashion-mnist`, padded images included, so that the loss is the only difference in
training; of what is exported the checkpoint is another, too: the best of twenty by its score, there the last. 20,000
steps took 43 minutes on one core of an AMD EPYC; the best was step 17,000: FCD 0.251.

    python recipes/lsgan_fashion_mnist.py
    zoo train lsgan-fashion-mnist --devices 2
"""

from zoo.training.main import main
from zoo.training.optimizers import Adam
from zoo.training.recipe import Recipe

recipe = Recipe(
    preset="lsgan-fashion-mnist",
    data="fashion_mnist",
    fit="pad",
    steps=20_000,
    score_every=1_000,
    export="best",
    batch_size=64,
    optimizers={"generator": Adam(2e-4, beta_1=0.5), "discriminator": Adam(2e-4, beta_1=0.5)},
)

if __name__ == "__main__":
    main(recipe)
