"""A mixture of 500 Bernoulli images on binarized MNIST: the preset `bernoulli-mixture-mnist`.

python recipes/bernoulli_mixture_mnist.py
zoo train bernoulli-mixture-mnist --devices 2
"""

from zoo.training.main import main
from zoo.training.optimizers import SGD
from zoo.training.recipe import Recipe

recipe = Recipe(
    preset="bernoulli-mixture-mnist",
    data="binarized_mnist",
    steps=30,
    batch_size=50_000,
    optimizers={"mixture": SGD(1.0)},
    log_every=5,
    sample_every=10,
    checkpoint_every=10,
    precision="float32",
)

if __name__ == "__main__":
    main(recipe)
