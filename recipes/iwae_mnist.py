"""An importance-weighted autoencoder on binarized MNIST: the preset `iwae-mnist`.

Burda et al. (arXiv:1509.00519): the networks of `vae-mnist`, and the bound of 50 samples in the loss. Adam at 1e-3,
falling to 1e-4; the paper's rate does so in eight stages, over 3,280 epochs, with batches of 20 and epsilon = 1e-4.
24,000 steps are 61 epochs, 53 minutes on one crowded core of an AMD EPYC. Test images: bound of 50 samples -94.3 +-
0.3 nats, of 5,000 -91.9 +- 0.3, 45 of 50 latents in use; pythae reports -86.82 by 5,000, and the paper's run is fifty
times as long.

In float32: dense networks this small gain too little from bfloat16, 88 and 85 ms a step where an EPYC has its
instructions.

    python recipes/iwae_mnist.py
    zoo train iwae-mnist --devices 2
"""

from zoo.training.main import main
from zoo.training.optimizers import Adam
from zoo.training.recipe import Recipe

recipe = Recipe(
    preset="iwae-mnist",
    data="binarized_mnist",
    steps=24_000,
    batch_size=128,
    optimizers={"autoencoder": Adam(1e-3, beta_1=0.9, decay="cosine", decay_steps=24_000, final_learning_rate=1e-4)},
    precision="float32",
)

if __name__ == "__main__":
    main(recipe)
