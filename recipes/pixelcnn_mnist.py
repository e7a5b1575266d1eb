"""A gated PixelCNN on binarized MNIST: the preset `pixelcnn-mnist`.

python recipes/pixelcnn_mnist.py
zoo train pixelcnn-mnist --devices 2
"""

from zoo.training.main import main
from zoo.training.optimizers import Adam
from zoo.training.recipe import Recipe

recipe = Recipe(
    preset="pixelcnn-mnist",
    data="binarized_mnist",
    steps=30_000,
    batch_size=32,
    optimizers={"network": Adam(1e-3, beta_1=0.9, decay="cosine", decay_steps=30_000, final_learning_rate=1e-5)},
)

if __name__ == "__main__":
    main(recipe)
