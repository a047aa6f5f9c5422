;; sfc_process takes a 64-bit number.
;; expect: refused: export "sfc_process" of type (i64) -> ()
(module
  (@custom "sfc.manifest" "{\"name\":\"wrong-signature\",\"version\":\"1.0.0\",\"abi\":1}")
  (memory (export "memory") 4097 4097)
  (func (export "sfc_abi_v1"))
  (func (export "sfc_configure") (param $ptr i32) (param $len i32) (result i32)
    (i32.const 0))
  (func (export "sfc_process") (param $n i64)))
