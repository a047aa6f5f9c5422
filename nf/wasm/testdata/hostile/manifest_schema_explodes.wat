;; A small schema that takes 2^30 steps.
;; expect: refused: config_schema takes too many steps
(module
  (@custom "sfc.manifest" "{\"name\":\"manifest-schema-explodes\",\"version\":\"1.0.0\",\"abi\":1,\"config_schema\":{\"$ref\":\"#/$defs/d30\",\"$defs\":{\"d0\":{},\"d1\":{\"allOf\":[{\"$ref\":\"#/$defs/d0\"},{\"$ref\":\"#/$defs/d0\"}]},\"d2\":{\"allOf\":[{\"$ref\":\"#/$defs/d1\"},{\"$ref\":\"#/$defs/d1\"}]},\"d3\":{\"allOf\":[{\"$ref\":\"#/$defs/d2\"},{\"$ref\":\"#/$defs/d2\"}]},\"d4\":{\"allOf\":[{\"$ref\":\"#/$defs/d3\"},{\"$ref\":\"#/$defs/d3\"}]},\"d5\":{\"allOf\":[{\"$ref\":\"#/$defs/d4\"},{\"$ref\":\"#/$defs/d4\"}]},\"d6\":{\"allOf\":[{\"$ref\":\"#/$defs/d5\"},{\"$ref\":\"#/$defs/d5\"}]},\"d7\":{\"allOf\":[{\"$ref\":\"#/$defs/d6\"},{\"$ref\":\"#/$defs/d6\"}]},\"d8\":{\"allOf\":[{\"$ref\":\"#/$defs/d7\"},{\"$ref\":\"#/$defs/d7\"}]},\"d9\":{\"allOf\":[{\"$ref\":\"#/$defs/d8\"},{\"$ref\":\"#/$defs/d8\"}]},\"d10\":{\"allOf\":[{\"$ref\":\"#/$defs/d9\"},{\"$ref\":\"#/$defs/d9\"}]},\"d11\":{\"allOf\":[{\"$ref\":\"#/$defs/d10\"},{\"$ref\":\"#/$defs/d10\"}]},\"d12\":{\"allOf\":[{\"$ref\":\"#/$defs/d11\"},{\"$ref\":\"#/$defs/d11\"}]},\"d13\":{\"allOf\":[{\"$ref\":\"#/$defs/d12\"},{\"$ref\":\"#/$defs/d12\"}]},\"d14\":{\"allOf\":[{\"$ref\":\"#/$defs/d13\"},{\"$ref\":\"#/$defs/d13\"}]},\"d15\":{\"allOf\":[{\"$ref\":\"#/$defs/d14\"},{\"$ref\":\"#/$defs/d14\"}]},\"d16\":{\"allOf\":[{\"$ref\":\"#/$defs/d15\"},{\"$ref\":\"#/$defs/d15\"}]},\"d17\":{\"allOf\":[{\"$ref\":\"#/$defs/d16\"},{\"$ref\":\"#/$defs/d16\"}]},\"d18\":{\"allOf\":[{\"$ref\":\"#/$defs/d17\"},{\"$ref\":\"#/$defs/d17\"}]},\"d19\":{\"allOf\":[{\"$ref\":\"#/$defs/d18\"},{\"$ref\":\"#/$defs/d18\"}]},\"d20\":{\"allOf\":[{\"$ref\":\"#/$defs/d19\"},{\"$ref\":\"#/$defs/d19\"}]},\"d21\":{\"allOf\":[{\"$ref\":\"#/$defs/d20\"},{\"$ref\":\"#/$defs/d20\"}]},\"d22\":{\"allOf\":[{\"$ref\":\"#/$defs/d21\"},{\"$ref\":\"#/$defs/d21\"}]},\"d23\":{\"allOf\":[{\"$ref\":\"#/$defs/d22\"},{\"$ref\":\"#/$defs/d22\"}]},\"d24\":{\"allOf\":[{\"$ref\":\"#/$defs/d23\"},{\"$ref\":\"#/$defs/d23\"}]},\"d25\":{\"allOf\":[{\"$ref\":\"#/$defs/d24\"},{\"$ref\":\"#/$defs/d24\"}]},\"d26\":{\"allOf\":[{\"$ref\":\"#/$defs/d25\"},{\"$ref\":\"#/$defs/d25\"}]},\"d27\":{\"allOf\":[{\"$ref\":\"#/$defs/d26\"},{\"$ref\":\"#/$defs/d26\"}]},\"d28\":{\"allOf\":[{\"$ref\":\"#/$defs/d27\"},{\"$ref\":\"#/$defs/d27\"}]},\"d29\":{\"allOf\":[{\"$ref\":\"#/$defs/d28\"},{\"$ref\":\"#/$defs/d28\"}]},\"d30\":{\"allOf\":[{\"$ref\":\"#/$defs/d29\"},{\"$ref\":\"#/$defs/d29\"}]}}}}")
  (memory (export "memory") 4097 4097)
  (func (export "sfc_abi_v1"))
  (func (export "sfc_configure") (param $ptr i32) (param $len i32) (result i32)
    (i32.const 0))
  (func (export "sfc_process") (param $n i32)
    (local $d i32) (local $end i32)
    (local.set $d (i32.const 0x01001000))
    (local.set $end (i32.add (local.get $d) (i32.shl (local.get $n) (i32.const 6))))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $d) (local.get $end)))
      (i32.store8 offset=40 (local.get $d) (i32.const 2))
      (local.set $d (i32.add (local.get $d) (i32.const 64)))
      (br $next)))))
