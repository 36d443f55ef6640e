(module
  (func (export "add") (param v128 v128) (result v128) (i32x4.add (local.get 0) (local.get 1)))
  (global (export "g") (mut v128) (v128.const i64x2 1 2)))
