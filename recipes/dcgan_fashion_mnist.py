"""DCGAN on Fashion-MNIST: the preset `dcgan-fashion-mnist`.

Trains the networks of Radford et al. (arXiv:1511.06434) on the 60,000 training pictures, padded from 28x28 to 32x32.
Without TensorFlow Datasets at hand, `--data embedded` trains on the 10,000 test pictures inside the package.

    python recipes/dcgan_fashion_mnist.py
    zoo train dcgan-fashion-mnist --devices 2
"""

from recipes.recipe import Adam, Recipe

recipe = Recipe(
    preset="dcgan-fashion-mnist",
    data="fashion_mnist",
    fit="pad",
    steps=20_000,
    batch_size=64,
    optimizers={"generator": Adam(2e-4, beta_1=0.5), "discriminator": Adam(2e-4, beta_1=0.5)},  # DCGAN, section 4
)

if __name__ == "__main__":
    recipe.main()
