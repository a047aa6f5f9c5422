package bpf

import "unsafe"

// flagAt returns the 32-bit word at an offset of memory that a program writes.
func flagAt(mem []byte, at int) *uint32 { return (*uint32)(unsafe.Pointer(&mem[at : at+4][0])) }
