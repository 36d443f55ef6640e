// The second engine of the differential fuzz target: outcome_node.c describes the pipe, outcome.h the records.
import fs from 'node:fs';

const VALUE = 0, OTHER = 11, INVALID = 10, STACK = 8, EXCEPTION = 9;
const TRAPS = [
  [/unreachable/, 1],
  [/memory access out of bounds|data segment .*out of bounds/, 2],
  [/divide by zero|remainder by zero/, 3],
  [/divide result unrepresentable|float unrepresentable/, 4],
  [/table index is out of bounds|table access out of bounds|element segment|table or segment|invalid index into function table/, 5],
  [/null function or function signature|signature mismatch/, 6],
  [/null pointer|rethrowing null/, 7],
];

const features = () => {
  const body = (types, ...bytes) => { // one function of type 0, ()->()
    const code = [0, ...bytes, 0x0b];
    return [...types, 3, 2, 1, 0, 10, code.length + 2, 1, code.length, ...code];
  };
  const plain = [1, 4, 1, 0x60, 0, 0];
  const probes = [
    [1, body(plain, 0x41, 0, 0xfd, 0x0f, 0x1a)],
    [4, body(plain, 0x12, 0)],
    [8, body(plain, 0x1f, 0x40, 0, 0x0b)],
    [16, body(plain, 0x06, 0x40, 0x19, 0x0b)],
    [32, [5, 5, 2, 0, 1, 0, 1]],
    [64, [5, 3, 1, 4, 1]],
    [128, body(plain, 0xd0, 0, 0x14, 0)],
  ];
  return probes.reduce((all, [bit, bytes]) =>
    WebAssembly.validate(new Uint8Array([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, ...bytes])) ? all | bit : all, 0);
};

const h0 = x => (Math.imul(x, 31) + 7) | 0;
let helper;

function hash(buffer) {
  const words = new Uint32Array(buffer);
  let h = 0x811c9dc5 | 0;
  for (let i = 0; i < words.length; i++) {
    h = Math.imul(h ^ words[i], 0x01000193);
    h ^= h >>> 15;
  }
  return h >>> 0;
}

let error;
function call(f) {
  try {
    return [VALUE, f()];
  } catch (e) {
    if (e instanceof WebAssembly.Exception) return [EXCEPTION, 0n];
    if (e instanceof RangeError && /call stack/.test(e.message)) return [STACK, 0n];
    for (const [text, kind] of TRAPS) if (text.test(e.message)) return [kind, 0n];
    error = `${e.name}: ${e.message}`;
    return [OTHER, 0n];
  }
}

function run(bytes) {
  const records = [];
  const add = (kind, index, value) => records.push([kind, index, BigInt.asUintN(64, BigInt(value))]);
  let exports;
  try {
    const module = new WebAssembly.Module(bytes);
    exports = new WebAssembly.Instance(module, { env: { h0, h1: new WebAssembly.Instance(helper).exports.h1 } }).exports;
  } catch (e) {
    error = `${e.name}: ${e.message}`;
    add(e instanceof WebAssembly.CompileError ? INVALID : OTHER, 0, 0);
    return records;
  }
  for (let i = 0; exports['e' + i]; i++) {
    const [kind, value] = call(exports['e' + i]);
    add(kind, i, value);
  }
  const [kind, value] = call(exports.g);
  add(kind, 0, value);
  for (let i = 0; exports['m' + i]; i++) {
    add(VALUE, i, exports['m' + i].buffer.byteLength / 65536);
    add(VALUE, i, hash(exports['m' + i].buffer));
  }
  for (let i = 0; exports['t' + i]; i++) {
    const t = exports['t' + i];
    let nulls = 0n;
    for (let e = 0; e < t.length && e < 32; e++) if (t.get(e) === null) nulls |= 1n << BigInt(e);
    add(VALUE, i, BigInt(t.length) << 32n | nulls);
  }
  return records;
}

function reply(records) {
  const text = Buffer.from(error.slice(0, 200), 'latin1');
  const out = Buffer.alloc(4 + records.length * 16 + 4 + text.length);
  let at = out.writeUInt32LE(records.length, 0);
  for (const [kind, index, value] of records) {
    at = out.writeUInt32LE(kind, at);
    at = out.writeUInt32LE(index, at);
    at = out.writeBigUInt64LE(value, at);
  }
  at = out.writeUInt32LE(text.length, at);
  text.copy(out, at);
  return out;
}

function write(buffer) {
  for (let at = 0; at < buffer.length;) at += fs.writeSync(1, buffer, at);
}
function read(n) {
  const buffer = Buffer.alloc(n);
  for (let at = 0; at < n;) {
    const got = fs.readSync(0, buffer, at, n - at);
    if (!got) process.exit(0);
    at += got;
  }
  return buffer;
}

helper = new WebAssembly.Module(read(71));
const hello = Buffer.alloc(4);
hello.writeUInt32LE(features(), 0);
write(hello);
for (let count = 1;; count++) {
  const size = read(4).readUInt32LE(0);
  error = '';
  const module = read(size & 0x7fffffff);
  const valid = bytes => [[WebAssembly.validate(bytes) ? VALUE : INVALID, 0, 0n]];
  write(reply(size >>> 31 ? valid(module) : run(module)));
  if (count % 100 === 0) globalThis.gc?.(); // memories hold address space until collected
}
