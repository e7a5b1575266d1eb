"""A mixture of factor analyzers on Fashion-MNIST: the preset `gmm-fashion-mnist`.

python recipes/gmm_fashion_mnist.py
zoo train gmm-fashion-mnist --devices 2
"""

from zoo.training.main import main
from zoo.training.optimizers import SGD
from zoo.training.recipe import Recipe

recipe = Recipe(
    preset="gmm-fashion-mnist",
    data="fashion_mnist",
    steps=40,
    batch_size=60_000,
    optimizers={"mixture": SGD(1.0)},
    log_every=5,
    sample_every=20,
    checkpoint_every=20,
    precision="float32",
)

if __name__ == "__main__":
    main(recipe)
