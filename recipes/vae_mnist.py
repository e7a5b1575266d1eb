"""A VAE on binarized MNIST: the preset `vae-mnist`.

Kingma and Welling (arXiv:1312.6114) with the networks of the IWAE paper (arXiv:1509.00519, section 5): two layers of
200 tanh units on either side of 50 latents. Adam at 1e-3; that paper's rate falls in eight stages, over 3,280 epochs.

    python recipes/vae_mnist.py
    zoo train vae-mnist --devices 2
"""

from recipes.recipe import Adam, Recipe

recipe = Recipe(
    preset="vae-mnist",
    data="binarized_mnist",
    steps=40_000,
    batch_size=128,
    optimizers={"autoencoder": Adam(1e-3)},
)

if __name__ == "__main__":
    recipe.main()
