"""WGAN on Fashion-MNIST: the preset `wgan-fashion-mnist`.

Arjovsky et al. (arXiv:1701.07875, Algorithm 1): five updates of the critic for each of G, and its weights are
clipped to 0.01 each time. RMSprop at 5e-5 and batches of 64, as published; its decay and epsilon are those of the
authors' code, 0.99 and 1e-8 outside the root, here 1e-16 under it: Keras' 1e-7 divides G's first updates by fifteen,
whose gradients are about 2e-5 per weight. Everything else is that of `dcgan-fashion-mnist`, padded images included. A
step takes 320 images; 8,000 took 95 minutes on one shared core of an AMD EPYC, and FCD was still falling.

In float32: that bfloat16 ends as well has been shown of `wgan-gp-fashion-mnist`, not of clipped weights.

    python recipes/wgan_fashion_mnist.py
    zoo train wgan-fashion-mnist --devices 2
"""

from zoo.training.main import main
from zoo.training.optimizers import RMSprop
from zoo.training.recipe import Recipe

recipe = Recipe(
    preset="wgan-fashion-mnist",
    data="fashion_mnist",
    fit="pad",
    steps=8_000,
    score_every=1_000,
    export="best",
    batch_size=64,
    precision="float32",
    optimizers={
        "generator": RMSprop(5e-5, rho=0.99, epsilon=1e-16),
        "critic": RMSprop(5e-5, rho=0.99, epsilon=1e-16),
    },
)

if __name__ == "__main__":
    main(recipe)
