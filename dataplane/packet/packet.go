// Package packet holds what every part of the data plane agrees on: the size
// of a burst and of a chunk, the frame, its metadata and descriptor, the
// verdict and the reason of a drop. It knows nothing of sockets or chains.
package packet

const (
	// BurstSize is the most packets a worker handles per turn. It bounds
	// latency and lets every per-burst array have a fixed size.
	BurstSize = 64

	// ChunkSize is the size in bytes of one buffer of the frame region (a
	// UMEM chunk). Power of two.
	ChunkSize = 2048

	// Headroom is the number of bytes in front of a received frame: the
	// kernel's XDP_PACKET_HEADROOM. The last [MetaSize] of them carry [Meta].
	Headroom = 256

	// MaxFrame is the longest frame in bytes, Ethernet header included and
	// FCS not, that fits a chunk behind the headroom.
	MaxFrame = ChunkSize - Headroom

	// MinFrame is the shortest frame in bytes the engine sends: an Ethernet
	// header. (Links pad to 60 bytes themselves.)
	MinFrame = 14
)

// Frame names one frame inside a frame region. The worker that holds it owns
// its chunk; only one owner exists at any time.
type Frame struct {
	// Chunk is the byte offset of the chunk in the region, a multiple of
	// ChunkSize.
	Chunk uint32
	// Off is the byte offset of the frame's first byte in the chunk.
	Off uint16
	// Len is the length of the frame in bytes.
	Len uint16
}

// Pos returns the byte offset of the frame's first byte in the region.
func (f Frame) Pos() int { return int(f.Chunk) + int(f.Off) }

// Bytes returns the frame's bytes; the slice aliases region.
func (f Frame) Bytes(region []byte) []byte {
	p := f.Pos()
	return region[p : p+int(f.Len) : int(f.Chunk)+ChunkSize]
}
