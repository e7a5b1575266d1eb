"""An importance-weighted autoencoder on binarized MNIST: the preset `iwae-mnist`.

Burda et al. (arXiv:1509.00519): the networks of `vae-mnist`, and the bound of 5 samples in the loss, the smaller of the
paper's two numbers: a step costs 12 ms on one core of an AMD EPYC where 50 samples cost 94, and after equal times fewer
samples and more updates were far ahead (25 to 30 s each, Adam at 1e-3, bound of 200 samples on 400 validation images:
5 samples -126 nats, 20 samples and batches of 32 -134, 50 samples -160; 5 samples at 2e-3 -117, at 4e-3 -122). Adam at
2e-3, falling to 1e-4; the paper's rate does so in eight stages, over 3,280 epochs, with batches of 20 and epsilon =
1e-4. 400,000 steps are 1,023 epochs, 83 minutes.

The published weights are still those of the recipe before: 50 samples in the loss, 1e-3, 24,000 steps; test images have
a bound of 5,000 samples of -91.9 +- 0.3 nats by them.

In float32: dense networks this small gain too little from bfloat16 (50 samples: 88 and 85 ms a step where an EPYC has
its instructions).

    python recipes/iwae_mnist.py
    zoo train iwae-mnist --devices 2
"""

from zoo.training.main import main
from zoo.training.optimizers import Adam
from zoo.training.recipe import Recipe

recipe = Recipe(
    preset="iwae-mnist",
    data="binarized_mnist",
    steps=400_000,
    batch_size=128,
    optimizers={"autoencoder": Adam(2e-3, beta_1=0.9, decay="cosine", decay_steps=400_000, final_learning_rate=1e-4)},
    precision="float32",
)

if __name__ == "__main__":
    main(recipe)
