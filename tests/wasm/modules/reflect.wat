(module
  (import "env" "g" (global i64))
  (import "env" "f" (func (param i32 i64) (result f32 f64)))
  (func (export "func") (param i32 f64 f32) (result i32) (unreachable))
  (global (export "global") (mut f64) (f64.const 0))
  (table (export "table") 0 50 funcref)
  (memory (export "memory") 1))
