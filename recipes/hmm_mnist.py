"""A hidden Markov model over the rows of binarized MNIST: the preset `hmm-mnist`.

python recipes/hmm_mnist.py
zoo train hmm-mnist --devices 2
"""

from zoo.training.main import main
from zoo.training.optimizers import SGD
from zoo.training.recipe import Recipe

recipe = Recipe(
    preset="hmm-mnist",
    data="binarized_mnist",
    steps=100,
    batch_size=10_000,
    optimizers={"chain": SGD(1.0, decay="linear", decay_steps=100, final_learning_rate=0.05)},
    log_every=5,
    sample_every=20,
    checkpoint_every=20,
    precision="float32",
)

if __name__ == "__main__":
    main(recipe)
