;; Counts packets in counter 0 and traps on every 1,000th; the others are next.
;; expect: rare: trap 1000
(module
  (@custom "sfc.manifest" "{\"name\":\"counts-and-traps\",\"version\":\"1.0.0\",\"abi\":1,\"counters\":[\"packets\"]}")
  (memory (export "memory") 4097 4097)
  (func (export "sfc_abi_v1"))
  (func (export "sfc_configure") (param $ptr i32) (param $len i32) (result i32)
    (i32.const 0))
  (func (export "sfc_process") (param $n i32)
    (local $d i32) (local $end i32)
    (local.set $d (i32.const 0x01001000))
    (local.set $end (i32.add (local.get $d) (i32.shl (local.get $n) (i32.const 6))))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $d) (local.get $end)))
      (i32.store8 offset=40 (local.get $d) (i32.const 2))
      (i64.store (i32.const 0x08000000) (i64.add (i64.load (i32.const 0x08000000)) (i64.const 1)))
      (if (i64.eqz (i64.rem_u (i64.load (i32.const 0x08000000)) (i64.const 1000)))
        (then (unreachable)))
      (local.set $d (i32.add (local.get $d) (i32.const 64)))
      (br $next)))))
