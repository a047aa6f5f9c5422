;; Swaps source and destination of every Ethernet header.
;; expect: verdict: next
(module
  (@custom "sfc.manifest" "{\"name\":\"swap-macs\",\"version\":\"1.0.0\",\"abi\":1}")
  (memory (export "memory") 4097 4097)
  (func (export "sfc_abi_v1"))
  (func (export "sfc_configure") (param $ptr i32) (param $len i32) (result i32)
    (i32.const 0))
  (func (export "sfc_process") (param $n i32)
    (local $d i32) (local $end i32) (local $p i32) (local $dst i64)
    (local.set $d (i32.const 0x01001000))
    (local.set $end (i32.add (local.get $d) (i32.shl (local.get $n) (i32.const 6))))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $d) (local.get $end)))
      (local.set $p (i32.add (i32.load (local.get $d)) (i32.load16_u offset=4 (local.get $d))))
      (local.set $dst (i64.load (local.get $p))) ;; 6 bytes of it
      (memory.copy (local.get $p) (i32.add (local.get $p) (i32.const 6)) (i32.const 6))
      (i32.store offset=6 (local.get $p) (i32.wrap_i64 (local.get $dst)))
      (i32.store16 offset=10 (local.get $p) (i32.wrap_i64 (i64.shr_u (local.get $dst) (i64.const 32))))
      (i32.store8 offset=40 (local.get $d) (i32.const 2))
      (local.set $d (i32.add (local.get $d) (i32.const 64)))
      (br $next)))))
