;; Does what each packet says: 12 bytes per hop at the start of the frame,
;; {u8 verdict, u8 what, u16 reason, u16 off, u16 len, u16 port, u16 chunk}, where the
;; bits of what choose the fields to write: 1 off, 2 len, 4 port, 8 chunk. The mark counts hops.
;; manifest: {"name":"script","version":"1.0.0","abi":1,"flow_state_bytes":0,"both_directions":false,"counters":[],"drop_reasons":["one","two"],"config_schema":{"type":"object"},"capabilities":[]}
(module
  (memory (export "memory") 4097 4097)
  (func (export "sfc_abi_v1"))
  (func (export "sfc_configure") (param i32 i32) (result i32) i32.const 0)
  (func (export "sfc_process") (param $n i32)
    (local $i i32) (local $d i32) (local $p i32) (local $what i32)
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
        (local.set $d (i32.add (i32.const 0x01001000) (i32.shl (local.get $i) (i32.const 6))))
        ;; The script stays where the frame was when it arrived: offset 256 of its chunk.
        (local.set $p (i32.add (i32.add (i32.load (local.get $d)) (i32.const 256))
          (i32.mul (i32.load offset=36 (local.get $d)) (i32.const 12))))
        (i32.store offset=36 (local.get $d) (i32.add (i32.load offset=36 (local.get $d)) (i32.const 1)))
        (local.set $what (i32.load8_u offset=1 (local.get $p)))
        (if (i32.and (local.get $what) (i32.const 1))
          (then (i32.store16 offset=4 (local.get $d) (i32.load16_u offset=4 (local.get $p)))))
        (if (i32.and (local.get $what) (i32.const 2))
          (then (i32.store16 offset=6 (local.get $d) (i32.load16_u offset=6 (local.get $p)))))
        (if (i32.and (local.get $what) (i32.const 4))
          (then (i32.store16 offset=34 (local.get $d) (i32.load16_u offset=8 (local.get $p)))))
        (i32.store8 offset=40 (local.get $d) (i32.load8_u (local.get $p)))
        (i32.store16 offset=42 (local.get $d) (i32.load16_u offset=2 (local.get $p)))
        (if (i32.and (local.get $what) (i32.const 8))
          (then (i32.store (local.get $d) (i32.load16_u offset=10 (local.get $p)))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $next)))))
