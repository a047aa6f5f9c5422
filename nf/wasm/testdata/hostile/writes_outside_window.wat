;; Stores below the window, all over it and past the end of memory.
;; expect: fault: trap
(module
  (@custom "sfc.manifest" "{\"name\":\"writes-outside-window\",\"version\":\"1.0.0\",\"abi\":1}")
  (memory (export "memory") 4097 4097)
  (func (export "sfc_abi_v1"))
  (func (export "sfc_configure") (param $ptr i32) (param $len i32) (result i32)
    (i32.const 0))
  (func (export "sfc_process") (param $n i32)
    (i64.store (i32.const 0x00000000) (i64.const -1)) ;; below the window
    (i64.store (i32.const 0x00fffff8) (i64.const -1))
    (i64.store (i32.const 0x01000000) (i64.const -1)) ;; control page
    (i64.store (i32.const 0x01ffff00) (i64.const -1)) ;; nothing there
    (i64.store (i32.const 0x07fffff8) (i64.const -1)) ;; past the frames
    (i64.store (i32.const 0x0ffffff8) (i64.const -1)) ;; past the flow state
    (i64.store (i32.shl (memory.size) (i32.const 16)) (i64.const -1))
    (i64.store (i32.const 0xfffffff8) (i64.const -1))))
