;; Fills everything it can address in one instruction, the window with all descriptors included.
;; expect: limit: memory
(module
  (@custom "sfc.manifest" "{\"name\":\"fills-window\",\"version\":\"1.0.0\",\"abi\":1}")
  (memory (export "memory") 4352 4352)
  (func (export "sfc_abi_v1"))
  (func (export "sfc_configure") (param $ptr i32) (param $len i32) (result i32)
    (i32.const 0))
  (func (export "sfc_process") (param $n i32)
    (memory.fill (i32.const 0) (i32.const 0xff) (i32.shl (memory.size) (i32.const 16)))))
