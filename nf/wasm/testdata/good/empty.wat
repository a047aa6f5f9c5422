;; Writes Next for every packet.
;; manifest: {"name":"empty","version":"1.0.0","abi":1,"flow_state_bytes":0,"both_directions":false,"counters":[],"drop_reasons":[],"config_schema":{"type":"object"},"capabilities":[]}
(module
  (memory (export "memory") 4097 4097)
  (func (export "sfc_abi_v1"))
  (func (export "sfc_configure") (param i32 i32) (result i32) i32.const 0)
  (func (export "sfc_process") (param $n i32)
    (local $d i32) (local $end i32)
    (local.set $d (i32.const 0x01001000))
    (local.set $end (i32.add (local.get $d) (i32.shl (local.get $n) (i32.const 6))))
    (loop $next
      (i32.store offset=40 (local.get $d) (i32.const 2))
      (br_if $next (i32.lt_u (local.tee $d (i32.add (local.get $d) (i32.const 64))) (local.get $end))))))
