(module
  (import "env" "f" (func $f (param i32) (result i32)))
  (func (export "call") (result i32) (call $f (i32.const 1))))
