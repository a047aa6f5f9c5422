;; Calls itself until the stack is gone.
;; expect: fault: trap
(module
  (@custom "sfc.manifest" "{\"name\":\"deep-recursion\",\"version\":\"1.0.0\",\"abi\":1}")
  (memory (export "memory") 4097 4097)
  (func (export "sfc_abi_v1"))
  (func (export "sfc_configure") (param $ptr i32) (param $len i32) (result i32)
    (i32.const 0))
  (func (export "sfc_process") (param $n i32)
    (drop (call $deeper (i32.const 0))))
  (func $deeper (param $n i32) (result i32)
    (i32.add (local.get $n) (call $deeper (i32.add (local.get $n) (i32.const 1))))))
