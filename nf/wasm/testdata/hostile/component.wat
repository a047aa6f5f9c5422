;; A WebAssembly component.
;; expect: refused: the module is a WebAssembly component
(component)
