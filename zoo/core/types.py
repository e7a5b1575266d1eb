"""Types that annotations share."""

from typing import Any

Tensor = Any
"""A tensor of TensorFlow, symbolic or eager: Keras has no type for both."""
