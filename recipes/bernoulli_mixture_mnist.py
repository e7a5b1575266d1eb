"""A mixture of 500 Bernoulli images on binarized MNIST: the preset `bernoulli-mixture-mnist`.

EM on all 50,000 images in a batch: SGD at a rate of 1 is an M-step. 30 steps of half a second on one core of an AMD
EPYC; in memory a batch has 160 MB, responsibilities 100 MB. Test images: -126.1 +- 0.4 nats.
With ten times the pseudo-counts: -129.8; online, 100 batches of 10,000 at a rate that falls from 1 to 0.1: -128.1.

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
