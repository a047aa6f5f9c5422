;; Fills all 16 MiB of its own memory in one instruction.
;; expect: limit: memory
(module
  (@custom "sfc.manifest" "{\"name\":\"fills-memory\",\"version\":\"1.0.0\",\"abi\":1}")
  (memory (export "memory") 4352 4352)
  (func (export "sfc_abi_v1"))
  (func (export "sfc_configure") (param $ptr i32) (param $len i32) (result i32)
    (i32.const 0))
  (func (export "sfc_process") (param $n i32)
    (memory.fill (i32.const 0x10000000) (i32.const 0xff) (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 0x10000000)))
    (call $next (local.get $n)))
  (func $next (param $n i32)
    (local $d i32) (local $end i32)
    (local.set $d (i32.const 0x01001000))
    (local.set $end (i32.add (local.get $d) (i32.shl (local.get $n) (i32.const 6))))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $d) (local.get $end)))
      (i32.store8 offset=40 (local.get $d) (i32.const 2))
      (local.set $d (i32.add (local.get $d) (i32.const 64)))
      (br $next)))))
