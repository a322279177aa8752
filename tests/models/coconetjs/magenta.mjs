// Prints what magenta-js' Coconet predicts, as JSON in its last line: node magenta.mjs FOLDER URL < feed.json
// FOLDER is where npm has installed this folder's package-lock.json; URL is that of a manifest's folder. The feed holds
// pianorolls and masks [batch, time, 46, 4], and of a network that isn't of the default size, the `spec` it has.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";

const [folder, url] = process.argv.slice(2);
const { pianorolls, masks, spec } = JSON.parse(readFileSync(0, "utf8"));
globalThis.navigator ??= { userAgent: "" }; // which it asks whether this is an iPhone
delete globalThis.fetch; // where it is, TensorFlow.js' WebAssembly asks it for files
const require = createRequire(resolve(folder, "package.json"));
const tf = require("@tensorflow/tfjs");
require("@tensorflow/tfjs-backend-wasm");
const { Coconet } = require("@magenta/music/node/coconet");

// The backend in plain JavaScript mistakes the paddings of time and pitch for each other in depthwise convolutions
// (tfjs-backend-cpu 2.8.6, kernels/DepthwiseConv2dNative.ts: xRCorner has padLeft), which counts where dilations differ.
await tf.setBackend("wasm");
const model = new Coconet(url);
Object.assign(model.spec, spec);
await model.initialize();
const predictions = model.convnet.predictFromPianoroll(tf.tensor(pianorolls), tf.tensor(masks));
console.log(JSON.stringify({ predictions: await predictions.array() }));
