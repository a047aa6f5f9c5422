;; Emits 1,024 records of 512 bytes in every burst, each with its number.
;; expect: limit: record flood
(module
  (@custom "sfc.manifest" "{\"name\":\"emits-without-end\",\"version\":\"1.0.0\",\"abi\":1,\"capabilities\":[\"emit\"],\"records\":[{\"name\":\"r\",\"fields\":[{\"name\":\"flowId\",\"type\":\"unsigned64\",\"offset\":8}]}]}")
  (import "sfc" "emit" (func $emit (param i32 i32)))
  (memory (export "memory") 4097 4097)
  (global $seq (mut i64) (i64.const 0))
  (func (export "sfc_abi_v1"))
  (func (export "sfc_configure") (param $ptr i32) (param $len i32) (result i32)
    (i32.const 0))
  (func (export "sfc_process") (param $n i32)
    (local $d i32) (local $end i32) (local $i i32)
    (local.set $i (i32.const 1024))
    (loop $more
      (i64.store offset=8 (i32.const 0x10000000) (global.get $seq))
      (call $emit (i32.const 0x10000000) (i32.const 512))
      (global.set $seq (i64.add (global.get $seq) (i64.const 1)))
      (br_if $more (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
    (local.set $d (i32.const 0x01001000))
    (local.set $end (i32.add (local.get $d) (i32.shl (local.get $n) (i32.const 6))))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $d) (local.get $end)))
      (i32.store8 offset=40 (local.get $d) (i32.const 2))
      (local.set $d (i32.add (local.get $d) (i32.const 64)))
      (br $next)))))
