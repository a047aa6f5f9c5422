;; Logs one line after the other and never stops.
;; expect: fault: budget
(module
  (@custom "sfc.manifest" "{\"name\":\"logs-without-end\",\"version\":\"1.0.0\",\"abi\":1,\"capabilities\":[\"log\"]}")
  (import "sfc" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 4097 4097)
  (func (export "sfc_abi_v1"))
  (func (export "sfc_configure") (param $ptr i32) (param $len i32) (result i32)
    (i32.const 0))
  (func (export "sfc_process") (param $n i32)
    (loop $again
      (call $log (i32.const 1) (i32.const 0x10000000) (i32.const 5))
      (br $again)))
  (data (i32.const 0x10000000) "again"))
