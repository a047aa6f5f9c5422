;; Claims keys for flows and keeps no flow state: its packets have no flow.
;; expect: refused: import "sfc.claim" without flow_state_bytes
;; manifest: {"name":"guest","version":"1.0.0","abi":1,"capabilities":["flow_bind"]}
(module
  (import "sfc" "claim" (func (param i32 i64 i64 i64) (result i32)))
  (memory (export "memory") 4097 4097)
  (func (export "sfc_abi_v1"))
  (func (export "sfc_configure") (param i32 i32) (result i32) (i32.const 0))
  (func (export "sfc_process") (param i32)))
