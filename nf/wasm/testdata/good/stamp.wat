;; Writes into each frame, at byte 8 times its place in the path (counted in mark): the guest
;; address it found the frame at, and the first word that the function before it left there.
;; manifest: {"name":"stamp","version":"1.0.0","abi":1,"flow_state_bytes":0,"both_directions":false,"counters":["stamped"],"drop_reasons":[],"config_schema":{"type":"object"},"capabilities":[]}
(module
  (memory (export "memory") 4097 4097)
  (func (export "sfc_abi_v1"))
  (func (export "sfc_configure") (param i32 i32) (result i32) i32.const 0)
  (func (export "sfc_process") (param $n i32)
    (local $d i32) (local $end i32) (local $p i32) (local $at i32)
    (local.set $d (i32.const 0x01001000))
    (local.set $end (i32.add (local.get $d) (i32.shl (local.get $n) (i32.const 6))))
    (i64.store (i32.const 0x08000000) (i64.add (i64.load (i32.const 0x08000000)) (i64.extend_i32_u (local.get $n))))
    (loop $next
      (local.set $p (i32.add (i32.load (local.get $d)) (i32.load16_u offset=4 (local.get $d))))
      (local.set $at (i32.add (local.get $p) (i32.shl (i32.load offset=36 (local.get $d)) (i32.const 3))))
      (i32.store offset=12 (local.get $at) (i32.load offset=0 (local.get $at)))
      (i32.store offset=8 (local.get $at) (local.get $p))
      (i32.store offset=36 (local.get $d) (i32.add (i32.load offset=36 (local.get $d)) (i32.const 1)))
      (i32.store offset=40 (local.get $d) (i32.const 2))
      (br_if $next (i32.lt_u (local.tee $d (i32.add (local.get $d) (i32.const 64))) (local.get $end))))))
