;; local.tee of a computed value while an older value of the local is still on the stack: the tee'd value is then used both
;; from the stack and from the local. old + (a + b) * (a + b)
(module
  (func (export "f64") (param f64 f64) (result f64) (local f64)
    (local.set 2 (f64.const 0.5))
    local.get 2
    (local.tee 2 (f64.add (local.get 0) (local.get 1)))
    local.get 2
    f64.mul
    f64.add)
  (func (export "f32") (param f32 f32) (result f32) (local f32)
    (local.set 2 (f32.const 0.5))
    local.get 2
    (local.tee 2 (f32.add (local.get 0) (local.get 1)))
    local.get 2
    f32.mul
    f32.add)
  (func (export "i32") (param i32 i32) (result i32) (local i32)
    (local.set 2 (i32.const 5))
    local.get 2
    (local.tee 2 (i32.add (local.get 0) (local.get 1)))
    local.get 2
    i32.mul
    i32.add)
  (func (export "i64") (param i64 i64) (result i64) (local i64)
    (local.set 2 (i64.const 5))
    local.get 2
    (local.tee 2 (i64.add (local.get 0) (local.get 1)))
    local.get 2
    i64.mul
    i64.add))
