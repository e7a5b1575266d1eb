// node run_in_web.mjs FILE...: of each {"model", "inputs"} in JSON, what onnxruntime-web (WebAssembly) gives, a line each.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const ort = createRequire(`${process.env.ONNXRUNTIME_WEB ?? process.cwd()}/`)("onnxruntime-web");
ort.env.wasm.numThreads = 1;
const arrays = { float32: Float32Array, int32: Int32Array };

for (const file of process.argv.slice(2)) {
  const { model, inputs } = JSON.parse(readFileSync(file, "utf8"));
  const feeds = {};
  for (const [name, { dtype, shape, values }] of Object.entries(inputs))
    feeds[name] = new ort.Tensor(dtype, arrays[dtype].from(values), shape);
  const session = await ort.InferenceSession.create(readFileSync(model), { executionProviders: ["wasm"] });
  const outputs = {};
  for (const [name, tensor] of Object.entries(await session.run(feeds)))
    outputs[name] = { shape: tensor.dims, values: Array.from(tensor.data, Number) };
  console.log(JSON.stringify(outputs));
  await session.release();
}
