;; Fills memory past its end in one instruction.
;; expect: fault: trap
(module
  (@custom "sfc.manifest" "{\"name\":\"bulk-out-of-bounds\",\"version\":\"1.0.0\",\"abi\":1}")
  (memory (export "memory") 4097 4097)
  (func (export "sfc_abi_v1"))
  (func (export "sfc_configure") (param $ptr i32) (param $len i32) (result i32)
    (i32.const 0))
  (func (export "sfc_process") (param $n i32)
    (memory.fill (i32.const 0x10000000) (i32.const 0xff) (i32.const 0x7fffffff))))
