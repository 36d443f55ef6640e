// node peer-node.mjs run APP.wasm [ARGS...]        a WASI program
// node peer-node.mjs compile FILE.wasm             prints CPU seconds and peak RSS in KiB of compiling all of it
import { readFileSync } from "node:fs";
import { WASI } from "node:wasi";

const [verb, path, ...args] = process.argv.slice(2);
const bytes = readFileSync(path);
const before = process.cpuUsage();
const module = new WebAssembly.Module(bytes);
if (verb === "compile") {
  const took = process.cpuUsage(before);
  console.log((took.user + took.system) / 1e6, process.resourceUsage().maxRSS);
} else {
  const wasi = new WASI({ version: "preview1", args: [path, ...args], env: process.env, preopens: {}, returnOnExit: true });
  const imports = wasi.getImportObject();
  for (const i of WebAssembly.Module.imports(module)) // what nobody provides traps when called
    if (i.kind === "function") (imports[i.module] ??= {})[i.name] ??= () => { throw new Error(`${i.name} called`); };
  process.exitCode = wasi.start(await WebAssembly.instantiate(module, imports));
}
