"""A hidden Markov model over the rows of binarized MNIST: the preset `hmm-mnist`.

256 states. Online EM: batches of 10,000, at a rate that falls from 1 to 0.05. 100 steps of a second on one core of an
AMD EPYC. Test images: -104.7 +- 0.3 nats; with 128 states after 60 steps (a smoothing of 0.003, read at 0.001)
-110.5.

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
