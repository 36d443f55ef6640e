(module
  (import "env" "f" (func $f (param i32) (result i32)))
  (import "env" "g" (func (param i64 f32) (result i32 i32)))
  (import "env" "m" (memory 1 2))
  (import "env" "t" (table 10 funcref))
  (import "env" "v" (global (mut i32)))
  (func (export "call") (result i32) (call $f (i32.const 1))))
