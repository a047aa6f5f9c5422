;; Divides by a zero it reads from memory.
;; expect: fault: trap
(module
  (@custom "sfc.manifest" "{\"name\":\"divides-by-zero\",\"version\":\"1.0.0\",\"abi\":1}")
  (memory (export "memory") 4097 4097)
  (func (export "sfc_abi_v1"))
  (func (export "sfc_configure") (param $ptr i32) (param $len i32) (result i32)
    (i32.const 0))
  (func (export "sfc_process") (param $n i32)
    (drop (i32.div_u (local.get $n) (i32.load (i32.const 0x10000000))))))
