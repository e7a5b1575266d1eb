"""Operations are put to the kind of what they compute, and their times add up. No speed is asserted."""

import pytest

from benchmarks import profile
from benchmarks.profile import KINDS, NOT_ASSIGNED, OUTSIDE, Operation, kind_of, operations, sum_by_kind

LOOP, BACK = "while/body/_1/while", "while/body/_1/gradient_tape/while"


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (f"{LOOP}/discriminator_1/down_8_1/convolution:_MklNativeConv2D", "convolutions forward"),
        (f"{LOOP}/generator_1/up_8_1/conv_transpose:_MklNativeConv2DBackpropInput", "convolutions forward"),
        (f"{BACK}/generator_1/up_8_1/conv_transpose/Conv2D:_MklNativeConv2D", "convolutions by input"),
        (f"{BACK}/d_1/down_8_1/convolution/Conv2DBackpropInput:Conv2DBackpropInput", "convolutions by input"),
        (f"{BACK}/d_1/down_8_1/convolution/F:_MklNativeConv2DBackpropFilterWithBias", "convolutions by weights"),
        (f"{LOOP}/conv2d_transpose_4:_MklNativeConv2DBackpropInput", "convolutions by input"),  # a custom gradient's
        (f"{LOOP}/Conv2DBackpropFilter_1:_MklNativeConv2DBackpropFilter", "convolutions by weights"),
        (f"{LOOP}/MatMul_11:_MklMatMul", "convolutions by weights"),
        (f"{LOOP}/generator_1/project_1/MatMul:_MklMatMul", "dense layers"),
        (f"{LOOP}/discriminator_1/norm_8_1/moments/mean:Mean", "normalization"),
        (f"{BACK}/discriminator_1/norm_8_1/moments/Tile:Tile", "normalization"),
        (f"{LOOP}/discriminator_1/norm_8_1/Cast:Cast", "casts, copies, layout"),
        (f"{BACK}/d_1/leaky_relu_32_1/LeakyRelu/LeakyReluGrad:LeakyReluGrad", "activations and biases"),
        (f"{LOOP}/adam_1/AssignSubVariableOp_8:AssignSubVariableOp", "optimizer"),
        (f"{LOOP}/StatelessRandomNormalV2:StatelessRandomNormalV2", "noise"),
        (f"{LOOP}/Square_16:Square", "gradient sums, norms, checks"),
        (f"{LOOP}/AddN_12/tmp_var_accum_2:AssignAdd", "gradient sums, norms, checks"),
        (f"{LOOP}/Softplus_1:Softplus", "losses, metrics, data"),
        (f"{LOOP}/discriminator_1/a_layer_nobody_knows/Fold:Fold", NOT_ASSIGNED),
    ],
)
def test_an_operation_is_of_the_kind_of_what_it_computes(event, kind):
    (operation,) = operations([(event, 1.0)])
    assert kind_of(operation.type, operation.name, operation.backward) == kind


def test_what_runs_other_operations_is_none():
    seen = [
        "KernelAndDeviceFunc::Run",
        "while:While",
        "a/StatefulPartitionedCall:StatefulPartitionedCall",
        "no operation",
    ]
    assert operations([(event, 1.0) for event in seen]) == []


def test_an_operation_counts_with_its_shortest_run_and_all_add_up_to_the_step():
    found = [
        Operation("_MklNativeConv2D", "discriminator_1/down_8_1/convolution", False, [5.0, 3.0, 9.0]),
        Operation("Tanh", "generator_1/image_1/Tanh", False, [1.0, 2.0, 1.0] * 2),  # twice a step
        Operation("Fold", "discriminator_1/fold", False, [0.5] * 3),
    ]
    totals = sum_by_kind(found, steps=3, step_milliseconds=10.0)
    assert totals["convolutions forward"] == 3.0
    assert totals["activations and biases"] == 2.0
    assert totals[NOT_ASSIGNED] == 0.5
    assert totals[OUTSIDE] == 10.0 - 5.5
    assert tuple(totals) == KINDS


@pytest.mark.slow
def test_hardly_any_operation_of_a_real_step_is_not_assigned(capsys, tmp_path):
    import json

    sizes = ["--image-size", "32", "--width", "16", "--batch-size", "16", "--steps", "3"]
    profile.main([*sizes, "--json", "--figure", str(tmp_path / "profile.png")])
    results = json.loads(capsys.readouterr().out)["results"]
    assert set(results) == {"float32", "mixed_bfloat16"}
    for result in results.values():
        in_operations = sum(time for kind, time in result["kinds"].items() if kind != OUTSIDE)
        assert result["kinds"][NOT_ASSIGNED] < 0.01 * in_operations
        for kind in set(KINDS) - {NOT_ASSIGNED, OUTSIDE, "casts, copies, layout"}:
            assert result["kinds"][kind] > 0.0
    assert results["mixed_bfloat16"]["kinds"]["casts, copies, layout"] > 0.0
    assert (tmp_path / "profile.png").stat().st_size > 10_000
