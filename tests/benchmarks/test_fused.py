"""The two forms of a convolution are one function, with the same gradients and the same penalty's gradient."""

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import fused


@pytest.mark.parametrize("kind", fused.KINDS)
def test_both_forms_compute_the_same(kind):
    *forms, inputs, kernel = fused.build(kind, batch=2, side=4, channels=6, filters=5)
    kernel.assign(np.random.default_rng(0).standard_normal(kernel.shape))
    ours, others = (fused.compile_work(form, inputs, kernel) for form in forms)
    for work in fused.WORK:
        found, expected = (tf.nest.flatten(form[work]()) for form in (ours, others))
        for mine, other in zip(found, expected, strict=True):
            scale = np.abs(other).max()
            assert scale > 0
            np.testing.assert_allclose(mine / scale, other / scale, atol=1e-5)
