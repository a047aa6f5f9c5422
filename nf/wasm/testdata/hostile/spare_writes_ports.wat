;; Traps once; the spare that is then configured writes into the descriptors of the burst under way on another thread.
;; expect: limit: ports
(module
  (@custom "sfc.manifest" "{\"name\":\"spare-writes-ports\",\"version\":\"1.0.0\",\"abi\":1}")
  (memory (export "memory") 4097 4097)
  (func (export "sfc_abi_v1"))
  ;; The third instance of the path (counted behind the descriptors, where all see it) never ends.
  (func (export "sfc_configure") (param $ptr i32) (param $len i32) (result i32)
    (local $d i32)
    (i32.store (i32.const 0x01003000) (i32.add (i32.load (i32.const 0x01003000)) (i32.const 1)))
    (if (i32.le_u (i32.load (i32.const 0x01003000)) (i32.const 2)) (then (return (i32.const 0))))
    (loop $next
      (local.set $d (i32.and (i32.add (local.get $d) (i32.const 64)) (i32.const 0xfff)))
      (i32.store16 offset=0x01001022 (local.get $d) (i32.const 0xffff)) ;; egress port
      (br $next))
    (i32.const 0))
  (func (export "sfc_process") (param $n i32)
    (local $d i32) (local $end i32)
    (if (i32.eqz (i32.load (i32.const 0x01003004)))
      (then (i32.store (i32.const 0x01003004) (i32.const 1)) (unreachable)))
    (local.set $d (i32.const 0x01001000))
    (local.set $end (i32.add (local.get $d) (i32.shl (local.get $n) (i32.const 6))))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $d) (local.get $end)))
      (i32.store8 offset=40 (local.get $d) (i32.const 2))
      (local.set $d (i32.add (local.get $d) (i32.const 64)))
      (br $next)))))
