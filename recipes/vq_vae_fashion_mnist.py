"""A VQ-VAE on Fashion-MNIST: the preset `vq-vae-fashion-mnist`.

python recipes/vq_vae_fashion_mnist.py
zoo train vq-vae-fashion-mnist --devices 2
"""

from zoo.training.main import main
from zoo.training.optimizers import Adam
from zoo.training.recipe import Recipe

recipe = Recipe(
    preset="vq-vae-fashion-mnist",
    data="fashion_mnist",
    steps=30_000,
    batch_size=128,
    optimizers={"autoencoder": Adam(1e-3), "prior": Adam(1e-3)},
)

if __name__ == "__main__":
    main(recipe)
