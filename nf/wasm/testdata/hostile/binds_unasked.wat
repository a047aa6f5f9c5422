;; Binds tuples without the capability.
;; expect: refused: import "sfc.flow_bind" without its capability
;; manifest: {"name":"guest","version":"1.0.0","abi":1,"flow_state_bytes":8}
(module
  (import "sfc" "flow_bind" (func (param i32 i32) (result i32)))
  (memory (export "memory") 4097 4097)
  (func (export "sfc_abi_v1"))
  (func (export "sfc_configure") (param i32 i32) (result i32) (i32.const 0))
  (func (export "sfc_process") (param i32)))
