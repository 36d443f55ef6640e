// Fibonacci numbers, in AssemblyScript with the WASI shim.
function fib(n: i32): i64 {
  let a: i64 = 0, b: i64 = 1;
  for (let i = 0; i < n; i++) {
    const next = a + b;
    a = b;
    b = next;
  }
  return a;
}

const n = process.argv.length > 1 ? I32.parseInt(process.argv[1]) : 50;
console.log("fib(" + n.toString() + ") = " + fib(n).toString());
