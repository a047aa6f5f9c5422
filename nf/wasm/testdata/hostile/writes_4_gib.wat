;; Stores at the highest address an instruction can name.
;; expect: fault: trap
(module
  (@custom "sfc.manifest" "{\"name\":\"writes-4-gib\",\"version\":\"1.0.0\",\"abi\":1}")
  (memory (export "memory") 4097 4097)
  (func (export "sfc_abi_v1"))
  (func (export "sfc_configure") (param $ptr i32) (param $len i32) (result i32)
    (i32.const 0))
  (func (export "sfc_process") (param $n i32)
    (i64.store offset=0xffffffff (i32.const -1) (i64.const -1))))
