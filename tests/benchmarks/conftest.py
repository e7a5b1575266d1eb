"""PyTorch without Triton, which its builds for GPUs bring along: imported behind TensorFlow, it crashes."""

import sys

sys.modules.setdefault("triton", None)  # type: ignore[arg-type]  # to be found missing
