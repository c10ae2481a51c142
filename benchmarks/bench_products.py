"""How much a pass over the default model's matrices costs by number of rows, on several engines.

One pass is thirty layers of four products and the head, random weights, no attention: what decides whether a draft of
several tokens can be verified for little more than the price of one.  Engines that are not installed are named and
left out; what torchao compiles takes half a minute for each number of rows.

    python benchmarks/bench_products.py [--threads 2] [--repeats 15] [--out benchmarks/results/products.json]
"""

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

WIDTH, HIDDEN, VOCAB, LAYERS = 576, 1536, 49152, 30
ROWS = (1, 2, 4, 8, 16, 32, 64)
SHAPES = ((WIDTH, 960), (WIDTH, WIDTH), (WIDTH, 2 * HIDDEN), (HIDDEN, WIDTH))
Pass = Callable[[np.ndarray], Any]


def native(threads: int) -> Pass:
    """Our kernels: Q4 layers, Q8 head."""
    from mezzotint.denoisers.native.runtime import NativeLinear, ThreadPool

    pool, rng = ThreadPool(threads), np.random.default_rng(0)

    def q4(k: int, n: int) -> NativeLinear:
        scale = rng.random((n, k // 32), np.float32) * 0.01
        return NativeLinear(rng.integers(0, 16, (n, k)), scale, -8 * scale)

    layers = [[q4(k, n) for k, n in SHAPES] for _ in range(LAYERS)]
    codes, scale = rng.integers(-127, 128, (VOCAB, WIDTH)), rng.random((VOCAB, WIDTH // 32), np.float32) * 0.01
    head = NativeLinear(codes, scale, None, head=True)
    out = np.empty((max(ROWS), VOCAB), np.float32)
    return lambda x: head.apply(pool, _through(layers, x, lambda w, h: w.apply(pool, h)), out=out)


def torch_pass(threads: int, way: str = "float32") -> Pass:
    """Plain float32; dynamic int8 quantisation, eager; or that of torchao, compiled anew for every number of rows."""
    import torch

    torch.set_num_threads(threads)
    layers = [torch.nn.ModuleList(torch.nn.Linear(k, n, bias=False) for k, n in SHAPES) for _ in range(LAYERS)]
    net = torch.nn.ModuleList([*layers, torch.nn.Linear(WIDTH, VOCAB, bias=False)])
    if way == "int8":
        net = torch.ao.quantization.quantize_dynamic(net, {torch.nn.Linear}, torch.qint8)
    if way == "torchao":
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

        quantize_(net, Int8DynamicActivationInt8WeightConfig())

    def whole(x: torch.Tensor) -> torch.Tensor:
        return net[-1](_through(list(net)[:-1], x, lambda w, h: w(h)))

    run = torch.compile(whole, dynamic=False) if way == "torchao" else whole

    def rows(x: np.ndarray) -> Any:
        with torch.inference_mode():
            return run(torch.from_numpy(x))

    return rows


def openvino(threads: int, *, bits: int, group: int) -> Pass:
    """Compressed weights, with dynamic quantisation of activations in groups of `group` (0: none)."""
    import openvino as ov
    from openvino import opset13 as op

    rng = np.random.default_rng(0)

    def times(x: Any, k: int, n: int, bits: int) -> Any:
        scale = op.constant((rng.random((n, k // 32, 1)) * 0.01).astype(np.float16))
        if bits == 4:
            codes = op.constant(rng.integers(0, 16, (n, k // 32, 32)).astype(np.uint8), dtype=ov.Type.u4)
            middle = op.convert(op.constant(np.full((n, k // 32, 1), 8, np.uint8), dtype=ov.Type.u4), "f16")
            w = op.multiply(op.subtract(op.convert(codes, "f16"), middle), scale)
            w = op.reshape(w, op.constant(np.array([n, k])), False)
        else:
            one = op.constant((rng.random((n, 1)) * 0.001).astype(np.float16))
            w = op.multiply(op.convert(op.constant(rng.integers(-127, 128, (n, k)).astype(np.int8)), "f16"), one)
        return op.matmul(x, op.convert(w, "f32"), False, True)

    def part(x: Any, n: int) -> Any:
        return op.slice(x, [0], [n], [1], [1])

    start = x = op.parameter([-1, WIDTH], ov.Type.f32)
    for _ in range(LAYERS):
        x = op.add(x, times(part(times(x, WIDTH, 960, bits), WIDTH), WIDTH, WIDTH, bits))
        x = op.add(x, times(part(times(x, WIDTH, 2 * HIDDEN, bits), HIDDEN), HIDDEN, WIDTH, bits))
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": group,
        "PERFORMANCE_HINT": "LATENCY",
    }
    model = ov.Core().compile_model(ov.Model([times(x, WIDTH, VOCAB, 8)], [start]), "CPU", settings)
    request = model.create_infer_request()
    return lambda rows: request.infer([rows])


def onnx(threads: int, *, bits: int) -> Pass:
    """MatMulNBits with blocks of 32 and integer accumulation."""
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    rng, nodes, stored = np.random.default_rng(0), [], []

    def node(kind: str, inputs: list[str], **more: Any) -> str:
        name = f"v{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [name], **more))
        return name

    def constant(name: str, value: np.ndarray) -> str:
        stored.append(numpy_helper.from_array(value, name))
        return name

    def times(x: str, k: int, n: int, bits: int) -> str:
        at = len(stored)
        codes = constant(f"w{at}", rng.integers(0, 255, (n, k // 32, 4 * bits)).astype(np.uint8))
        scale = constant(f"s{at}", (rng.random(n * k // 32) * 0.01).astype(np.float32))
        sizes = {"K": k, "N": n, "bits": bits, "block_size": 32, "accuracy_level": 4}
        return node("MatMulNBits", [x, codes, scale], domain="com.microsoft", **sizes)

    ends = {n: constant(f"end{n}", np.array([n])) for n in (WIDTH, HIDDEN)}
    zero, one = constant("zero", np.array([0])), constant("one", np.array([1]))
    x = "x"
    for _ in range(LAYERS):
        mixed = node("Slice", [times(x, WIDTH, 960, bits), zero, ends[WIDTH], one])
        x = node("Add", [x, times(mixed, WIDTH, WIDTH, bits)])
        inner = node("Slice", [times(x, WIDTH, 2 * HIDDEN, bits), zero, ends[HIDDEN], one])
        x = node("Add", [x, times(inner, HIDDEN, WIDTH, bits)])
    last = times(x, WIDTH, VOCAB, 8)
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", WIDTH])]
    made = [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["rows", VOCAB])]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(helper.make_graph(nodes, "g", given, made, stored), opset_imports=opsets, ir_version=9)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda rows: session.run(None, {"x": rows})


def _through(layers: list[Any], x: Any, apply: Callable[[Any, Any], Any]) -> Any:
    for qkv, out, gate_up, down in layers:
        x = x + apply(out, apply(qkv, x)[:, :WIDTH])
        x = x + apply(down, apply(gate_up, x)[:, :HIDDEN])
    return x


ENGINES: dict[str, tuple[str, Callable[[int], Pass]]] = {
    "mezzotint native, Q4 + Q8 head": ("mezzotint", native),
    "OpenVINO int8": ("openvino", lambda t: openvino(t, bits=8, group=0)),
    "OpenVINO int8, dynamic quantisation 64": ("openvino", lambda t: openvino(t, bits=8, group=64)),
    "OpenVINO int4": ("openvino", lambda t: openvino(t, bits=4, group=0)),
    "ONNX Runtime MatMulNBits, 4 bits": ("onnxruntime", lambda t: onnx(t, bits=4)),
    "ONNX Runtime MatMulNBits, 8 bits": ("onnxruntime", lambda t: onnx(t, bits=8)),
    "torch int8 dynamic": ("torch", lambda t: torch_pass(t, "int8")),
    "torchao int8 dynamic, compiled": ("torchao", lambda t: torch_pass(t, "torchao")),
    "torch fp32": ("torch", torch_pass),
}


def measured(run: Pass, repeats: int) -> dict[str, float]:
    """Median milliseconds by number of rows."""
    out = {}
    for rows in ROWS:
        x = np.full((rows, WIDTH), 0.01, np.float32)
        times = []
        for _ in range(repeats + 2):
            begun = time.perf_counter()
            run(x)
            times.append(time.perf_counter() - begun)
        out[str(rows)] = round(1e3 * statistics.median(times[2:]), 2)
    return out


def main() -> None:
    """Measure every engine in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "products.json")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        json.dump(measured(ENGINES[given.only][1](given.threads), given.repeats), sys.stdout)
        return
    from mezzotint.evaluate.bench.machine import PACKAGES, machine, versions

    results = {}
    for name, (package, _) in ENGINES.items():
        if importlib.util.find_spec(package) is None:
            print(f"{name}: left out, {package} is not installed", file=sys.stderr)
            continue
        command = [sys.executable, __file__, "--only", name, "--threads", str(given.threads)]
        done = subprocess.run([*command, "--repeats", str(given.repeats)], capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{name}: failed: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
            continue
        results[name] = json.loads(done.stdout)
        print(f"{name}: {results[name]}", file=sys.stderr)
    installed = versions((*PACKAGES, "onnxruntime", "torchao"))
    record = {"command": " ".join(sys.argv), "threads": given.threads, "machine": machine(), "versions": installed}
    given.out.write_text(json.dumps(record | {"milliseconds_by_rows": results}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
