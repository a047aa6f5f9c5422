;; Copies data over the descriptors with memory.init, which no check before the run can see.
;; expect: drop: no_verdict
(module
  (@custom "sfc.manifest" "{\"name\":\"slides-through-window\",\"version\":\"1.0.0\",\"abi\":1}")
  (memory (export "memory") 4097 4097)
  (func (export "sfc_abi_v1"))
  (func (export "sfc_configure") (param $ptr i32) (param $len i32) (result i32)
    (i32.const 0))
  (func (export "sfc_process") (param $n i32)
    (memory.init $evil (i32.const 0x01001000) (i32.const 0) (i32.const 48)))
  (data $evil "\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff"))
