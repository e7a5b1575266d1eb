"""The first GAN on MNIST: the preset `gan-mnist`.

Goodfellow et al. (arXiv:1406.2661): dense networks, maxout and dropout in D, uniform latents. Paper: gradient descent
with momentum. Adam here, which needs no schedule of rates. Algorithm 1 draws fresh latents for G's update, which here
reuses D's samples; the authors' code has batches of 100 and latents from -sqrt(3) to sqrt(3), here 64 and from -1 to
1. An EMA of G is exported. 40,000 steps took 30 minutes on one shared core of an AMD EPYC; the last of twenty
checkpoints is the best by its score: FCD 0.44.

In float32: dense networks this small gain too little from bfloat16, 23.6 and 22.8 ms a step where an EPYC has its
instructions.

    python recipes/gan_mnist.py
    zoo train gan-mnist --devices 2
"""

from zoo.training.main import main
from zoo.training.optimizers import Adam
from zoo.training.recipe import Recipe

recipe = Recipe(
    preset="gan-mnist",
    data="mnist",
    steps=40_000,
    score_every=2_000,
    export="best",
    batch_size=64,
    optimizers={"generator": Adam(2e-4, beta_1=0.5), "discriminator": Adam(2e-4, beta_1=0.5)},
    precision="float32",
)

if __name__ == "__main__":
    main(recipe)
