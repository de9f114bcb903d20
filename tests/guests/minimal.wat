;; A balancer in the text format, by the canonical ABI, that always answers "no opinion".
;; `;;?NAME` lines are switched on by build.sh for the file NAME.wasm; `;;!NAME` at the end of a line
;; switches that line off for it.
(module
  ;;?forbidden-import (import "wasi:filesystem/preopens@0.2.0" "get-directories" (func (param i32)))
  ;;?newer-import (import "edgeweir:plugin/host-files@1.1.0" "read" (func (param i32)))
  (memory (export "memory") 3) ;;!big-memory
  ;;?big-memory (memory (export "memory") 1024)
  ;;?big-table (table 10000000 funcref)

  ;; What describe returns: (name, version, config-schema), each pointer and length.
  (data (i32.const 16) "minimal1.0.0")
  (data (i32.const 64) "\10\00\00\00\07\00\00\00\17\00\00\00\05\00\00\00\00\00\00\00\00\00\00\00")
  ;; From 128 on: 32 bytes of zero, which is none, ok and an empty list at once.
  (global $free (mut i32) (i32.const 4096))

  ;; Arguments are put one after the other, up to the end of memory (then: a trap); each return of a
  ;; hook gives all of it back.
  (func (export "cabi_realloc") (param $old i32) (param $had i32) (param $align i32) (param $want i32) (result i32)
    (local $at i32)
    (local.set $at
      (i32.and
        (i32.add (global.get $free) (i32.sub (local.get $align) (i32.const 1)))
        (i32.sub (i32.const 0) (local.get $align))))
    (global.set $free (i32.add (local.get $at) (local.get $want)))
    (if (i32.gt_u (global.get $free) (i32.const 196608)) (then (unreachable)))
    (local.get $at))
  (func $clear (global.set $free (i32.const 4096)))

  ;;?start-loop (func $start (loop $again (br $again)))
  ;;?start-loop (start $start)
  ;;?start-trap (func $start (unreachable))
  ;;?start-trap (start $start)

  (func (export "edgeweir:plugin/lifecycle@1.0.0#describe") (result i32) (i32.const 64)) ;;!missing-lifecycle
  (func (export "edgeweir:plugin/lifecycle@1.0.0#init") (param i32 i32 i32 i32 i32 i32 i32) (result i32) (call $clear) (i32.const 128)) ;;!missing-lifecycle
  (func (export "edgeweir:plugin/lifecycle@1.0.0#snapshot") (result i32) (i32.const 128)) ;;!missing-lifecycle
  (func (export "edgeweir:plugin/lifecycle@1.0.0#probe") (result i32) (i32.const 128)) ;;!missing-lifecycle
  (func (export "edgeweir:plugin/balancer@1.0.0#pick-upstream") (param i64 i64 i32 i32 i32 i32 i32 i32 i32) (result i32) (call $clear) (i32.const 128)) ;;!no-hook
  (func (export "edgeweir:plugin/balancer@1.0.0#pick-worker") (param i64 i32 i32 i32 i32 i32) (result i32) (call $clear) (i32.const 128)) ;;!no-hook ;;!missing-function
)
