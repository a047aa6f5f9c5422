;; No memory.
;; expect: refused: 0 memories
(module
  (@custom "sfc.manifest" "{\"name\":\"no-memory\",\"version\":\"1.0.0\",\"abi\":1}")
  (func (export "sfc_abi_v1"))
  (func (export "sfc_configure") (param $ptr i32) (param $len i32) (result i32)
    (i32.const 0))
  (func (export "sfc_process") (param $n i32)))
