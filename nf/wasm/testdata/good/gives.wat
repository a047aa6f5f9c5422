;; Does for each packet's flow what the packet says, and writes the answer into
;; it. In the frame: 0 what (1 flow_bind, 2 claim, 3 claim_find, 4 trap, 5
;; flow_bind of a pointer), 4 number of the descriptor, or all ones: the
;; packet's own; 8 key high, or the pointer; 16 key low; 24 value; 32 tuple; 72
;; answer.
;; manifest: {"name":"gives","version":"1.0.0","abi":1,"flow_state_bytes":8,"capabilities":["flow_bind"]}
(module
  (import "sfc" "flow_bind" (func $bind (param i32 i32) (result i32)))
  (import "sfc" "claim" (func $claim (param i32 i64 i64 i64) (result i32)))
  (import "sfc" "claim_find" (func $find (param i64 i64) (result i64)))
  (memory (export "memory") 4097 4097)
  (func (export "sfc_abi_v1"))
  (func (export "sfc_configure") (param $ptr i32) (param $len i32) (result i32)
    ;; No packets yet: an answer other than 3 refuses the configuration.
    (i32.sub (call $claim (i32.const 0) (i64.const 1) (i64.const 2) (i64.const 3)) (i32.const 3)))
  (func $one (param $i i32) (param $f i32) (result i64)
    (local $what i32)
    (local.set $what (i32.load8_u (local.get $f)))
    (if (i32.ne (i32.load offset=4 (local.get $f)) (i32.const -1))
      (then (local.set $i (i32.load offset=4 (local.get $f)))))
    (if (i32.eq (local.get $what) (i32.const 1))
      (then (return (i64.extend_i32_u (call $bind (local.get $i) (i32.add (local.get $f) (i32.const 32)))))))
    (if (i32.eq (local.get $what) (i32.const 2))
      (then (return (i64.extend_i32_u (call $claim (local.get $i) (i64.load offset=8 (local.get $f))
        (i64.load offset=16 (local.get $f)) (i64.load offset=24 (local.get $f)))))))
    (if (i32.eq (local.get $what) (i32.const 3))
      (then (return (call $find (i64.load offset=8 (local.get $f)) (i64.load offset=16 (local.get $f))))))
    (if (i32.eq (local.get $what) (i32.const 4)) (then (unreachable)))
    (if (i32.eq (local.get $what) (i32.const 5))
      (then (return (i64.extend_i32_u (call $bind (local.get $i) (i32.load offset=8 (local.get $f)))))))
    (i64.const 0))
  (func (export "sfc_process") (param $n i32)
    (local $i i32) (local $d i32) (local $f i32)
    (local.set $d (i32.const 0x01001000))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
      (local.set $f (i32.add (i32.load (local.get $d)) (i32.load16_u offset=4 (local.get $d))))
      (i64.store offset=72 (local.get $f) (call $one (local.get $i) (local.get $f)))
      (i32.store8 offset=40 (local.get $d) (i32.const 2))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (local.set $d (i32.add (local.get $d) (i32.const 64)))
      (br $next))))
  (func (export "sfc_flow_end") (param $slot i32)
    ;; Neither may anything be given to a flow that ends.
    (if (i32.ne (call $claim (i32.const 0) (i64.const 1) (i64.const 2) (i64.const 3)) (i32.const 3))
      (then (unreachable)))))
