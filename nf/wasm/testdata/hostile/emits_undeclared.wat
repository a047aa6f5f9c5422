;; Imports sfc.emit and does not say so in its manifest.
;; expect: refused: add "emit" to the manifest's capabilities
(module
  (@custom "sfc.manifest" "{\"name\":\"emits-undeclared\",\"version\":\"1.0.0\",\"abi\":1}")
  (import "sfc" "emit" (func $emit (param i32 i32)))
  (memory (export "memory") 4097 4097)
  (func (export "sfc_abi_v1"))
  (func (export "sfc_configure") (param $ptr i32) (param $len i32) (result i32)
    (i32.const 0))
  (func (export "sfc_process") (param $n i32)
    (call $emit (i32.const 0x10000000) (i32.const 16))))
