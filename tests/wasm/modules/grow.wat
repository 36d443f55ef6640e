(module
  (memory (export "memory") 1)
  (memory (export "second") 1)
  (table (export "table") 1 funcref)
  (func (export "memory.grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "second.grow") (param i32) (result i32) (memory.grow 1 (local.get 0)))
  (func (export "table.grow") (param i32) (result i32) (table.grow 0 (ref.null func) (local.get 0))))
