"""Every preset, as plain data: no TensorFlow."""
