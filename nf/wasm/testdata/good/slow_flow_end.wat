;; Takes long to be told of ended flows, though no call as long as a budget.
;; expect: verdict: next
(module
  (@custom "sfc.manifest" "{\"name\":\"slow-flow-end\",\"version\":\"1.0.0\",\"abi\":1,\"flow_state_bytes\":8}")
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
      (local.set $d (i32.add (local.get $d) (i32.const 64)))
      (br $next))))
  (func (export "sfc_flow_end") (param $slot i32)
    (local $i i32)
    (local.set $i (i32.const 300000))
    (loop $again
      (local.set $i (i32.sub (local.get $i) (i32.const 1)))
      (br_if $again (local.get $i)))))
