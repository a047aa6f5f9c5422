;; Logs "first burst" on its first burst.
;; expect: verdict: next
(module
  (@custom "sfc.manifest" "{\"name\":\"log-once\",\"version\":\"1.0.0\",\"abi\":1,\"capabilities\":[\"log\"]}")
  (import "sfc" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 4097 4097)
  (func (export "sfc_abi_v1"))
  (func (export "sfc_configure") (param $ptr i32) (param $len i32) (result i32)
    (i32.const 0))
  (func (export "sfc_process") (param $n i32)
    (local $d i32) (local $end i32)
    (if (i32.eqz (global.get $said)) (then
      (global.set $said (i32.const 1))
      (call $log (i32.const 1) (i32.const 0x10000000) (i32.const 11))))
    (local.set $d (i32.const 0x01001000))
    (local.set $end (i32.add (local.get $d) (i32.shl (local.get $n) (i32.const 6))))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $d) (local.get $end)))
      (i32.store8 offset=40 (local.get $d) (i32.const 2))
      (local.set $d (i32.add (local.get $d) (i32.const 64)))
      (br $next))))
  (global $said (mut i32) (i32.const 0))
  (data (i32.const 0x10000000) "first burst"))
