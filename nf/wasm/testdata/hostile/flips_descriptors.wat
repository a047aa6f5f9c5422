;; Moves every descriptor one place down the array, chunk addresses included (bursts of 2 and more).
;; expect: drop: bad_descriptor
(module
  (@custom "sfc.manifest" "{\"name\":\"flips-descriptors\",\"version\":\"1.0.0\",\"abi\":1}")
  (memory (export "memory") 4097 4097)
  (func (export "sfc_abi_v1"))
  (func (export "sfc_configure") (param $ptr i32) (param $len i32) (result i32)
    (i32.const 0))
  (func (export "sfc_process") (param $n i32)
    (local $last i32)
    (local.set $last (i32.add (i32.const 0x01001000) (i32.shl (i32.sub (local.get $n) (i32.const 1)) (i32.const 6))))
    (memory.copy (i32.const 0x10000000) (i32.const 0x01001000) (i32.const 64))
    (memory.copy (i32.const 0x01001000) (i32.const 0x01001040) (i32.sub (local.get $last) (i32.const 0x01001000)))
    (memory.copy (local.get $last) (i32.const 0x10000000) (i32.const 64))
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
