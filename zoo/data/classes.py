"""Names of the classes of data sets, by label: plain data, which presets declare and data sets carry."""

# https://github.com/zalandoresearch/fashion-mnist#labels
FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
