"""The abstract model and the train step that every family shares; it knows no model."""

import os

# TensorFlow leaves oneDNN out on x86 CPUs without AVX-512, where it can double the speed (benchmarks/README.md).
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
