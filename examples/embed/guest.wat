;; A guest for embed.c. Made into guest.h by: wat2wasm --debug-names guest.wat && xxd -i guest.wasm
(module
  (func $log (import "env" "log") (param $address i32) (param $length i32))
  (memory (export "memory") 1)
  (data (i32.const 16) "hello from the sandbox")
  (func $greet (export "greet") (call $log (i32.const 16) (i32.const 22)))
  (func $add (export "add") (param $a i32) (param $b i32) (result i32)
    (i32.add (local.get $a) (local.get $b)))
  (func $load (param $address i32) (result i32) (i32.load (local.get $address)))
  (func $peek (export "peek") (drop (call $load (i32.const -8))))
  (func $spin (export "spin") (loop $forever (br $forever))))
