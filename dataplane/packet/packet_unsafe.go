package packet

import "unsafe"

// The sizes are part of the ABI: fail the build when a field moves them.
var (
	_ [DescSize - unsafe.Sizeof(Desc{})]byte
	_ [unsafe.Sizeof(Desc{}) - DescSize]byte
	_ [MetaSize - unsafe.Sizeof(Meta{})]byte
	_ [unsafe.Sizeof(Meta{}) - MetaSize]byte
)

// MetaAt returns the metadata in front of the frame at byte offset pos of
// region. It panics when pos-MetaSize is outside region. The pointer aliases
// region and lives as long.
func MetaAt(region []byte, pos int) *Meta {
	return (*Meta)(unsafe.Pointer(&region[pos-MetaSize : pos][0]))
}

// DescsAt returns the descriptor array at the start of mem, which must hold
// BurstSize of them and be 64-byte aligned.
func DescsAt(mem []byte) *[BurstSize]Desc {
	return (*[BurstSize]Desc)(unsafe.Pointer(&mem[: BurstSize*DescSize : BurstSize*DescSize][0]))
}
