(module
  (import "env" "host" (func $host))
  (tag $t (export "tag") (param i32 i64))
  (func $raise (export "raise") (param i32) (throw $t (local.get 0) (i64.const 7)))
  (func (export "many") (param $n i32) (result i64) (local $sum i64)
    (loop $l
      (try
        (do (call $raise (local.get $n)))
        (catch $t
          (local.set $sum (i64.add (local.get $sum)))
          (drop)))
      (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $sum))
  (func $leave (try (do (return_call $host)) (catch_all)))
  (func (export "catch_outside") (result i32)
    (try (result i32)
      (do (call $leave) (i32.const -1))
      (catch $t (drop))))
  (func (export "catch_host") (result i32)
    (try (result i32)
      (do (call $host) (i32.const -1))
      (catch $t (drop))
      (catch_all (i32.const -2)))))
